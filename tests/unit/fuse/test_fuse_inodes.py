from __future__ import annotations

from safepy.fuse.inodes import Directories, Lookups
from safepy.fuse.replies import DirEntry


def test_a_handle_is_released_with_its_last_lookup() -> None:
    released: list[int] = []
    lookups = Lookups(released.append)
    lookups.add(5)
    lookups.add(5)
    lookups.forget(5, 1)
    assert released == [] and 5 in lookups
    lookups.forget(5, 1)
    assert released == [5] and 5 not in lookups


def test_the_root_is_never_released() -> None:
    released: list[int] = []
    lookups = Lookups(released.append)
    lookups.add(1)
    lookups.forget(1, 7)
    lookups.unused(1)
    assert released == [] and 1 in lookups


def test_a_lookup_that_did_not_arrive_releases_only_what_nobody_holds() -> None:
    released: list[int] = []
    lookups = Lookups(released.append)
    lookups.add(5)
    lookups.unused(5)
    lookups.unused(6)
    assert released == [6]


def test_forgetting_more_than_was_given_releases_once() -> None:
    released: list[int] = []
    lookups = Lookups(released.append)
    lookups.add(5)
    lookups.forget(5, 9)
    lookups.forget(5, 1)
    assert released == [5]


class FakeListing:
    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.closed = 0

    def portion(self, position: int) -> list[DirEntry]:
        return [(b"a", self.handle, 8, position + 1)]

    def close(self) -> None:
        self.closed += 1


def test_each_open_directory_is_read_by_itself_and_closed_once() -> None:
    opened: list[FakeListing] = []

    def open_directory(handle: int) -> FakeListing:
        opened.append(FakeListing(handle))
        return opened[-1]

    directories = Directories(open_directory)
    first, second, unread = directories.open(), directories.open(), directories.open()
    assert opened == []
    assert directories.portion(first, 7, 0) == [(b"a", 7, 8, 1)]
    assert directories.portion(second, 7, 5) == [(b"a", 7, 8, 6)]
    assert directories.portion(first, 7, 1) == [(b"a", 7, 8, 2)]
    assert len(opened) == 2
    for number in (first, first, unread):
        directories.close(number)
    assert [listing.closed for listing in opened] == [1, 0]
