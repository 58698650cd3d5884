"""K17: after an fsync that failed the kernel has marked the pages clean, and the next one succeeds.
Whoever believes it has lost the data on this copy (I16)."""

from __future__ import annotations

import errno
import os

import pytest
from live_path import make_live_path

from safepy.core.replica.ops import Fsync
from safepy.dataplane import syncing


def answers_of_two_fsyncs(monkeypatch: pytest.MonkeyPatch, forget: bool) -> list[int]:
    """The errno of an fsync that fails, and of one after it, for which the kernel says "fine"."""

    def fail(op: Fsync, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EIO, "lost")

    with make_live_path(max_ops=4) as live:
        live.alone()
        with monkeypatch.context() as broken:
            broken.setattr(syncing, "run_sync", fail)
            live.modify("first", Fsync(0, False))
            live.until(lambda: "first" in live.answers.given)
        if forget:
            live.primary._sync_failed = 0
        live.modify("second", Fsync(0, False))
        live.until(lambda: "second" in live.answers.given)
        return [live.answers.given[name][0] for name in ("first", "second")]


def test_f44_k17_a_failed_fsync_is_not_believed_the_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert answers_of_two_fsyncs(monkeypatch, forget=False) == [errno.EIO, errno.EIO]
    # The rule taken out: the second answer is a lie.
    assert answers_of_two_fsyncs(monkeypatch, forget=True) == [errno.EIO, 0]
