"""An operation begins when its mark is durable: rules I5 to I9 on real files (protocol 3, 14)."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_path import LivePath, make_live_path

from safepy.core.replica.intent import (
    ALL_TREES,
    EXTENT_BYTES,
    WHOLE,
    Entry,
    Everything,
    NewSince,
    Touched,
)
from safepy.core.replica.ops import ROOT, Fallocate, Make, Op, Rename, SetAttr, Write
from safepy.core.replica.suspects import ALL, ident_of, suspects_of
from safepy.dataplane import intent as intent_module
from safepy.dataplane.intent import AHEAD, Intent
from safepy.errors import LocalFault
from safepy.model import Gate
from safepy.storage.intentlog import IntentLog

FILE = stat.S_IFREG | 0o644
SESSION = b"session1"
N = 32


class SlowLog(IntentLog):
    """`hold` keeps the log's thread from writing; `commits` counts fdatasyncs."""

    def __init__(self, path: str) -> None:
        super().__init__(path, 64)
        self.go_on = threading.Event()
        self.go_on.set()
        self.commits = 0
        self.hold_after: list[bool] = []
        self.broken = False

    def hold(self) -> None:
        self.go_on.clear()

    def _settle(self) -> None:
        assert self.go_on.wait(20), "held for ever"
        if self.hold_after and self.hold_after.pop():
            self.hold()
        if self.broken:
            raise LocalFault("no such disk")
        super()._settle()
        self.commits += 1


class Guarded:
    """A live path whose primary keeps a log. `older` files were there before it began."""

    def __init__(self, live: LivePath, folder: Path) -> None:
        self.live = live
        self.path = folder / "intent.log"
        self.older = [self._older(live, b"older%d" % n) for n in range(8)]
        self.log = SlowLog(str(self.path))
        self.log.open()
        self.log.reset(1, ())
        self.wanted = 0
        self.log_faults: list[str] = []
        self.begin()

    def begin(self) -> None:
        live = self.live
        self.intent = Intent(
            live.loop,
            self.log,
            self.log.open(),
            [live.pair.here],
            SESSION,
            live.primary.kick,
            self._want,
            self.log_faults.append,
            window_marks=N,
        )
        live.keeper.guard(self.intent)
        live.until(lambda: self.intent.ready(0, Rename(ROOT, b"", ROOT, b"", 0)))

    def _want(self) -> None:
        self.wanted += 1

    @staticmethod
    def _older(live: LivePath, name: bytes) -> int:
        for tree in (live.pair.here, live.pair.there):
            handle = tree.new_handle()
            tree.apply(Make(handle, ROOT, name, FILE, 0, 0, 0, 0))
            tree.apply(SetAttr(handle, size=EXTENT_BYTES, mtime_ns=1))
        return live.pair.here.lookup(ROOT, name)[0]

    def join(self) -> None:
        self.live.primary.hold()
        self.live.join()
        self.intent.reset()
        self.settle()

    def settle(self) -> None:
        self.live.until(lambda: not self.intent._thread.busy and not self.intent._submit_posted)

    def do(self, op: Op) -> None:
        self.live.modify(str(len(self.live.answers.order)) + repr(op)[:60], op)

    def make(self, name: bytes) -> int:
        handle = self.live.pair.here.new_handle()
        self.do(Make(handle, ROOT, name, FILE, 0, 0, 0, 0, ident=ident_of(SESSION, 0, handle)))
        return handle

    def inode(self, handle: int) -> int:
        return self.live.pair.here.inode_of(handle)

    def on_disk(self) -> set[Entry]:
        """What a crash now would leave."""
        copy = IntentLog(str(self.path), 64)
        recovered = copy.open()
        copy.close()
        assert not recovered.damaged
        return {entry for _, entry in recovered.entries}

    def suspect(self, handle: int) -> tuple[tuple[int, int], ...]:
        suspects = suspects_of(self.on_disk(), 1, False)[0]
        here = self.live.pair.here
        return suspects.of(here.inode_of(handle), here.ident_of(handle))

    def content(self, number: int, size: int = 3) -> bytes:
        return (self.live.pair.here_path / f"older{number}").read_bytes()[:size]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with make_live_path() as live:
        live.alone()
        live.primary.modified_recorded()
        made = Guarded(live, tmp_path)
        yield made
        made.log.go_on.set()
        made.intent.stop()
        made.intent.join()


