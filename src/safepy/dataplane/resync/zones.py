"""Content of files as zones of 128 KiB: digests to compare, segments of data and holes.

A zone without any data (hole, or beyond the end of the file) has the digest HOLE, which no
content has: comparing costs no reading of holes, and a hole on one side against zeros on the
other counts as a difference, so holes stay holes and reserved zeros stay reserved.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence

from xxhash import xxh3_128_digest

ZONE_BYTES = 128 * 1024
DIGEST_BYTES = 16
HOLE = bytes(DIGEST_BYTES)
_READ_BYTES = 8 * ZONE_BYTES


def ranges_to_compare(
    extents: Iterable[tuple[int, int]] | None, target_size: int, source_size: int
) -> list[tuple[int, int]]:
    """Which ranges source and target compare; both compute the same from the same numbers.

    Starts are zone-aligned, ends too or the end of the source's file. What the source has
    beyond the target's end always belongs to it.
    """
    if extents is None:
        return [(0, source_size)] if source_size else []
    ranges = [(start, min(end, source_size)) for start, end in extents if start < source_size]
    if target_size < source_size:
        tail = target_size - target_size % ZONE_BYTES
        ranges = [(start, min(end, tail)) for start, end in ranges if start < tail]
        ranges.append((tail, source_size))
    return ranges


def joined(
    one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """Both sets of extents as one: whole zones, sorted, none touching another."""
    result: list[tuple[int, int]] = []
    for start, end in sorted([*one, *other]):
        start -= start % ZONE_BYTES
        end = -(-end // ZONE_BYTES) * ZONE_BYTES
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def zones_in(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(-(-(end - start) // ZONE_BYTES) for start, end in ranges)


def is_sparse(status: os.stat_result) -> bool:
    """Whether the file may have holes. (Compressing file systems cost a few seeks more.)"""
    return status.st_blocks * 512 < status.st_size


def zone_digests(
    fd: int, ranges: Iterable[tuple[int, int]], size: int, sparse: bool, seed: int = 0
) -> Iterator[bytes]:
    """The digest of every zone of `ranges`, reading the file as if it ended at `size`.

    `seed` is a secret of both nodes, chosen for one synchronisation: without it nobody can
    prepare two contents with the same digest.
    A file that is shorter meanwhile gives HOLE for what is not there.
    """
    for start, end in ranges:
        at = start
        while at < end:
            if sparse and at < size:
                data_at = _next_data(fd, at)
                holes = (min(data_at, size, end) - at) // ZONE_BYTES
                if data_at >= min(size, end):
                    holes = -(-(min(size, end) - at) // ZONE_BYTES)
                for _ in range(holes):
                    yield HOLE
                at += holes * ZONE_BYTES
                if holes:
                    continue
            want = min(end, size, at + (ZONE_BYTES if sparse else _READ_BYTES)) - at
            data = memoryview(os.pread(fd, want, at)) if want > 0 else memoryview(b"")
            if not data:
                for _ in range(zones_in([(at, end)])):
                    yield HOLE
                break
            for zone in range(0, len(data), ZONE_BYTES):
                yield xxh3_128_digest(data[zone : zone + ZONE_BYTES], seed)
            at += -(-len(data) // ZONE_BYTES) * ZONE_BYTES


def segments(fd: int, start: int, end: int, sparse: bool) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is data) pieces of a range, in order."""
    at = start
    while at < end:
        data_at = min(end, _next_data(fd, at)) if sparse else at
        if data_at > at:
            yield at, data_at, False
            at = data_at
            continue
        hole_at = min(end, _next_hole(fd, at)) if sparse else end
        yield at, hole_at, True
        at = hole_at


def differing_runs(
    ranges: Iterable[tuple[int, int]], ours: bytes, theirs: bytes
) -> list[tuple[int, int]]:
    """The ranges whose digests differ, neighbours joined."""
    runs: list[tuple[int, int]] = []
    index = 0
    for start, end in ranges:
        for at in range(start, end, ZONE_BYTES):
            if ours[index : index + DIGEST_BYTES] != theirs[index : index + DIGEST_BYTES]:
                stop = min(at + ZONE_BYTES, end)
                if runs and runs[-1][1] == at:
                    runs[-1] = (runs[-1][0], stop)
                else:
                    runs.append((at, stop))
            index += DIGEST_BYTES
    return runs


_NO_MORE_DATA = 1 << 63


def _next_data(fd: int, at: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return _NO_MORE_DATA


def _next_hole(fd: int, at: int) -> int:
    try:
        return max(os.lseek(fd, at, os.SEEK_HOLE), at + 1)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return _NO_MORE_DATA
