"""Syncs beside the loop: by the kernel, by threads where it cannot, and after the end."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safepy.core.replica.ops import Fsync
from safepy.dataplane import syncing
from safepy.dataplane.syncing import Syncer
from safepy.host.loop import Loop
from safepy.storage import aio

FILE_SYNC = Fsync(2, True)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def opened(folder: Path) -> int:
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 10_000)
    return fd


def until(loop: Loop, holds: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < limit_s
        loop.turn(0.1)


def closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def no_thread(op: Fsync, fd: int) -> None:
    raise AssertionError("a thread was used")


def test_the_kernel_syncs_a_file(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "run_sync", no_thread)
    syncer = Syncer(loop, "test")
    told: list[int] = []
    fd = opened(tmp_path)
    syncer.start(FILE_SYNC, fd, told.append)
    assert closed(fd)
    assert told == [], "only in a later turn"
    until(loop, lambda: told == [0])
    syncer.close()


def test_an_error_of_the_disk_is_told(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = aio.KernelSyncs.ended
    monkeypatch.setattr(
        aio.KernelSyncs, "ended", lambda syncs: [(n, errno.EIO) for n, _ in real(syncs)]
    )
    syncer = Syncer(loop, "test")
    told: list[int] = []
    syncer.start(FILE_SYNC, opened(tmp_path), told.append)
    until(loop, lambda: told == [errno.EIO])
    syncer.close()


@pytest.mark.parametrize("where", ["__init__", "submit"])
def test_threads_do_what_the_kernel_does_not_take(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "no")

    monkeypatch.setattr(aio.KernelSyncs, where, refuse)
    syncer = Syncer(loop, "test")
    told: list[int] = []
    fd = opened(tmp_path)
    syncer.start(FILE_SYNC, fd, told.append)
    until(loop, lambda: told == [0])
    assert closed(fd)
    syncer.close()


def test_a_whole_file_system_does_not_keep_the_loop(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def slow(op: Fsync, fd: int) -> None:
        os.close(fd)
        assert may_end.wait(10)
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(syncing, "run_sync", slow)
    syncer = Syncer(loop, "test")
    told: list[int] = []
    syncer.start(Fsync(0, False), opened(tmp_path), told.append)
    loop.turn(0.05)
    assert told == []
    may_end.set()
    until(loop, lambda: told == [errno.EIO])
    syncer.close()


def test_what_is_under_way_at_the_end_is_told_and_leaves_nothing(
    loop: Loop, tmp_path: Path
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    syncer = Syncer(loop, "test")
    told: list[int] = []
    for _ in range(5):
        syncer.start(FILE_SYNC, opened(tmp_path), told.append)
    syncer.close()
    until(loop, lambda: told == [0] * 5)
    assert len(os.listdir("/proc/self/fd")) == before
