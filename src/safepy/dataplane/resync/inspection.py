"""What stands at some names, as digests that two nodes can compare (protocol 8.6, F51).

The same function runs on both nodes at the same place in the order of operations, so an
application may go on writing: what differs then, differs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from stat import S_ISDIR, S_ISLNK, S_ISREG

import msgspec
from xxhash import xxh3_128_digest

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.tree import Path

#: (name in the directory, offset and length of the content to compare; length 0: none of it)
Item = tuple[bytes, int, int]
#: (attributes, content); both empty if there is no such name.
Digest = tuple[bytes, bytes]

ABSENT: Digest = (b"", b"")
#: Of one inspection together: both nodes' loops stand still meanwhile.
ITEMS_MAX = 64
BYTES_MAX = 1 << 20


def inspect(root_fd: int, path: Path, items: Sequence[Item], seed: int, acl: bool) -> list[Digest]:
    """Digests of names in one directory. `seed` is random for each run: nobody can prepare
    contents that collide. Raises OSError when the disk fails, not when something is absent."""
    dir_fd = trees.open_or_none(root_fd, path)
    if dir_fd is None:
        return [ABSENT for _ in items]
    try:
        return [_digest(dir_fd, item, seed, acl) for item in items]
    finally:
        os.close(dir_fd)


def _digest(dir_fd: int, item: Item, seed: int, acl: bool) -> Digest:
    name, offset, length = item
    found = trees.status(dir_fd, name)
    if found is None:
        return ABSENT
    mode = found.st_mode
    link = os.readlink(name, dir_fd=dir_fd) if S_ISLNK(mode) else b""
    size = found.st_size if S_ISREG(mode) else 0
    links = 0 if S_ISDIR(mode) else found.st_nlink
    told = (mode, found.st_uid, found.st_gid, size, found.st_mtime_ns, found.st_rdev, links, link)
    extra = trees.read_xattrs(dir_fd, name, mode, acl)
    attributes = xxh3_128_digest(msgspec.msgpack.encode((told, extra)), seed=seed)
    content = b""
    if length and S_ISREG(mode):
        fd = trees.open_seen(dir_fd, name, found)
        try:
            content = xxh3_128_digest(os.pread(fd, length, offset), seed=seed)
        finally:
            os.close(fd)
    return attributes, content


def further_names(
    root_fd: int, path: Path, after: bytes, upto: bytes, known: Sequence[bytes], limit: int
) -> list[bytes]:
    """Names of a directory in (`after`, `upto`] (empty `upto`: to the end) that are not in `known`;
    at most `limit`. No names when there is no such directory: each of `known` is absent then."""
    dir_fd = trees.open_or_none(root_fd, path)
    if dir_fd is None:
        return []
    try:
        names = trees.names_in(dir_fd)
    finally:
        os.close(dir_fd)
    there = set(known)
    more = [n for n in names if n > after and (not upto or n <= upto) and n not in there]
    return sorted(more)[:limit]
