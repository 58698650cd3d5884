"""What an attempt has read is not read again by the next, unless somebody changed it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from resync_lab import Lab, assert_equal

from safepy.core.replica.marks import FULL
from safepy.dataplane.resync import memory as module
from safepy.dataplane.resync.memory import Memories
from safepy.dataplane.resync.zones import ZONE_BYTES, zone_digests

KEY = (0, 7)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes of what `Memory.of` has read from files."""
    found: list[int] = []

    def counted(fd: int, ranges: list[tuple[int, int]], *rest: object) -> Iterator[bytes]:
        found.append(sum(end - start for start, end in ranges))
        return zone_digests(fd, ranges, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "zone_digests", counted)
    yield found


def test_it_says_what_reading_would_say_or_reads(tmp_path: Path) -> None:
    """Random reads, writes and cuts of one file, against reading it each time."""
    path = tmp_path / "f"
    for seed in range(40):
        rng = random.Random(seed)
        memories = Memories()
        memory = memories.attempt()
        memory.begin(5)
        path.write_bytes(rng.randbytes(rng.randint(1, 5 * ZONE_BYTES)))
        for _ in range(30):
            size = path.stat().st_size
            fd = os.open(path, os.O_RDWR)
            kind = rng.choice(("look", "look", "write", "cut", "send"))
            if kind == "write":
                offset = rng.choice((0, ZONE_BYTES, rng.randint(0, size)))
                piece = rng.randbytes(rng.choice((1, 700, ZONE_BYTES, 2 * ZONE_BYTES, 300_000)))
                memory.writing(KEY, [(offset, offset + len(piece))])
                os.pwrite(fd, piece, offset)
                memory.written(KEY, offset, piece)
            elif kind == "cut":
                memory.writing(KEY, module.EVERYTHING)
                os.ftruncate(fd, rng.randint(1, size + ZONE_BYTES))
            elif kind == "send":
                at = rng.randrange(0, size, ZONE_BYTES)
                memory.read(KEY, at, os.pread(fd, 2 * ZONE_BYTES, at))
            size = os.fstat(fd).st_size
            first = rng.randrange(0, size, ZONE_BYTES)
            last = min(size, first + ZONE_BYTES * rng.randint(1, 4))
            ends = size if rng.random() < 0.7 else last
            ranges = [(first, last)]
            real = b"".join(zone_digests(fd, ranges, ends, False, 5))
            assert memory.of(KEY, fd, ranges, ends, False) == real
            os.close(fd)


def test_what_was_read_is_not_read_again(tmp_path: Path, reads: list[int]) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (3 * ZONE_BYTES + 5))
    size = path.stat().st_size
    memories = Memories()
    for number in range(3):
        memory = memories.attempt()
        memory.begin()
        with path.open("rb") as file:
            memory.of(KEY, file.fileno(), [(0, size)], size, False)
        assert reads == [size], number
    memory.begin(1 << 40)  # another source, another seed
    with path.open("rb") as file:
        memory.of(KEY, file.fileno(), [(0, size)], size, False)
    assert reads == [size, size]


def test_what_changes_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    """Also by a thread of an attempt that is over, which comes late."""
    memories = Memories()
    memory = memories.attempt()
    memory.begin()
    memories.round_begins()
    memory.read(KEY, 0, b"before")
    memories.changed(*KEY)
    assert memory.known(KEY, [(0, 6)], 6) is None
    memory.read(KEY, 0, b"before")
    assert memory.known(KEY, [(0, 6)], 6) is None
    memories.round_begins()
    late, memory = memory, memories.attempt()
    memory.begin()
    late.read(KEY, 0, b"before")
    assert memory.known(KEY, [(0, 6)], 6) is None
    memory.read(KEY, 0, b"after.")
    assert memory.known(KEY, [(0, 6)], 6) is not None


def test_it_is_bounded() -> None:
    memories = Memories(10_000)
    memory = memories.attempt()
    memory.begin()
    for inode in range(1000):
        memory.read((0, inode), 0, b"content")
    known = [memory.known((0, inode), [(0, 7)], 7) is not None for inode in range(1000)]
    assert 20 < sum(known) < 40
    memories.changed(0, 0)
    memory.read((0, 2000), 0, b"content")
    assert memory.known((0, 2000), [(0, 7)], 7) is not None


@pytest.mark.parametrize("copied", [True, False])
def test_a_second_attempt_reads_nothing_that_did_not_change(
    tmp_path: Path, reads: list[int], copied: bool
) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for root in (left,) if copied else (left, right):
        (root / "sub").mkdir(parents=True)
        for number in range(30):
            (root / "sub" / f"small{number}").write_bytes(b"%d" % number * 3000)
        (root / "large").write_bytes(b"L" * (9 << 20) + b"end")
    right.mkdir(exist_ok=True)
    ours, theirs = Memories(), Memories()
    with Lab(left, right, memories=(ours, theirs)) as lab:
        lab.round({b"": FULL})
    first, reads[:] = list(reads), []
    assert copied or sum(first) > 18 << 20
    ours.changed(0, (left / "sub" / "small3").stat().st_ino)
    (left / "sub" / "small3").write_bytes(b"changed since")
    with Lab(left, right, memories=(ours, theirs)) as lab:
        lab.round({b"": FULL})
        lab.source.finish()
    assert_equal(left, right)
    assert sum(reads) < 1 << 20
