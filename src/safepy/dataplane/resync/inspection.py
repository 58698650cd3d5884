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
#: In place of a digest: the disk cannot tell. Shorter than any digest.
UNREADABLE = b"?"
#: Of one inspection together: both nodes' loops stand still meanwhile.
ITEMS_MAX = 64
BYTES_MAX = 1 << 20


def inspect(root_fd: int, path: Path, items: Sequence[Item], seed: int, acl: bool) -> list[Digest]:
    """Digests of names in one directory. `seed` is random for each run: nobody can prepare
    contents that collide. What the disk refuses is `UNREADABLE`, one name does not keep the others
    from being compared. Raises OSError when the directory cannot be opened for another reason than
    being absent."""
    dir_fd = trees.open_or_none(root_fd, path)
    if dir_fd is None:
        return [ABSENT for _ in items]
    try:
        return [_digest(dir_fd, item, seed, acl) for item in items]
    finally:
        os.close(dir_fd)


def _digest(dir_fd: int, item: Item, seed: int, acl: bool) -> Digest:
    name, _, length = item
    try:
        found = trees.status(dir_fd, name)
        if found is None:
            return ABSENT
        attributes = _attributes(dir_fd, name, found, seed, acl)
    except OSError as error:
        # Beside the loop it may vanish at any moment.
        return ABSENT if error.errno in trees.GONE else (UNREADABLE, UNREADABLE)
    if not length or not S_ISREG(found.st_mode):
        return attributes, b""
    try:
        return attributes, _content(dir_fd, item, found, seed)
    except OSError as error:
        return ABSENT if error.errno in trees.GONE else (attributes, UNREADABLE)


def _attributes(dir_fd: int, name: bytes, found: os.stat_result, seed: int, acl: bool) -> bytes:
    mode = found.st_mode
    link = os.readlink(name, dir_fd=dir_fd) if S_ISLNK(mode) else b""
    size = found.st_size if S_ISREG(mode) else 0
    links = 0 if S_ISDIR(mode) else found.st_nlink
    told = (mode, found.st_uid, found.st_gid, size, found.st_mtime_ns, found.st_rdev, links, link)
    extra = trees.read_xattrs(dir_fd, name, mode, acl)
    return xxh3_128_digest(msgspec.msgpack.encode((told, extra)), seed=seed)


def _content(dir_fd: int, item: Item, found: os.stat_result, seed: int) -> bytes:
    name, offset, length = item
    fd = trees.open_seen(dir_fd, name, found)
    try:
        return xxh3_128_digest(os.pread(fd, length, offset), seed=seed)
    finally:
        os.close(fd)


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
