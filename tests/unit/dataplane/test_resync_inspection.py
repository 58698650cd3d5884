"""What a comparison in use says of names that vanish under it, and of what a disk refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from safepy.dataplane.resync import inspection
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.inspection import ABSENT, UNREADABLE, Digest


def looked_at(tree: Path) -> list[Digest]:
    root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return inspection.inspect(root_fd, (), [(b"one", 0, 10), (b"two", 0, 10)], 7, acl=True)
    finally:
        os.close(root_fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"content")
    return tmp_path


@pytest.mark.parametrize("becomes", ["nothing", "another", "link"])
@pytest.mark.parametrize("before", ["read_xattrs", "open_seen"])
def test_a_file_that_vanishes_while_it_is_looked_at_is_absent(
    tree: Path, monkeypatch: pytest.MonkeyPatch, before: str, becomes: str
) -> None:
    """Beside the loop that can happen at any moment; it must not end the whole comparison."""
    whole = looked_at(tree)
    real = getattr(trees, before)

    def vanishes(dir_fd: int, name: bytes, *more: object) -> object:
        if name == b"one":
            os.rename(tree / "one", tree / "moved")
            if becomes == "another":
                (tree / "one").write_bytes(b"another")
            elif becomes == "link":
                os.symlink("nowhere", tree / "one")
        return real(dir_fd, name, *more)

    monkeypatch.setattr(trees, before, vanishes)
    one, two = looked_at(tree)
    assert one == ABSENT or (before == "read_xattrs" and becomes != "nothing")
    assert two == whole[1]


@pytest.mark.parametrize("what", ["open_seen", "read_xattrs", "status"])
def test_what_the_disk_refuses_keeps_nobody_else_from_being_compared(
    tree: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    whole = looked_at(tree)
    real = getattr(trees, what)

    def refuses(dir_fd: int, name: bytes, *more: object) -> object:
        if name == b"one":
            raise OSError(errno.EIO, "Input/output error")
        return real(dir_fd, name, *more)

    monkeypatch.setattr(trees, what, refuses)
    one, two = looked_at(tree)
    assert UNREADABLE in one and one != whole[0]
    assert two == whole[1]
