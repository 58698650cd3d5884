from __future__ import annotations

from safepy.fuse.inodes import Directories, Lookups


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


def test_each_open_directory_keeps_its_picture_until_it_is_rewound() -> None:
    names = [(b"a", 1, 8)]
    directories = Directories(lambda handle: list(names))
    first = directories.open()
    assert directories.entries(first, 1, 0) == [(b"a", 1, 8)]
    names.append((b"b", 2, 8))
    assert directories.entries(first, 1, 1) == [(b"a", 1, 8)]
    second = directories.open()
    assert len(directories.entries(second, 1, 0)) == 2
    assert len(directories.entries(first, 1, 0)) == 2
    directories.close(first)
    directories.close(first)
