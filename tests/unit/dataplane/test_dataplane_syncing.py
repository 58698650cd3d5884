"""Syncs beside the loop: several at once, their errors, and the end."""

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
from safepy.dataplane.syncing import SYNC_THREADS, Syncer
from safepy.host.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def syncer(loop: Loop) -> Iterator[Syncer]:
    made = Syncer(loop, "test")
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


@pytest.mark.parametrize("op", [Fsync(2, True), Fsync(2, False), Fsync(0, False)])
def test_what_is_asked_for_is_done_and_told_later(
    loop: Loop, syncer: Syncer, tmp_path: Path, op: Fsync
) -> None:
    told: list[int] = []
    fd = opened(tmp_path)
    syncer.start(op, fd, told.append)
    time.sleep(0.02)
    assert told == [], "only the loop tells"
    until(loop, lambda: told == [0])
    with pytest.raises(OSError):
        os.fstat(fd)


def test_several_are_under_way_at_once_and_the_loop_goes_on(
    loop: Loop, syncer: Syncer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(SYNC_THREADS + 1)

    def slow(op: Fsync, fd: int) -> None:
        os.close(fd)
        together.wait(10)
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(syncing, "run_sync", slow)
    told: list[int] = []
    for _ in range(SYNC_THREADS):
        syncer.start(Fsync(2, True), opened(tmp_path), told.append)
    loop.turn(0.05)
    assert told == []
    together.wait(10)
    until(loop, lambda: told == [errno.EIO] * SYNC_THREADS)


def test_what_was_begun_is_told_after_the_end(loop: Loop, tmp_path: Path) -> None:
    syncer = Syncer(loop, "ending")
    told: list[int] = []
    for _ in range(3 * SYNC_THREADS):
        syncer.start(Fsync(2, True), opened(tmp_path), told.append)
    syncer.close()
    until(loop, lambda: told == [0] * 3 * SYNC_THREADS)
    until(loop, lambda: not any("ending" in thread.name for thread in threading.enumerate()))
