"""S7, S4, S26 on the live stream: words in the wrong phase, answers nobody asked, floods.

The real roles of a worker (`Following`, `Serving`) on real trees; the other node is a stream in
the test's hands. Whatever it says, the role goes on or gives up that stream; it never dies of it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hostile_tools import Place, hostile_place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safepy.core.replica import ops
from safepy.core.replica.ops import ROOT
from safepy.daemon.worker_handle import MESSAGE_BYTES_MAX
from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.model import Gate
from safepy.wire import replication as wire
from safepy.worker import following as following_module
from safepy.worker import messages
from safepy.worker import questions as questions_module
from safepy.worker.common import Context
from safepy.worker.following import CHECKPOINTS_MAX, FLUSHES_MAX, Following
from safepy.worker.knowledge import Knowledge
from safepy.worker.serving import Serving

FILE = stat.S_IFREG | 0o644


class Stream:
    """The other node: remembers what it is told."""

    last_heard_s = 0.0

    def __init__(self) -> None:
        self.told: list[wire.AnyMessage] = []
        self.closed = False
        self.on_messages: Callable[[list[bytes]], None] | None = None
        self.on_closed: Callable[[str], None] | None = None

    def send(self, data: bytes) -> None:
        self.told.append(wire.decode(data))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Role:
    """A role with a stream, and all it reports to its daemon."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._threads = set(threading.enumerate())
        self.loop = Loop()
        self.reports: list[messages.Report] = []
        state = place.keep / "state"
        state.mkdir(parents=True)
        setup = messages.Setup(
            step_id=0, module="AM", node="n1", peer="n2", key="00" * 32,
            listen=("127.0.0.1", 1), dial=("127.0.0.2", 1), paths=[str(place.root)],
            doors=[str(place.root)], acknowledge_on="apply", acl=False, transfers=2,
            locktimeout_s=10.0, sendtimeout_s=10.0, keep_dir=str(place.keep / "aside"),
            state_dir=str(state),
        )  # fmt: skip
        self.fd = place.open_root()
        knowledge = Knowledge(self.loop, setup, [self.fd], lambda *_: None)
        self.context = Context(self.loop, setup, [self.fd], self._report, knowledge)
        self.stream = Stream()
        self.role: Any = None

    def _report(self, report: messages.Report) -> None:
        assert len(messages.encode(report)) <= MESSAGE_BYTES_MAX
        messages.REPORT.decode(messages.encode(report))
        self.reports.append(report)

    def say(self, *said: wire.AnyMessage | bytes) -> None:
        batch = [each if isinstance(each, bytes) else wire.encode(each) for each in said]
        if self.stream.on_messages is not None and not self.stream.closed:
            self.stream.on_messages(batch)
        for _ in range(3):
            self.loop.turn(0)

    def until(self, holds: Callable[[], bool]) -> None:
        limit_s = self.loop.now_s + 10
        while not holds():
            assert self.loop.now_s < limit_s, "it did not happen in time"
            self.loop.turn(0.01)

    def close(self) -> None:
        self.role.close()
        self.context.knowledge.close()
        self.context.knowledge._pool.shutdown(wait=False)
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(5)  # they post to the loop when they end
        self.loop.close()
        os.close(self.fd)


