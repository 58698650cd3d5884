"""Directories in portions: bounded, complete while names come and go, from any position."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.storage.listing import PORTION_BYTES, Entry, Listing

#: The shortest record of the kernel.
RECORD_BYTES = 24


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for number in range(5000):
        (tmp_path / f"n{number}").touch()
    yield tmp_path


def opened(folder: Path) -> Listing:
    return Listing(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def rest(listing: Listing, position: int) -> list[Entry]:
    seen: list[Entry] = []
    while portion := listing.portion(position):
        assert len(portion) <= PORTION_BYTES // RECORD_BYTES
        seen += portion
        position = portion[-1][3]
    return seen


def test_what_was_there_all_the_time_is_listed_once(folder: Path) -> None:
    listing = opened(folder)
    seen: list[bytes] = []
    position, round_ = 0, 0
    while portion := listing.portion(position):
        # As the kernel does when its caller has room for less than a portion.
        taken = portion[: max(1, len(portion) // 3)] if round_ % 2 else portion
        seen += [name for name, *_ in taken]
        position = taken[-1][3]
        for number in range(20):
            (folder / f"new{round_}-{number}").touch()
            (folder / f"n{4000 + round_ * 20 + number}").unlink(missing_ok=True)
        round_ += 1
    listing.close()
    assert len(seen) == len(set(seen))
    assert {b"n%d" % number for number in range(4000)} | {b".", b".."} <= set(seen)


def test_any_position_can_be_gone_back_to(folder: Path) -> None:
    listing, other = opened(folder), opened(folder)
    whole = rest(listing, 0)
    for index in (0, 1, 700, 2500, 4999, 5001):
        assert rest(listing, whole[index][3]) == whole[index + 1 :]
        assert rest(other, whole[index][3]) == whole[index + 1 :]
    assert rest(listing, 0) == whole
    for each in (listing, other):
        each.close()


def test_from_the_start_it_is_read_anew(tmp_path: Path) -> None:
    listing = opened(tmp_path)
    assert len(rest(listing, 0)) == 2
    (tmp_path / "new").touch()
    assert {name for name, *_ in listing.portion(0)} == {b".", b"..", b"new"}
    (tmp_path / "new").unlink()
    assert len(rest(listing, 0)) == 2
    listing.close()


def test_inode_numbers_and_types_are_those_of_stat(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    listing = opened(tmp_path)
    for name, inode, kind, _ in rest(listing, 0):
        status = os.lstat(os.fsencode(tmp_path) + b"/" + name)
        assert (inode, kind) == (status.st_ino, status.st_mode >> 12)
    listing.close()


def test_a_removed_directory_and_a_closed_listing(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    listing = opened(gone)
    gone.rmdir()
    with pytest.raises(OSError) as caught:
        listing.portion(0)
    assert caught.value.errno == errno.ENOENT
    listing.close()
    listing.close()
    with pytest.raises(OSError) as caught:
        listing.portion(0)
    assert caught.value.errno == errno.EBADF
