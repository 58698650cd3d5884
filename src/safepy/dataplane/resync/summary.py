"""Digests of directories: both nodes make their own, and only what differs is listed.

The names of a directory in their order are cut into segments where a name's hash says so, which
is at the same names on both nodes, whatever is missing between them. So one new file in a
directory of a million costs a few hundred names, not all.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISLNK, S_ISREG

import msgspec
from xxhash import xxh3_64_intdigest, xxh3_128

from safepy.core.replica.marks import Extents
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.memory import Memories, Memory
from safepy.dataplane.resync.messages import Entry
from safepy.dataplane.resync.zones import is_sparse

#: A segment ends after about so many names.
SEGMENT_NAMES = 256
#: The content of larger files is compared piecemeal, by itself.
CONTENT_BYTES = 1 << 20

#: What one directory's summary is on the wire: the first name of each segment ("" of the first
#: one) and its digest.
Segments = tuple[tuple[bytes, bytes], ...]

_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Seen:
    """One name, as its own node has it."""

    name: bytes
    status: os.stat_result
    link: bytes
    ident: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


def look(dir_fd: int, names: Iterable[bytes], acl: bool) -> Iterator[Seen]:
    """What stands at these names; what vanishes meanwhile is left out."""
    for name in names:
        try:
            found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            link = os.readlink(name, dir_fd=dir_fd) if S_ISLNK(found.st_mode) else b""
        except OSError as error:
            if error.errno not in trees.GONE_OR_OTHER:
                raise
            continue
        ident, xattrs = trees.read_xattrs(dir_fd, name, found.st_mode, acl)
        yield Seen(name, found, link, ident, xattrs)


def entry_of(seen: Seen, ident: bytes, extents: Extents | None, rule: int) -> Entry:
    """As the other node is told of it."""
    found = seen.status
    mode = found.st_mode
    return Entry(
        seen.name,
        mode,
        found.st_uid,
        found.st_gid,
        found.st_size if S_ISREG(mode) else 0,
        trees.clamped(found.st_mtime_ns),
        trees.clamped(found.st_atime_ns),
        found.st_rdev,
        found.st_nlink > 1 and not S_ISDIR(mode),
        seen.link,
        seen.xattrs,
        extents,
        ident,
        rule,
    )


class Summary:
    """One directory's digests in the making.

    `asks` says whether a file must be listed even if it seems equal: then its segment's digest
    equals none. `content`: files up to CONTENT_BYTES count with what is in them; `memory` knows
    that of some, of directory number `tree`.
    """

    def __init__(
        self,
        dir_fd: int,
        seed: int,
        content: bool,
        asks: Callable[[Seen], bool],
        memory: Memory | None = None,
        tree: int = 0,
    ) -> None:
        self._dir_fd = dir_fd
        self._seed = seed
        self._content = content
        self._asks = asks
        self._memory = memory or Memories().attempt()
        self._tree = tree

    def of(self, seen: Iterable[Seen]) -> Iterator[tuple[bytes, bytes]]:
        """The segments of these names, which come in order."""
        seed = self._seed
        start = b""
        digest = xxh3_128(seed=seed)
        empty = True
        for found in seen:
            name = found.name
            if not empty and xxh3_64_intdigest(name, seed) % SEGMENT_NAMES == 0:
                yield start, digest.digest()
                digest = xxh3_128(seed=seed)
                start = name
            digest.update(self._line(found))
            empty = False
        if not empty:
            yield start, digest.digest()

    def _line(self, seen: Seen) -> bytes:
        """All that must be equal of one name."""
        found = seen.status
        mode = found.st_mode
        regular = S_ISREG(mode)
        return _encode(
            (
                seen.name,
                mode,
                found.st_uid,
                found.st_gid,
                found.st_size if regular else 0,
                trees.clamped(found.st_mtime_ns),
                found.st_rdev if S_ISCHR(mode) or S_ISBLK(mode) else 0,
                found.st_nlink > 1 and not S_ISDIR(mode),
                seen.link,
                seen.ident,
                seen.xattrs,
                self._content_of(seen) if regular else b"",
            )
        )

    def _content_of(self, seen: Seen) -> bytes:
        if self._asks(seen):
            return os.urandom(16)
        size = seen.status.st_size
        if not self._content or not 0 < size <= CONTENT_BYTES:
            return b""
        key, ranges = (self._tree, seen.status.st_ino), [(0, size)]
        sparse = is_sparse(seen.status)
        known = None if sparse else self._memory.known(key, ranges, size)
        if known is not None:
            return known
        try:
            fd = trees.open_seen(self._dir_fd, seen.name, seen.status)
        except OSError as error:
            if error.errno not in trees.GONE_OR_OTHER:
                raise
            return os.urandom(16)
        try:
            return self._memory.of(key, fd, ranges, size, sparse)
        finally:
            os.close(fd)


def differing(
    names: Sequence[bytes], ours: Segments, theirs: Segments
) -> Iterator[tuple[int, int, bool]]:
    """(first, last, differs) of index ranges that make up `names`, which are sorted.

    A range is equal when both nodes have one segment there, and it has one digest. Neighbours
    that differ are joined.
    """
    starts = [start for start, _ in ours]
    their_starts = [start for start, _ in theirs]
    cuts = [0, *(bisect_left(names, start) for start in starts[1:]), len(names)]
    pending: int | None = None
    for index, segment in enumerate(ours):
        last_segment = index + 1 == len(ours)
        first = bisect_left(their_starts, starts[index])
        end = len(theirs) if last_segment else bisect_left(their_starts, starts[index + 1])
        equal = theirs[first:end] == (segment,)
        if equal:
            if pending is not None:
                yield pending, cuts[index], True
                pending = None
            yield cuts[index], cuts[index + 1], False
        elif pending is None:
            pending = cuts[index]
    if pending is not None:
        yield pending, len(names), True
