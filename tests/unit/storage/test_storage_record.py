"""The generation record survives torn writes and is never taken for new when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.model import Active, Disk, Record
from safepy.storage.record import SLOT_BYTES, RecordFile, show

FIRST = Record(module="web", node="n1", epoch=1, gen="a" * 32, disk=Disk.UPTODATE)
SECOND = Record(module="web", node="n1", epoch=2, gen="b" * 32, active=Active.PRIMARY)
THIRD = Record(module="web", node="n1", epoch=3, history=tuple((n, f"{n:032x}") for n in range(16)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "record"


def test_no_file_is_a_fresh_record(path: Path) -> None:
    assert RecordFile(str(path)).load() == Record()


def test_what_was_saved_last_is_loaded(path: Path) -> None:
    for record in (FIRST, SECOND, THIRD, FIRST):
        RecordFile(str(path)).save(record)
        assert RecordFile(str(path)).load() == record
    assert path.stat().st_size == 2 * SLOT_BYTES
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [0, 7, 100, SLOT_BYTES - 1])
def test_a_torn_write_leaves_the_record_before_it(path: Path, cut: int) -> None:
    file = RecordFile(str(path))
    for record in (FIRST, SECOND, THIRD):
        file.save(record)
    newest = _slot_of(path, b'"epoch":3')
    _tear(path, newest, cut)
    assert file.load() == SECOND
    # The torn slot is the one that is written next: the good one is never at risk.
    file.save(FIRST)
    assert file.load() == FIRST
    _tear(path, newest, cut)
    assert file.load() == SECOND


def test_two_bad_slots_are_a_fault_and_not_a_new_node(path: Path) -> None:
    file = RecordFile(str(path))
    file.save(FIRST)
    file.save(SECOND)
    for slot in (0, 1):
        _tear(path, slot, 50)
    with pytest.raises(LocalFault, match="damaged"):
        file.load()
    with pytest.raises(LocalFault, match="damaged"):
        file.save(THIRD)


def test_an_empty_or_short_file_is_a_fault(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"")
    with pytest.raises(LocalFault, match="damaged"):
        RecordFile(str(path)).load()


def test_every_single_flipped_bit_of_the_newest_is_noticed(path: Path) -> None:
    file = RecordFile(str(path))
    file.save(FIRST)
    file.save(SECOND)
    newest = _slot_of(path, b'"epoch":2')
    good = path.read_bytes()
    for at in range(newest * SLOT_BYTES, (newest + 1) * SLOT_BYTES, 97):
        damaged = bytearray(good)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        assert file.load() == FIRST


def test_a_record_that_does_not_fit_is_refused_and_the_old_one_stays(path: Path) -> None:
    file = RecordFile(str(path))
    file.save(FIRST)
    with pytest.raises(LocalFault, match="fit"):
        file.save(Record(gen="x" * SLOT_BYTES))
    assert file.load() == FIRST


def test_an_error_of_the_disk_is_a_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RecordFile(str(path))
    file.save(FIRST)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LocalFault, match="cannot be written"):
        file.save(SECOND)


def test_shown_as_plain_data() -> None:
    shown = show(THIRD)
    assert shown["epoch"] == 3
    assert shown["disk"] == "UNCONFIGURED"


def _slot_of(path: Path, needle: bytes) -> int:
    data = path.read_bytes()
    found = [n for n in (0, 1) if needle in data[n * SLOT_BYTES : (n + 1) * SLOT_BYTES]]
    assert len(found) == 1
    return found[0]


def _tear(path: Path, slot: int, cut: int) -> None:
    data = bytearray(path.read_bytes())
    start, end = slot * SLOT_BYTES + cut, (slot + 1) * SLOT_BYTES
    data[start:end] = bytes(0x55 for _ in range(end - start))
    path.write_bytes(data)
