"""Zones: every zone has one digest, whatever holes, ends and ranges there are."""

import os
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.dataplane.resync.zones import (
    HOLE,
    ZONE_BYTES,
    differing_runs,
    is_sparse,
    ranges_to_compare,
    segments,
    zone_digests,
    zones_in,
)

SIZE = st.integers(0, 12 * ZONE_BYTES)
EXTENTS = st.none() | st.lists(st.tuples(st.integers(0, 13), st.integers(1, 4)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(SIZE, SIZE, SIZE, EXTENTS, st.lists(st.integers(0, 11), max_size=6))
def test_comparing_then_copying_the_runs_makes_equal(size, other, cut, extents, written):
    if extents is not None:
        extents = [(at * ZONE_BYTES, (at + n) * ZONE_BYTES) for at, n in extents]
    with tempfile.TemporaryFile() as ours, tempfile.TemporaryFile() as theirs:
        for file, end in ((ours, size), (theirs, other)):
            for zone in written:
                os.pwrite(file.fileno(), b"same" * 9, zone * ZONE_BYTES + 5)
            os.ftruncate(file.fileno(), end)
        for zone in written[::2]:  # differs where it is marked
            if extents is None or any(s <= zone * ZONE_BYTES < e for s, e in extents):
                os.pwrite(ours.fileno(), b"other", zone * ZONE_BYTES + 7)
                os.ftruncate(ours.fileno(), size)
        a, b = ours.fileno(), theirs.fileno()
        ranges = ranges_to_compare(extents, other, size)
        assert all(s % ZONE_BYTES == 0 and s < e <= size for s, e in ranges)
        digests = []
        for fd, limit in ((a, size), (b, min(size, other))):
            digests.append(list(zone_digests(fd, ranges, limit, is_sparse(os.fstat(fd)))))
            assert len(digests[-1]) == zones_in(ranges)
        shrunk = list(zone_digests(a, ranges, max(size, cut), False))
        assert len(shrunk) == zones_in(ranges)
        for start, end in differing_runs(ranges, digests[0], b"".join(digests[1])):
            at = start
            for first, last, is_data in segments(a, start, end, True):
                assert first == at < last
                at = last
                os.pwrite(b, os.pread(a, last - first, first), first)
                assert is_data or not any(os.pread(a, last - first, first))
            assert at == end
        os.ftruncate(b, size)
        if extents is None:
            assert os.pread(a, size, 0) == os.pread(b, size, 0)
        else:
            for s, e in ranges:
                assert os.pread(a, e - s, s) == os.pread(b, e - s, s)


def test_a_hole_is_not_a_zone_of_zeros():
    with tempfile.TemporaryFile() as file:
        fd = file.fileno()
        os.pwrite(fd, bytes(ZONE_BYTES), 2 * ZONE_BYTES)
        os.ftruncate(fd, 5 * ZONE_BYTES)
        digests = list(zone_digests(fd, [(0, 5 * ZONE_BYTES)], 5 * ZONE_BYTES, True))
        assert [d == HOLE for d in digests] == [True, True, False, True, True]