class Follower(Role):
    """A node that follows a primary that turned hostile."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(place)
        monkeypatch.setattr(following_module, "dial", lambda *_, **__: None)
        monkeypatch.setattr(following_module, "Transfers", NoTransfers)
        self.role = Following(self.context, messages.Follow(1, 3, False))
        self.role._opened(self.stream)

    def adopted(self) -> None:
        """As an honest primary does it."""
        self.say(wire.SyncBegin("ab", 2, False), wire.SyncFlush(1))
        self.until(lambda: wire.Flushed(1) in self.stream.told)
        self.say(wire.Adopt(4, "g" * 32, "", ()))
        assert any(isinstance(r, messages.AdoptRequested) for r in self.reports)
        self.role.adopted(messages.Adopted(4))
        assert wire.AdoptDone(4) in self.stream.told


class NoTransfers:
    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def follower_of(place: Place) -> Iterator[Follower]:
    with pytest.MonkeyPatch.context() as patched:
        made = Follower(place, patched)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def follower() -> Iterator[Follower]:
    with hostile_place() as place, follower_of(place) as made:
        yield made


def given_up(role: Role) -> bool:
    live = role.role.follower.live if isinstance(role, Server) else role.role._live
    return role.stream.closed or live is None


ADOPT = wire.Adopt(9, "g" * 32, "", ())
MAKE = wire.Apply(1, 0, ops.Make(9, ROOT, b"made", FILE, 0, 0o22, 0, 0))


@pytest.mark.parametrize(
    "said",
    [
        [ADOPT],
        [wire.SyncBegin("ab", 2, False), ADOPT],
        [MAKE],
        [wire.SyncBegin("ab", 2, False), MAKE],
        [wire.SyncBegin("ab", 0, False)],
        [wire.SyncBegin("ab", 65, False)],
        [wire.SyncBegin("ab", 2, False), wire.SyncBegin("cd", 2, False)],
        [wire.Checkpoint(1)],
        [wire.SyncAgain(1, 0, ops.Fsync(ROOT, False))],
        [wire.Inspect(1, 0, b"", ((b"inside", 0, 7),), 1)],
        [wire.MoreNames(1, 0, b"", b"", b"", ())],
        [wire.ReadAt(1, 0, ROOT, 0, 10)],
        [wire.Ack(1)],
        [wire.Completed(1, 0)],
        [wire.AdoptDone(3)],
        [wire.Flushed(1)],
        [wire.Resume(0)],
        [wire.Leave()],
        [wire.Fault(5, "x")],
        [wire.CheckpointDone(1)],
        [b""],
        [b"\xc1" * 30],
    ],
    ids=lambda said: " ".join(type(each).__name__ for each in said),
)
def test_s7_words_before_their_turn_end_the_stream(follower: Follower, said: list[Any]) -> None:
    follower.say(*said)
    assert given_up(follower)
    assert not any(isinstance(r, messages.AdoptRequested) for r in follower.reports)
    assert sorted(os.listdir(follower.place.root)) == ["dir", "door", "inside", "up", "way"]
    assert follower.role.epoch == 3


@pytest.mark.parametrize(
    "said",
    [
        wire.Adopt(5, "g" * 32, "", ()),
        wire.Adopt(4, "g" * 32, "", ()),
        wire.SyncBegin("ab", 2, False),
        wire.ReadAt(1, 0, ROOT, 0, 0),
        wire.ReadAt(1, 0, ROOT, 0, 1 << 40),
        wire.Inspect(1, 9, b"", (), 1),
        wire.Inspect(1, 0, b"", ((b"inside", 0, 1 << 30),), 1),
        wire.Inspect(1, 0, b"", ((b"inside", 0, 1),) * 65, 1),
    ],
    ids=repr,
)
def test_s7_words_after_their_turn_end_the_stream(
    follower: Follower, said: wire.AnyMessage
) -> None:
    follower.adopted()
    before = len(follower.reports)
    follower.say(said)
    assert given_up(follower)
    assert not any(isinstance(r, messages.AdoptRequested) for r in follower.reports[before:])


@pytest.mark.parametrize("seq", [0, 2, 7, (1 << 63) - 1])
def test_s7_gaps_and_repeats_are_faults_and_nothing_more_is_applied(
    follower: Follower, seq: int
) -> None:
    follower.adopted()
    follower.say(wire.Apply(seq, 0, ops.Make(9, ROOT, b"made", FILE, 0, 0o22, 0, 0)))
    assert any(isinstance(told, wire.Fault) for told in follower.stream.told)
    follower.say(MAKE)
    assert "made" not in os.listdir(follower.place.root)
    assert not any(isinstance(told, wire.Ack) and told.seq for told in follower.stream.told)


@pytest.mark.parametrize("path", [b"..", b"dir/..", b"../outside", b"/", b"a//b", b".", b"a\0b"])
@pytest.mark.parametrize("kind", ["inspect", "names", "offer", "owed", "told", "item", "name"])
def test_s8_paths_of_questions_are_lists_of_names(path: bytes, kind: str) -> None:
    """Made by hand, as no message of ours can hold them."""
    honest: dict[str, tuple[wire.AnyMessage, bytes]] = {
        "inspect": (wire.Inspect(1, 0, b"PPPP", (), 1), b"PPPP"),
        "names": (wire.MoreNames(1, 0, b"PPPP", b"", b"", ()), b"PPPP"),
        "offer": (wire.SyncOffer(True, ((0, b"PPPP"),), True), b"PPPP"),
        "owed": (wire.Owed(((0, b"PPPP"),)), b"PPPP"),
        "told": (wire.VerifyTold(0, 0, ((0, b"PPPP", "content"),)), b"PPPP"),
        "item": (wire.Inspect(1, 0, b"", ((b"PPPP", 0, 1),), 1), b"PPPP"),
        "name": (wire.MoreNamesAre(1, (b"PPPP",)), b"PPPP"),
    }
    message, mark = honest[kind]
    data = wire.encode(message)
    bad = data.replace(b"\xc4\x04" + mark, b"\xc4" + bytes([len(path)]) + path)
    assert bad != data
    if (kind, path) in {("item", b"."), ("offer", b"/"), ("owed", b"/")}:
        wire.decode(bad)  # the directory itself, the attributes of the root
        return
    with pytest.raises(PeerError):
        wire.decode(bad)


def test_s26_flushes_and_checkpoints_do_not_pile_up(follower: Follower) -> None:
    threads = threading.active_count()
    follower.say(*(wire.SyncFlush(n) for n in range(200)))
    assert given_up(follower)
    assert threading.active_count() <= threads + FLUSHES_MAX


def test_s26_checkpoints_do_not_pile_up(follower: Follower) -> None:
    follower.adopted()
    fds = len(os.listdir("/proc/self/fd"))
    follower.say(*(wire.Checkpoint(n) for n in range(200)))
    assert given_up(follower)
    assert len(os.listdir("/proc/self/fd")) <= fds + CHECKPOINTS_MAX + 20  # far below 200


def test_s26_questions_do_not_pile_up(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions_module, "QUESTIONS_MAX", 3)
    follower.adopted()
    threads = threading.active_count()
    warm = wire.Inspect(1, 0, b"", ((b"inside", 0, 7),), 1, warm=True)
    follower.say(*([warm] * 100))
    assert given_up(follower)
    assert threading.active_count() <= threads + 3


def test_s3_long_and_hostile_words_do_not_end_the_worker(follower: Follower) -> None:
    """A reason of a megabyte once filled the control socket, and the worker gave up."""
    long = wire.encode(wire.SyncFailed("RRRR", False)).replace(
        b"\xa4RRRR", b"\xdb" + (900_000).to_bytes(4, "big") + b"\x1b[2J\n" + b"x" * 899_995
    )
    follower.say(long)
    (told,) = [r for r in follower.reports if isinstance(r, messages.ResyncFailed)]
    assert told.reason.isprintable() and len(told.reason) <= 600


class Server(Role):
    """A node that serves, and a follower that turned hostile."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.role = Serving(self.context, 3)
        self.role.follower.allow(messages.AllowFollower(3, False))
        self.role.gate.open(Gate.ALONE, 3, float("inf"))
        self.role.follower.take(self.stream)

    def joined(self) -> None:
        """As if the comparison had ended: the hand-over itself is the product's."""
        self.role.follower.caught_up()
        self.role.follower.join(messages.Join(4, "g" * 32, "", []))
        self.say(wire.AdoptDone(4))
        assert any(isinstance(r, messages.Joined) for r in self.reports)