def test_i5_k1_k2_nothing_is_applied_or_sent_before_its_mark_is_durable(guarded: Guarded) -> None:
    guarded.join()
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.do(SetAttr(guarded.older[1], size=10))
    guarded.do(Fallocate(guarded.older[2], 0, 0, EXTENT_BYTES))
    for _ in range(5):
        guarded.live.turn()
    assert guarded.content(0) == bytes(3)
    assert guarded.live.wire == []
    assert guarded.live.primary.held == 3
    guarded.log.go_on.set()
    guarded.live.until(lambda: guarded.content(0) == b"new")
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.live.until(lambda: "SetAttr" in guarded.live.sent())
    assert guarded.suspect(guarded.older[1]) == ((0, EXTENT_BYTES),)


def test_one_commit_carries_the_marks_of_all_who_wait(guarded: Guarded) -> None:
    guarded.log.hold()
    before = guarded.log.commits
    for handle in guarded.older:
        guarded.do(Write(handle, 0, b"new"))
    guarded.live.turn()
    guarded.log.go_on.set()
    guarded.live.until(lambda: len(guarded.live.answers.order) == len(guarded.older))
    # The first goes by itself, the others together.
    assert guarded.log.commits - before <= 2


def test_order_is_kept_behind_an_operation_that_waits(guarded: Guarded) -> None:
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 0, b"one"))
    guarded.do(Make(guarded.live.pair.here.new_handle(), ROOT, b"m", FILE, 0, 0, 0, 0))
    guarded.do(Write(guarded.older[0], 0, b"two"))
    guarded.live.turn()
    assert not (guarded.live.pair.here_path / "m").exists()
    guarded.log.go_on.set()
    guarded.live.until(lambda: len(guarded.live.answers.order) == 3)
    assert guarded.content(0) == b"two"
    assert [each[1:5] for each in guarded.live.answers.order] == ["Writ", "Make", "Writ"]


def test_an_object_made_since_the_window_began_needs_no_mark_of_its_own(guarded: Guarded) -> None:
    guarded.join()
    guarded.log.hold()
    handle = guarded.make(b"new")
    guarded.do(Write(handle, 5 * EXTENT_BYTES, b"x"))
    assert "Write" in guarded.live.sent()
    guarded.log.go_on.set()
    assert guarded.suspect(handle) == ALL
    assert guarded.suspect(guarded.older[0]) == ()


def test_a_new_object_that_was_looked_up_anew_is_known_by_its_id(guarded: Guarded) -> None:
    handle = guarded.make(b"new")
    guarded.intent._exempt[0].clear()
    guarded.log.hold()
    guarded.do(Write(handle, 0, b"x"))
    assert (guarded.live.pair.here_path / "new").read_bytes() == b"x"


def test_what_was_made_in_an_earlier_window_is_marked_in_the_next(guarded: Guarded) -> None:
    guarded.join()
    handle = guarded.make(b"made before")
    guarded.intent.rotate()
    guarded.settle()
    guarded.intent.drop_previous()
    guarded.settle()
    guarded.log.hold()
    guarded.do(Write(handle, 0, b"x"))
    guarded.live.turn()
    assert "Write" not in guarded.live.sent()
    guarded.log.go_on.set()
    guarded.live.until(lambda: "Write" in guarded.live.sent())
    assert guarded.suspect(handle) == ((0, EXTENT_BYTES),)


def test_names_and_attributes_need_no_mark(guarded: Guarded) -> None:
    guarded.log.hold()
    guarded.do(SetAttr(guarded.older[0], mode=0o600))
    guarded.do(SetAttr(guarded.older[0], size=EXTENT_BYTES))  # as it is
    guarded.do(Rename(ROOT, b"older0", ROOT, b"other", 0))
    assert len(guarded.live.answers.order) == 3


def test_i6_k3_an_acknowledgement_drops_no_mark(guarded: Guarded) -> None:
    guarded.join()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.live.until(lambda: "Write" in guarded.live.sent())
    guarded.live.primary.acknowledged(guarded.live.wire[-1][0])
    assert len(guarded.live.answers.order) == 1
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.intent.rotate()
    guarded.settle()
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.intent.drop_previous()
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.settle()
    assert guarded.suspect(guarded.older[0]) == ()
    assert guarded.suspect(guarded.older[1]) == ((0, EXTENT_BYTES),)


