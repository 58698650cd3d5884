"""What the kernel keeps of a mount, so that it does not ask again, and that it is never old."""

from __future__ import annotations

import errno
import os

import pytest
from conftest import Served

pytestmark = pytest.mark.kernel

FILES = 2_000


def test_a_listing_that_is_kept_is_never_old(served: Served) -> None:
    folder = served.directory / "d"
    folder.mkdir()
    names = {f"f{number}" for number in range(50)}
    for name in names:
        (folder / name).write_bytes(b"x")
    for turn in range(20):
        assert set(os.listdir(folder)) == names
        assert set(os.listdir(folder)) == names
        new, gone = f"new{turn}", min(names)
        if turn % 3 == 0:
            (folder / new).write_bytes(b"x")
            names.add(new)
        elif turn % 3 == 1:
            (folder / gone).unlink()
            names.remove(gone)
        else:
            (folder / gone).rename(folder / new)
            names = names - {gone} | {new}
    assert {entry.name for entry in os.scandir(folder)} == names


def test_a_reader_in_the_middle_sees_every_name_that_stayed(served: Served) -> None:
    folder = served.directory / "d"
    folder.mkdir()
    stay = {f"stays{number:04}" for number in range(FILES)}
    go = [f"goes{number:04}" for number in range(FILES // 10)]
    for name in [*stay, *go]:
        (folder / name).touch()
    assert len(os.listdir(folder)) == len(stay) + len(go)  # kept now
    with os.scandir(folder) as slow:
        seen = {next(slow).name for _ in range(100)}
        for name in go:
            (folder / name).unlink()
            (folder / f"new-{name}").touch()
        assert stay <= set(os.listdir(folder))  # another reader makes the kernel read it again
        seen |= {entry.name for entry in slow}
    assert stay <= seen


def test_a_file_without_a_label_says_that_there_are_none(served: Served) -> None:
    """`ls -l` then does not ask for that of any other file, see `operations.py`."""
    path = served.directory / "f"
    path.touch()
    with pytest.raises(OSError) as missing:
        os.getxattr(path, "security.selinux")
    assert missing.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as other:
        os.getxattr(path, "user.nothing")
    assert other.value.errno == errno.ENODATA