@pytest.fixture
def server() -> Iterator[Server]:
    with hostile_place() as place:
        made = Server(place)
        try:
            yield made
        finally:
            made.close()


def test_s7_an_acknowledgement_of_what_was_never_sent_ends_the_stream(server: Server) -> None:
    server.joined()
    answers: list[int] = []
    op = ops.Make(9, ROOT, b"made", FILE, 0, 0o22, 0, 0)
    server.role.primary.modify(0, op, lambda number, _: answers.append(number))
    server.until(lambda: any(isinstance(told, wire.Apply) for told in server.stream.told))
    server.say(wire.Ack(2))
    assert given_up(server) and answers == []  # never answered by a number that is none
    assert any(isinstance(r, messages.ReplicaLost) for r in server.reports)


@pytest.mark.parametrize(
    "said",
    [
        wire.AdoptDone(4),
        wire.Ack(1),
        wire.Completed(1, 0),
        wire.Resume(0),
        wire.Resume(1),
        MAKE,
        ADOPT,
        wire.SyncBegin("ab", 2, False),
        wire.SyncFlush(1),
        wire.Checkpoint(1),
        wire.Inspect(1, 0, b"", (), 1),
        wire.ReadAt(1, 0, ROOT, 0, 10),
        wire.VerifyTold(0, 0),
        wire.Owed(()),
        b"",
        b"\xff" * 20,
    ],
    ids=lambda said: type(said).__name__,
)
@pytest.mark.parametrize("joined", [False, True])
def test_s7_words_that_are_not_for_a_primary(server: Server, said: Any, joined: bool) -> None:
    if joined:
        server.joined()
    server.say(said)
    harmless = not joined and isinstance(said, wire.Ack | wire.Completed)
    assert given_up(server) or harmless  # of a stream without operations yet: nothing to end
    assert server.role.epoch == (4 if joined else 3)
    # The application goes on, alone once the daemon says so.
    server.role.release(messages.ReleaseHeld(5, float("inf")))
    server.role.modified_recorded()
    answers: list[int] = []
    op = ops.Make(9, ROOT, b"made", FILE, 0, 0o22, 0, 0)
    server.role.primary.modify(0, op, lambda number, _: answers.append(number))
    server.role.modified_recorded()
    server.until(lambda: answers == [0])