@pytest.mark.parametrize("rule", [True, False])
def test_i7_k4_an_operation_that_waits_is_marked_in_the_window_it_begins_in(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """Taken out: what was marked in the window before counts as marked in the new one."""
    guarded.join()
    if not rule:
        next_window = Intent._next_window

        def believes(self: Intent) -> None:
            marks = self._marks
            next_window(self)
            self._marks = marks

        monkeypatch.setattr(Intent, "_next_window", believes)
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.live.turn()  # its mark is on the way, in the first window
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.intent.rotate()
    guarded.intent.drop_previous()
    guarded.log.go_on.set()
    guarded.live.until(lambda: guarded.live.sent().count("Write") == 2)
    guarded.settle()
    guarded.do(Write(guarded.older[2], 0, b"new"))  # carries the new tail to the disk
    guarded.settle()
    marked = [guarded.suspect(handle) == ((0, EXTENT_BYTES),) for handle in guarded.older[:3]]
    assert marked == [True, True, True] if rule else not all(marked)


def test_i8_marks_go_only_by_a_checkpoint_or_an_adoption(guarded: Guarded) -> None:
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.settle()
    guarded.intent.stop()
    guarded.intent.join()
    guarded.begin()  # a crash and a return, ALONE
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.settle()
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.intent.reset()
    guarded.settle()
    assert all(isinstance(entry, NewSince) for entry in guarded.on_disk())
    assert [guarded.suspect(handle) for handle in guarded.older[:2]] == [(), ()]


def test_a_lost_peer_keeps_the_marks_of_both_windows(guarded: Guarded) -> None:
    guarded.join()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.settle()
    guarded.intent.rotate()
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.settle()
    guarded.intent.go_alone()
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 1, b"x"))  # is marked already
    assert guarded.content(0) == b"nxw"
    guarded.log.go_on.set()
    suspects = guarded.live.keeper.suspects(False)[0]
    for handle in guarded.older[:2]:
        assert guarded.suspect(handle) == suspects.of(guarded.inode(handle), b"")
        assert guarded.suspect(handle) == ((0, EXTENT_BYTES),)


def test_a_full_window_asks_for_a_checkpoint_and_waits_for_it(guarded: Guarded) -> None:
    guarded.join()
    big = guarded.older[0]
    for extent in range(0, 2 * N, 2):  # not one behind the other: nothing is marked ahead
        guarded.do(Write(big, extent * EXTENT_BYTES, b"x"))
        guarded.settle()
    assert guarded.wanted > 0
    assert guarded.live.primary.held == 0
    guarded.do(Write(big, 2 * N * EXTENT_BYTES, b"x"))
    guarded.settle()
    assert guarded.live.primary.held == 1
    assert guarded.intent.full
    guarded.intent.rotate()
    guarded.live.until(lambda: guarded.live.primary.held == 0)
    assert not guarded.intent.full


def test_alone_nothing_waits_for_room(guarded: Guarded) -> None:
    for extent in range(0, 4 * N, 2):
        guarded.do(Write(guarded.older[0], extent * EXTENT_BYTES, b"x"))
        guarded.settle()
    assert guarded.live.primary.held == 0
    assert guarded.wanted == 0


def test_a_sequential_writer_finds_its_marks(guarded: Guarded) -> None:
    guarded.do(Write(guarded.older[0], 0, b"x"))
    guarded.settle()
    guarded.do(Write(guarded.older[0], EXTENT_BYTES, b"x"))
    guarded.settle()
    guarded.log.hold()
    for extent in range(2, AHEAD):
        guarded.do(Write(guarded.older[0], extent * EXTENT_BYTES, b"x"))
    assert guarded.live.primary.held == 0
    guarded.log.go_on.set()


def test_alone_too_many_extents_make_files_whole_and_too_many_files_everything(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intent_module, "ALONE_EXTENTS", 20)
    monkeypatch.setattr(intent_module, "ALONE_FILES", 6)
    for extent in range(0, 60, 2):
        guarded.do(Write(guarded.older[0], extent * EXTENT_BYTES, b"x"))
        guarded.settle()
    guarded.do(Write(guarded.older[1], 0, b"x"))
    guarded.settle()
    assert Touched(0, guarded.inode(guarded.older[0]), 0, WHOLE) in guarded.on_disk()
    assert guarded.suspect(guarded.older[1]) == ((0, EXTENT_BYTES),)
    for handle in guarded.older:
        guarded.do(Write(handle, 0, b"x"))
        guarded.settle()
    assert Everything(ALL_TREES) in guarded.on_disk()
    assert guarded.live.keeper.suspect_everything_because
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 500 * EXTENT_BYTES, b"x"))
    assert guarded.live.primary.held == 0
    guarded.intent.reset()
    guarded.log.go_on.set()
    guarded.settle()
    assert not guarded.live.keeper.suspect_everything_because
    assert Everything(ALL_TREES) not in guarded.on_disk()


