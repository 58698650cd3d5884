"""Groups of a caller, what a stranger's write takes away, and the kernel's idea of now."""

from __future__ import annotations

import os
import stat
import subprocess
import time

import pytest

from safepy.fuse import callers
from safepy.fuse.stamps import StampClock


def status(mode: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, 0, 0, 0, 0, 0, 0))


def test_a_member_by_its_own_or_a_further_group() -> None:
    mine = set(os.getgroups())
    stranger = max(mine | {os.getgid()}) + 1
    assert callers.is_member(os.getpid(), 5, 5)
    assert not callers.is_member(os.getpid(), 5, stranger)
    for group in mine:
        assert callers.is_member(os.getpid(), stranger, group)


def test_a_caller_that_cannot_be_seen_is_a_member_of_nothing_else() -> None:
    assert callers.is_member(0, 7, 7)
    assert not callers.is_member(0, 7, 0)


def test_root_keeps_set_group_id_and_an_ordinary_user_does_not() -> None:
    root = os.geteuid() == 0
    user = subprocess.Popen(["sleep", "60"], user=1001 if root else None)
    try:
        assert callers.keeps_set_id(os.getpid()) == root
        assert not callers.keeps_set_id(user.pid)
        assert not callers.keeps_set_id(0)
    finally:
        user.kill()
        user.wait()


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        (0o2644, 0o644),
        (0o6744, 0o744),
        (0o3660, 0o1660),
        (0o2755, None),  # with group-execute it goes with every stranger's write, like set-user-id
        (0o4755, None),
        (0o644, None),
    ],
)
def test_set_group_id_without_group_execute(mode: int, left: int | None) -> None:
    assert callers.mode_after_strangers_write(status(stat.S_IFREG | mode)) == left
    assert callers.mode_after_strangers_write(status(stat.S_IFIFO | mode)) == left
    assert callers.mode_after_strangers_write(status(stat.S_IFDIR | mode)) is None


def test_now_lies_between_the_stamps_of_what_was_written_before_and_after(tmp_path: object) -> None:
    clock = StampClock()
    for number in range(50):
        before, after = f"{tmp_path}/b{number}", f"{tmp_path}/a{number}"
        open(before, "w").close()
        first_ns = os.stat(before).st_mtime_ns
        now_ns = clock.now_ns()
        open(after, "w").close()
        assert first_ns <= now_ns <= os.stat(after).st_mtime_ns
    assert abs(clock.now_ns() - time.time_ns()) < 10**9
