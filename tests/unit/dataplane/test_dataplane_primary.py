"""When a modification is carried out, sent, answered: gate, backlog, hold, release, drain."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from live_path import LivePath, make_live_path

from safepy.core.replica.ops import (
    ROOT,
    Bind,
    Forget,
    Fsync,
    Link,
    Make,
    Op,
    Rename,
    SetAttr,
    SetXattr,
    Tmpfile,
    Unlink,
    Write,
)
from safepy.dataplane import syncing
from safepy.errors import PeerError
from safepy.model import Gate

FILE = stat.S_IFREG | 0o644


@pytest.fixture
def live() -> Iterator[LivePath]:
    with make_live_path(max_ops=4) as made:
        yield made


def file_op(live: LivePath, name: bytes = b"f") -> Make:
    return Make(live.pair.here.new_handle(), ROOT, name, FILE, 0, 0o022, 0, 0)


def exists(live: LivePath, name: str) -> bool:
    return (live.pair.here_path / name).exists()


def test_nothing_is_carried_out_while_the_gate_is_closed(live: LivePath) -> None:
    live.modify("make", file_op(live))
    live.primary.modified_recorded()
    assert not exists(live, "f")
    assert live.answers.given == {}
    assert live.primary.held == 1
    live.alone()
    assert live.answers.given["make"][0] == 0
    assert exists(live, "f")
    assert live.primary.held == 0


def test_the_first_modification_alone_waits_for_its_record(live: LivePath) -> None:
    live.alone()
    live.modify("sync", Fsync(0, False))  # changes nothing
    live.modify("one", file_op(live, b"one"))
    live.modify("two", file_op(live, b"two"))
    live.modify("sync behind", Fsync(0, False))  # covers them, so it may not overtake them
    assert live.asked == 1
    assert live.primary.held == 3
    assert not exists(live, "one")
    live.primary.modified_recorded()
    live.until(lambda: len(live.answers.order) == 4)
    assert live.answers.order.index("one") < live.answers.order.index("two")
    live.modify("three", file_op(live, b"three"))
    assert live.answers.given["three"][0] == 0
    assert live.asked == 1


def test_errors_are_answered_at_once_and_not_sent(live: LivePath) -> None:
    live.join()
    live.modify("unlink", Unlink(ROOT, b"none"))
    assert live.answers.given["unlink"] == (errno.ENOENT, None)
    assert live.wire == []


def test_deadline_closes_the_gate(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    live.now_s = 10.0
    live.modify("late", file_op(live))
    assert not exists(live, "f")
    live.alone()
    assert live.answers.given["late"][0] == 0


def test_answer_that_becomes_ready_after_the_deadline_waits_for_the_gate(live: LivePath) -> None:
    live.join()
    live.modify("make", file_op(live))
    live.now_s = 10.0
    live.primary.acknowledged(1)
    assert live.answers.given == {}
    live.gate.open(Gate.PRIM, 2, 20.0)
    live.primary.kick()
    assert live.answers.given["make"][0] == 0


def test_deadline_that_passes_during_the_operation_keeps_the_answer(
    live: LivePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.alone()
    live.primary.modified_recorded()
    apply = live.pair.here.apply

    def slow(op: Op) -> object:
        live.now_s = 11.0  # the process was frozen
        return apply(op)

    monkeypatch.setattr(live.pair.here, "apply", slow)
    live.modify("make", file_op(live))
    assert exists(live, "f")
    assert live.answers.given == {}
    live.alone()
    assert live.answers.given["make"][0] == 0


def test_answer_follows_the_acknowledgement_in_order(live: LivePath) -> None:
    live.join()
    make = file_op(live)
    live.modify("make", make)
    live.modify("write", Write(make.handle, 0, b"abc"))
    live.modify("mode", SetAttr(make.handle, mode=0o600))
    assert live.sent() == ["Make", "Write", "SetAttr"]
    assert live.answers.given == {}
    live.primary.acknowledged(2)
    assert live.answers.order == ["make", "write"]
    assert live.answers.given["write"] == (0, 3)
    live.primary.acknowledged(3)
    assert isinstance(live.answers.given["mode"][1], os.stat_result)
    with pytest.raises(PeerError):
        live.primary.acknowledged(4)


def test_full_window_makes_writers_wait_and_keeps_their_order(live: LivePath) -> None:
    live.join()
    for number in range(6):
        live.modify(str(number), file_op(live, b"%d" % number))
    assert [seq for seq, _, _ in live.wire] == [1, 2, 3, 4]
    assert live.primary.held == 2
    assert not exists(live, "4")
    live.primary.acknowledged(1)
    assert [seq for seq, _, _ in live.wire] == [1, 2, 3, 4, 5]
    live.primary.acknowledged(5)
    live.primary.acknowledged(6)
    assert live.answers.order == ["0", "1", "2", "3", "4", "5"]


def test_window_is_bounded_in_bytes(live: LivePath) -> None:
    live.join()
    make = file_op(live)
    live.modify("make", make)
    live.modify("big", Write(make.handle, 0, b"x" * (1 << 20)))
    live.modify("more", Write(make.handle, 0, b"y"))
    assert live.sent() == ["Make", "Write"]
    live.primary.acknowledged(2)
    assert live.sent() == ["Make", "Write", "Write"]


def test_lost_stream_holds_and_release_answers_after_the_record(live: LivePath) -> None:
    live.join()
    live.modify("sent", file_op(live, b"sent"))
    live.primary.disconnect()
    live.modify("later", file_op(live, b"later"))
    live.primary.acknowledged(1)  # of a stream that was given up
    live.gate.open(Gate.ALONE, 2, 20.0)
    live.primary.kick()
    assert live.answers.given == {}
    assert not exists(live, "later")
    live.gate.open(Gate.ALONE, 3, 20.0)
    live.primary.release()
    assert live.asked == 1
    assert live.answers.given == {}  # what the peer may lack is a modification ALONE
    live.primary.modified_recorded()
    assert live.answers.order == ["sent", "later"]
    assert all(number == 0 for number, _ in live.answers.given.values())


def test_release_does_not_answer_through_a_closed_gate(live: LivePath) -> None:
    live.join()
    live.modify("sent", file_op(live))
    live.primary.disconnect()
    live.gate.close()
    live.primary.release()
    live.primary.modified_recorded()
    assert live.answers.given == {}
    live.alone(epoch=3)
    assert live.answers.order == ["sent"]


def test_each_generation_alone_records_its_first_modification(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    live.join()
    live.primary.disconnect()
    live.gate.open(Gate.ALONE, 3, 20.0)
    live.primary.release()
    assert live.asked == 0  # nothing was changed yet
    live.modify("first", file_op(live))
    assert live.asked == 1
    assert live.answers.given == {}


def test_whatever_is_held_fails_when_the_lead_is_given_up(live: LivePath) -> None:
    live.join()
    live.modify("sent", file_op(live, b"sent"))
    live.modify("sync", Fsync(0, False))
    live.modify("acknowledged", file_op(live, b"acknowledged"))
    live.primary.hold()
    live.modify("backlog", file_op(live, b"backlog"))
    live.gate.close()
    live.primary.acknowledged(1)
    live.primary.fail_held()
    live.modify("later", file_op(live, b"later"))
    names = {"sent", "sync", "acknowledged", "backlog", "later"}
    assert {n: number for n, (number, _) in live.answers.given.items()} == dict.fromkeys(
        names, errno.EIO
    )
    live.primary._syncer.close(wait=True)
    live.turn()  # the fsync's thread comes back: not answered twice
    assert not exists(live, "backlog")


def test_fsync_is_answered_when_both_nodes_are_done(live: LivePath) -> None:
    live.join()
    make = file_op(live)
    live.modify("make", make)
    live.modify("sync", Fsync(make.handle, True))
    live.primary.acknowledged(2)
    live.primary._syncer.close(wait=True)
    live.turn()
    assert live.answers.order == ["make"]
    with pytest.raises(PeerError):
        live.primary.completed(1, 0)
    live.primary.completed(2, 0)
    assert live.answers.given["sync"] == (0, None)


def test_fsync_completed_there_first_waits_for_here(live: LivePath) -> None:
    live.join()
    live.modify("sync", Fsync(0, False))
    live.primary.completed(1, 0)
    assert live.answers.given == {}
    live.primary.acknowledged(1)
    live.until(lambda: "sync" in live.answers.given)


def test_fsync_that_failed_there_is_answered_only_after_release(live: LivePath) -> None:
    live.join()
    live.modify("sync", Fsync(0, False))
    live.primary.acknowledged(1)
    live.primary.completed(1, errno.EIO)
    live.primary._syncer.close(wait=True)
    live.turn()
    assert live.answers.given == {}
    live.primary.disconnect()
    live.gate.open(Gate.ALONE, 3, 20.0)
    live.primary.release()
    live.primary.modified_recorded()
    assert live.answers.given["sync"] == (0, None)


def test_fsync_error_here_is_remembered(live: LivePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(op: Fsync, fd: int) -> None:
        os.close(fd)
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(syncing, "run_sync", fail)
    live.alone()
    live.modify("sync", Fsync(0, False))
    live.until(lambda: "sync" in live.answers.given)
    assert live.answers.given["sync"] == (errno.EIO, None)
    assert len(live.faults) == 1
    monkeypatch.undo()
    live.modify("again", Fsync(0, False))  # the kernel would say "fine" now
    assert live.answers.given["again"] == (errno.EIO, None)
    assert len(live.faults) == 1


def test_handles_are_introduced_by_their_path_before_the_operation(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    folder = Make(live.pair.here.new_handle(), ROOT, b"d", stat.S_IFDIR | 0o755, 0, 0, 0, 0)
    names = (live.pair.here.new_handle(), folder.handle, b"f")
    inner = Make(*names, FILE, 0, 0, 0, 0, ident=bytes(16))
    live.modify("folder", folder)
    live.modify("inner", inner)
    live.join()
    live.modify("write", Write(inner.handle, 0, b"x"))
    live.modify("rename", Rename(folder.handle, b"f", ROOT, b"g", 0))
    ops = [op for _, _, op in live.wire]
    assert ops[0] == Bind(inner.handle, b"d/f")
    assert ops[2] == Bind(folder.handle, b"d")  # as it was before the operation
    assert [type(op) for op in ops] == [Bind, Write, Bind, Rename]
    live.primary.acknowledged(4)
    live.modify("again", Write(inner.handle, 0, b"x"))
    assert live.sent()[4:] == ["Write"]


def test_path_of_a_bind_is_the_one_before_the_operation(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    makes = [file_op(live, name) for name in (b"f", b"g")]
    for make in makes:
        live.modify(f"make {make.handle}", make)
    live.modify("link", Link(makes[0].handle, ROOT, b"h"))
    live.join()
    live.modify("unlink", Unlink(ROOT, b"f"))  # not the last name: introduced now
    live.modify("unlink g", Unlink(ROOT, b"g"))  # the last one: the peer needs no handle
    ops = [op for _, _, op in live.wire]
    assert [type(op) for op in ops] == [Bind, Unlink, Unlink]
    assert ops[0] == Bind(makes[0].handle, b"f")


def test_forgotten_handles_are_forgotten_there_and_introduced_anew(live: LivePath) -> None:
    live.join()
    make = file_op(live)
    live.modify("make", make)
    live.pair.here.release(make.handle)
    live.pair.here.release(12345)  # never told
    live.turn()
    assert live.wire[1][2] == Forget((make.handle,))
    handle, _ = live.pair.here.lookup(ROOT, b"f")
    live.modify("write", Write(handle, 0, b"x"))
    assert live.sent() == ["Make", "Forget", "Bind", "Write"]
    live.primary.acknowledged(4)
    assert live.answers.order == ["make", "write"]


def test_nameless_object_unknown_to_the_peer_is_changed_here_only(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    orphan = live.pair.here.new_handle()
    live.modify("tmpfile", Tmpfile(orphan, ROOT, 0o600, 0, 5, 6))
    live.join()
    for name, op in (
        ("write", Write(orphan, 0, b"hidden")),
        ("mode", SetAttr(orphan, mode=0o640)),
        ("xattr", SetXattr(orphan, b"user.a", b"b", 0)),
    ):
        live.modify(name, op)
        assert live.answers.given[name][0] == 0
    live.modify("sync", Fsync(orphan, False))
    live.until(lambda: "sync" in live.answers.given)
    assert live.wire == []
    live.modify("link", Link(orphan, ROOT, b"named"))
    assert live.sent() == ["Tmpfile", "Write", "SetAttr", "SetXattr", "SetAttr", "Link"]
    live.follow()
    live.deliver()
    live.turn()
    assert live.pair.difference() == ""
    assert live.peer_faults == []


def test_drain_waits_for_what_is_in_flight_and_holds_the_rest(live: LivePath) -> None:
    drained: list[int] = []
    live.join()
    live.modify("sent", file_op(live, b"sent"))
    live.modify("sync", Fsync(0, False))
    for number in (1, 2):  # a synchronisation's hold and a stop may meet
        live.primary.drain(partial(drained.append, number))
    live.modify("later", file_op(live, b"later"))
    live.primary.acknowledged(2)
    live.primary._syncer.close(wait=True)
    live.turn()
    assert drained == []
    live.primary.completed(2, 0)
    assert drained == [1, 2]
    assert live.answers.order == ["sent", "sync"]
    assert live.primary.held == 1
    live.primary.unhold()
    assert exists(live, "later")


def test_drain_waits_for_a_local_fsync(live: LivePath, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = threading.Event()

    def slow(op: Fsync, fd: int) -> None:
        os.close(fd)
        assert may_end.wait(5)

    monkeypatch.setattr(syncing, "run_sync", slow)
    drained: list[int] = []
    live.alone()
    live.modify("sync", Fsync(0, False))
    live.primary.drain(lambda: drained.append(1))
    live.turn()
    assert drained == []
    may_end.set()
    live.until(lambda: drained == [1])
    assert live.answers.given["sync"] == (0, None)


def test_drain_of_an_idle_primary_is_immediate(live: LivePath) -> None:
    drained: list[int] = []
    live.alone()
    live.primary.drain(lambda: drained.append(1))
    assert drained == [1]


def test_flush_makes_both_nodes_durable_with_the_gate_closed(live: LivePath) -> None:
    flushed: list[int] = []
    live.join()
    live.gate.close_to_new()
    live.primary.hold()
    live.primary.flush_everything(flushed.append)
    assert live.sent() == ["Fsync"]
    live.gate.close()
    live.primary._syncer.close(wait=True)
    live.turn()
    live.primary.acknowledged(1)
    assert flushed == []
    live.primary.completed(1, 0)
    assert flushed == [0]


def test_brake_lets_one_begin_at_a_time(live: LivePath) -> None:
    live.alone()
    live.primary.modified_recorded()
    live.primary.brake_s = 0.05
    for number in range(3):
        live.modify(str(number), file_op(live, b"%d" % number))
    started_s = live.loop.now_s
    assert live.answers.order == ["0"]
    live.until(lambda: len(live.answers.order) == 3)
    assert live.loop.now_s - started_s >= 0.09


def test_stream_that_dies_while_sending_leaves_the_operation_held(live: LivePath) -> None:
    live.gate.open(Gate.PRIM, 2, 10.0)
    live.primary.connect(lambda seq, tree, op: live.primary.disconnect())
    live.modify("make", file_op(live))
    assert live.answers.given == {}
    assert live.primary.in_flight == 1
    live.gate.open(Gate.ALONE, 3, 10.0)
    live.primary.release()
    live.primary.modified_recorded()
    assert live.answers.given["make"][0] == 0


def test_age_of_the_oldest_unanswered(live: LivePath) -> None:
    live.join()
    assert live.primary.oldest_unanswered_s(live.loop.now_s) == 0.0
    live.modify("make", file_op(live))
    assert live.primary.oldest_unanswered_s(live.loop.now_s + 60) > 59.0
    live.primary.acknowledged(1)
    assert live.primary.oldest_unanswered_s(live.loop.now_s + 60) == 0.0