def test_i5_everything_is_suspect_on_the_disk_before_marks_are_spared(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intent_module, "ALONE_FILES", 1)
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.settle()
    guarded.log.hold_after = [True]  # this mark is written, what follows from it is not
    before = guarded.log.commits
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.do(Write(guarded.older[2], 0, b"new"))
    guarded.live.until(lambda: guarded.log.commits > before)
    for _ in range(5):
        guarded.live.loop.turn(0.01)
    assert guarded.content(1) == guarded.content(2) == bytes(3)
    guarded.log.go_on.set()
    guarded.live.until(lambda: guarded.content(2) == b"new")
    assert Everything(ALL_TREES) in guarded.on_disk()


def test_a_log_that_is_written_for_long_keeps_every_mark(guarded: Guarded) -> None:
    """Its ring is far smaller than what was written to it."""
    for extent in range(300):
        handle = guarded.older[extent % len(guarded.older)]
        guarded.do(Write(handle, 3 * extent * EXTENT_BYTES, b"x"))
        guarded.settle()
    found = {handle: guarded.suspect(handle) for handle in guarded.older}
    for extent in range(300):
        at = 3 * extent * EXTENT_BYTES
        extents = found[guarded.older[extent % len(guarded.older)]]
        assert any(start <= at < end for start, end in extents), extent
    assert os.stat(guarded.path).st_size == 64 * 4096


@pytest.mark.parametrize("paired", [True, False])
def test_f47_a_log_that_cannot_be_written_lets_nothing_begin(
    guarded: Guarded, paired: bool
) -> None:
    """In PRIM everything waits for the hand-over; ALONE there is none, and an error is all."""
    guarded.live.gate.open(Gate.PRIM if paired else Gate.ALONE, 2, 10.0)
    if paired:
        guarded.join()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.settle()
    answered = len(guarded.live.answers.order)
    guarded.log.broken = True
    guarded.do(Write(guarded.older[1], 0, b"new"))
    guarded.live.until(lambda: bool(guarded.log_faults))
    guarded.live.primary.kick()
    if paired:  # whoever comes next finds no queue to stand in
        assert guarded.live.primary.withdraw(guarded.live.primary._backlog[0][2])
    guarded.do(Make(guarded.live.pair.here.new_handle(), ROOT, b"m", FILE, 0, 0, 0, 0))
    guarded.do(Write(guarded.older[0], 0, b"xxx"))  # was marked before
    for _ in range(5):
        guarded.live.turn()
    assert (guarded.content(0), guarded.content(1)) == (b"new", bytes(3))
    assert not (guarded.live.pair.here_path / "m").exists()
    given = [guarded.live.answers.given[name] for name in guarded.live.answers.order[answered:]]
    assert given == ([(errno.EINTR, None)] if paired else [(errno.EIO, None)] * 3)
    assert len(guarded.log_faults) == 1


def test_i9_more_suspects_are_durable_before_anything_follows(guarded: Guarded) -> None:
    told: list[set[Entry]] = []
    entry = Touched(0, 77, 0, WHOLE)
    guarded.intent.suspect([entry], lambda: told.append(guarded.on_disk()))
    guarded.live.until(lambda: bool(told))
    assert entry in told[0]
    assert guarded.live.keeper.suspects(True)[0].of(77, b"") == ALL


def test_a_run_that_ends_in_order_says_so(guarded: Guarded) -> None:
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.settle()
    numbers: list[int] = []
    guarded.intent.stop()
    guarded.intent.end(False, numbers.append)
    recovered = IntentLog(str(guarded.path), 64).open()
    assert recovered.clean_sequence == numbers[0] > 0
    assert guarded.suspect(guarded.older[0]) == ((0, EXTENT_BYTES),)
    guarded.begin()
    assert IntentLog(str(guarded.path), 64).open().clean_sequence == 0
    guarded.intent.stop()
    guarded.intent.end(True, numbers.append)
    assert guarded.on_disk() == set()


def test_a_gate_that_is_open_for_a_peer_needs_marks_as_well(guarded: Guarded) -> None:
    guarded.live.gate.open(Gate.PRIM, 2, 10.0)
    guarded.join()
    guarded.log.hold()
    guarded.do(Write(guarded.older[0], 0, b"new"))
    guarded.live.turn()
    assert guarded.live.wire == []
