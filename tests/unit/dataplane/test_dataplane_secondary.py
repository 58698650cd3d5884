"""The secondary: order, acknowledgements, completions, faults."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest
from live_path import LivePath, make_live_path

from safepy.core.replica.ops import ROOT, Fsync, Make, Op, Unlink, Write
from safepy.dataplane import syncing

FILE = stat.S_IFREG | 0o644


@pytest.fixture
def live() -> Iterator[LivePath]:
    with make_live_path() as made:
        yield made


def made(name: bytes, handle: int) -> Make:
    return Make(handle, ROOT, name, FILE, 0, 0o022, 0, 0, ((handle, 1), (ROOT, 2)))


def receive(live: LivePath, *ops: Op, first: int = 1) -> None:
    assert live.secondary is not None
    for seq, op in enumerate(ops, first):
        live.secondary.receive(seq, 0, op)


def there(live: LivePath) -> list[str]:
    return sorted(os.listdir(live.pair.there_path))


@pytest.mark.parametrize("acknowledge_on", ["receipt", "apply"])
def test_a_batch_is_applied_in_order_and_acknowledged_once(
    live: LivePath, acknowledge_on: str
) -> None:
    secondary = live.follow(acknowledge_on)
    present_at_ack: list[bool] = []
    secondary._ack = lambda seq: (live.acks.append(seq), present_at_ack.append(bool(there(live))))[
        0
    ]
    receive(live, made(b"f", 2), Write(2, 0, b"1"), Write(2, 0, b"2", stamps=((2, 77),)))
    assert live.acks == []
    live.turn()
    assert live.acks == [3]
    assert present_at_ack == [acknowledge_on == "apply"]
    assert (live.pair.there_path / "f").read_bytes() == b"2"
    assert (live.pair.there_path / "f").stat().st_mtime_ns == 77
    assert live.pair.there_path.stat().st_mtime_ns == 2
    receive(live, Unlink(ROOT, b"f"), first=4)
    live.turn()
    assert live.acks == [3, 4]
    assert secondary.replicated_bytes == 2


@pytest.mark.parametrize("acknowledge_on", ["receipt", "apply"])
def test_an_operation_that_fails_here_is_a_fault(live: LivePath, acknowledge_on: str) -> None:
    live.follow(acknowledge_on)
    receive(live, made(b"f", 2), Unlink(ROOT, b"none"), made(b"g", 3))
    live.turn()
    assert [number for number, _ in live.peer_faults] == [errno.ENOENT]
    assert there(live) == ["f"]  # nothing after it
    acknowledged = len(live.acks)
    receive(live, made(b"h", 4), first=4)
    live.turn()
    assert len(live.acks) == acknowledged
    assert there(live) == ["f"]
    assert len(live.peer_faults) == 1
    if acknowledge_on == "apply":
        assert live.acks == []


@pytest.mark.parametrize("seq", [0, 1, 3, -1])
def test_repeated_and_skipped_numbers_are_faults(live: LivePath, seq: int) -> None:
    live.follow("apply")
    receive(live, made(b"f", 2))
    live.turn()
    receive(live, made(b"g", 3), first=seq)
    live.turn()
    assert [number for number, _ in live.peer_faults] == [errno.EPROTO]
    assert there(live) == ["f"]


@pytest.mark.parametrize(
    "op",
    [
        Write(2, 1 << 63, b"x"),
        Write(2, -1, b"x"),
        Write(99, 0, b"x"),
        made(b"../x", 3),
        Make(3, ROOT, b"g", FILE, 0, 0, 1 << 40, 0),
    ],
)
def test_nonsense_is_a_fault_and_not_a_crash(live: LivePath, op: Op) -> None:
    live.follow("apply")
    receive(live, made(b"f", 2), op)
    live.turn()
    assert len(live.peer_faults) == 1
    assert there(live) == ["f"]


def test_directory_that_does_not_exist_is_a_fault(live: LivePath) -> None:
    live.follow("apply").receive(1, 7, made(b"f", 2))
    live.turn()
    assert [number for number, _ in live.peer_faults] == [errno.EPROTO]


def test_short_write_is_a_fault(live: LivePath, monkeypatch: pytest.MonkeyPatch) -> None:
    live.follow("apply")
    receive(live, made(b"f", 2))
    live.turn()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:1], offset))
    receive(live, Write(2, 0, b"abc"), first=2)
    live.turn()
    assert [number for number, _ in live.peer_faults] == [errno.ENOSPC]


def test_fsync_completes_after_what_came_before_was_applied(live: LivePath) -> None:
    live.follow("receipt")
    receive(live, made(b"f", 2), Write(2, 0, b"x"), Fsync(2, True), Fsync(0, False))
    live.until(lambda: len(live.completions) == 2)
    assert sorted(live.completions) == [(3, 0), (4, 0)]
    assert live.acks == [4]


def test_fsync_of_a_file_unlinked_right_after_it(live: LivePath) -> None:
    live.follow("receipt")
    receive(live, made(b"f", 2), Fsync(2, True), Unlink(ROOT, b"f"))
    live.until(lambda: live.completions == [(2, 0)])
    assert live.peer_faults == []


def test_fsync_error_is_a_fault(live: LivePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(op: Fsync, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(syncing, "run_sync", fail)
    live.follow("receipt")
    receive(live, Fsync(0, False))
    live.until(lambda: bool(live.peer_faults))
    assert live.completions == [(1, errno.EIO)]
    receive(live, made(b"f", 2), first=2)
    live.turn()
    assert there(live) == []


def test_applied_all_applies_what_was_received_and_waits_for_fsync(live: LivePath) -> None:
    secondary = live.follow("receipt")
    done: list[list[str]] = []
    receive(live, made(b"f", 2), Fsync(0, False), made(b"g", 3))
    secondary.applied_all(lambda: done.append(there(live)))
    assert there(live) == ["f", "g"]
    live.until(lambda: bool(done))
    assert live.completions == [(2, 0)]
    secondary.applied_all(lambda: done.append([]))  # nothing left: at once
    assert done == [["f", "g"], []]


def test_closed_secondary_is_silent(live: LivePath) -> None:
    secondary = live.follow("receipt")
    receive(live, made(b"f", 2))
    secondary.close()
    receive(live, made(b"g", 3), first=2)
    live.turn()
    assert live.acks == []
    assert there(live) == []


def test_a_checkpoint_comes_after_everything_before_it(
    live: LivePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    secondary = live.follow()
    flushed: list[list[str]] = []
    sync = syncing.run_sync

    def see(op: Fsync, fd: int) -> None:
        flushed.append(there(live))
        sync(op, fd)

    monkeypatch.setattr(syncing, "run_sync", see)
    reached: list[bool] = []
    receive(live, made(b"f", 2), made(b"g", 3))
    secondary.checkpoint(lambda: reached.append(True))
    receive(live, made(b"h", 4), first=3)
    live.until(lambda: bool(reached))
    assert flushed == [["f", "g"]] or flushed == [["f", "g", "h"]]  # the flush may come later
    assert live.peer_faults == []


@pytest.mark.parametrize("fails", ["apply", "flush"])
def test_a_checkpoint_is_not_reached_after_a_fault(
    live: LivePath, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """I16: neither what could not be applied nor what could not be flushed is durable here."""
    secondary = live.follow()
    reached: list[bool] = []

    def broken(op: Fsync, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EIO, "Input/output error")

    if fails == "flush":
        monkeypatch.setattr(syncing, "run_sync", broken)
    else:
        receive(live, Unlink(ROOT, b"none"))
    secondary.checkpoint(lambda: reached.append(True))
    live.until(lambda: bool(live.peer_faults))
    for _ in range(5):
        live.loop.turn(0.01)
    assert not reached
    assert len(live.peer_faults) == 1