words: st.SearchStrategy[Any] = st.sampled_from(
    [
        MAKE,
        ADOPT,
        *(wire.SyncBegin(word, count, False) for word in ("ab", "cd") for count in (1, 2, 64)),
        *(kind(n) for kind in (wire.SyncFlush, wire.Flushed, wire.Checkpoint) for n in (0, 1, 2)),
        *(kind(n) for kind in (wire.Ack, wire.AdoptDone, wire.Resume) for n in (0, 1, 4, 1 << 60)),
        wire.CheckpointDone(1),
        wire.Completed(1, 0),
        wire.Completed(1, 5),
        wire.Fault(28, "no room"),
        wire.SyncFailed("why", False),
        wire.SyncFailed("why", True),
        wire.SyncProgress("round 1", 3, 9, 1, 2, 3, 1, 1e300, 1e300),
        wire.SyncOffer(True, ((0, b"dir"), (200, b"x")), True),
        wire.SyncOffer(False, (), False, "x"),
        wire.Apply(1, 200, ops.Unlink(ROOT, b"inside")),
        wire.Apply(2, 0, ops.Fsync(ROOT, False)),
        wire.SyncAgain(1, 0, ops.Fsync(ROOT, False)),
        wire.Leave(),
        wire.VerifyAsk(""),
        wire.VerifyAsk("second"),
        wire.VerifyStop(),
        wire.MoreNames(1, 0, b"dir", b"", b"", (b"x",)),
        wire.MoreNamesAre(1, (b"x", b"way")),
        wire.Inspect(1, 0, b"", ((b"way", 0, 9), (b".", 0, 0)), 1),
        wire.Inspect(1, 0, b"way", ((b"file", 0, 9),), 1),
        wire.Inspected(1, ((b"", b""),)),
        wire.Inspected(2, (), "failed"),
        wire.VerifyTold(1, 1, ((0, b"x", "content"),), True),
        wire.Owed(((0, b"inside"),)),
        wire.ReadAt(1, 0, ROOT, 0, 10),
        wire.ReadAt(2, 0, 99, (1 << 63) - 1, 1 << 20),
        wire.ReadDone(1, 511, b""),
        wire.ReadDone(1, 0, b"x" * 100),
        b"",
        b"\xc1",
    ]
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.booleans(), st.lists(words, max_size=15))
def test_s7_a_follower_survives_any_order_of_words(adopted: bool, said: list[Any]) -> None:
    with hostile_place() as place, follower_of(place) as made:
        if adopted:
            made.adopted()
        for word in said:
            made.say(word)
        place.assert_untouched()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.booleans(), st.lists(words, max_size=15))
def test_s7_a_primary_survives_any_order_of_words(joined: bool, said: list[Any]) -> None:
    with hostile_place() as place:
        made = Server(place)
        try:
            if joined:
                made.joined()
            for word in said:
                made.say(word)
            place.assert_untouched()
        finally:
            made.close()
