"""Two virtual nodes, a network, clients that write, and checks after everything that happens."""

from __future__ import annotations

import random
from collections import deque

from arbiters import Arbiters
from checks import Checks
from clock import Clock
from network import Network
from node import Node
from twin import Stream, Worker, Write

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core.arbitration import Arbitration
from safepy.core.state import Lane, ModuleState, Params
from safepy.core.turn import status_of
from safepy.model import Record, State, Status

PULSE_S = 0.5
TIMEOUT_S = 4.0
NAMES = ("n1", "n2")


class Cluster:
    def __init__(
        self,
        seed: int,
        lanes: tuple[str, ...] = ("default",),
        write_every_s: float = 0.2,
        **params: object,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, lanes)
        self.write_every_s = write_every_s
        self.sync_s = (0.2, 1.5)
        #: Which part of the writes is followed by an fsync.
        self.stable_share = 0.25
        #: A commit of the intent log, a flush of a tree, the time between checkpoints.
        self.commit_s = (0.001, 0.01)
        self.flush_s = (0.002, 0.1)
        self.checkpoint_s = 2.0
        self.checks = Checks(self)
        self.arbiters = Arbiters(self)
        arbitration = params.get("arbitration", Arbitration())
        assert isinstance(arbitration, Arbitration)
        #: At most one node can go on alone (P3).
        self.has_rfs = bool(params.get("has_rfs", True))
        self.sound = arbitration.sound and self.has_rfs
        self.numbers = 0
        self.resources: list[tuple[float, str, str]] = []
        self.beats: list[tuple[str, c.SendBeat]] | deque[tuple[str, c.SendBeat]] | None = None
        self.story: list[tuple[float, str, str]] = []
        self.nodes: dict[str, Node] = {}
        for name, peer in (NAMES, NAMES[::-1]):
            base = Params(
                module="AM",
                node=name,
                peer=peer,
                cluster_id="sim",
                lanes=tuple(Lane(lane, PULSE_S, TIMEOUT_S) for lane in lanes),
                session="",
                boot_id="",
                nicestop_s=3.0,
                forcestop_s=3.0,
                **params,  # type: ignore[arg-type]
            )
            self.nodes[name] = Node(self, base)
        for node in self.nodes.values():
            node.start_daemon()
            self._client(node)

    def other(self, node: Node) -> Node:
        return self.nodes[node.params.peer]

    # -- clients ---------------------------------------------------------------------------------

    def _client(self, node: Node) -> None:
        """Writes one number after the other through this node's mount, when there is one."""

        def again() -> None:
            self.clock.later(self.rng.uniform(0.5, 1.5) * self.write_every_s, attempt)

        def attempt() -> None:
            worker = node.worker
            if self.write_every_s <= 0 or node.frozen or worker is None:
                self.clock.later(0.3, attempt)
                return
            if worker.role != "serving" or not worker.alive:
                self.clock.later(0.3, attempt)
                return
            self.numbers += 1
            worker.write(
                Write(self.numbers, self.rng.random() < self.stable_share, lambda ok: again())
            )

        self.clock.later(0.1, attempt)

    # -- what nodes do ---------------------------------------------------------------------------

    def beat(self, sender: Node, command: c.SendBeat) -> None:
        receiver = self.other(sender)
        if self.beats is not None:
            self.beats.append((sender.name, command))
        self.network.send(
            command.lane,
            sender.name,
            lambda: self.deliver_beat(receiver, command),
        )

    def deliver_beat(self, receiver: Node, command: c.SendBeat) -> None:
        if receiver.powered and receiver.state is not None:
            receiver.happen(e.BeatReceived(command.lane, command.beat))

    def connect(self, follower: Worker, follow: c.Follow) -> bool:
        """The follower dials: whether the source took it."""
        source = self.other(follower.node).worker
        if self.network.stream_cut or source is None or not source.usable():
            return False
        if source.objection(follow.epoch):
            if source.role == "serving" and follow.epoch > source.epoch:
                source.report(e.GateStale(follow.epoch))
            return False
        source.take_follower(Stream(source, follower, follow.epoch))
        return True

    def break_stream(self, stream: Stream) -> None:
        """Each end notices by itself, later; a dead end does not."""
        if stream.broken:
            return
        stream.broken = True
        for end in (stream.source, stream.follower):
            delay_s = self.rng.uniform(*self.network.stream_notice_s)
            end.node.later(delay_s, lambda end=end: end.stream_broken(stream))

    def cut_stream(self) -> None:
        self.network.stream_cut = True
        for node in self.nodes.values():
            if node.worker is not None and node.worker.stream is not None:
                self.break_stream(node.worker.stream)

    @property
    def isolated(self) -> bool:
        """No lane works both ways, and no stream lives: neither node can tell this from the
        death of the other, and with nothing configured (E6) both may lead."""
        return self.network.lanes_dead and not self.stream_lives

    @property
    def stream_lives(self) -> bool:
        """A stream between two workers that are in sync: the lanes are not all there is."""
        return not self.network.stream_cut and all(
            node.worker is not None
            and node.worker.stream is not None
            and not node.worker.stream.broken
            and (node.worker.joined or node.worker.second)
            for node in self.nodes.values()
        )

    # -- what checks hear ------------------------------------------------------------------------

    def stepped(self, node: Node, before: ModuleState, after: ModuleState) -> None:
        self.checks.stepped(node, before, after)

    def saved(self, node: Node, old: Record, new: Record) -> None:
        self.checks.saved(node, old, new)

    def acknowledged(self, node: Node, write: Write) -> None:
        self.checks.acknowledged(node, write)

    def fails(self, node: Node, power: bool) -> None:
        self.checks.fails(node, power)

    def resource(self, node: Node, command: c.SetResource) -> None:
        self.resources.append((self.clock.now, node.name, f"{command.name}={command.value}"))

    def noted(self, node: Node, text: str) -> None:
        self.story.append((self.clock.now, node.name, text))

    # -- verbs of tests --------------------------------------------------------------------------

    def act(self, name: str, action: str, who: str = "root", identity: str = "") -> None:
        self.nodes[name].happen(e.ActionRequested(action, who, identity))

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds, self.checks.after_each)

    def until(self, condition: object, at_most_s: float) -> bool:
        """Run until the callable holds, at most so long."""
        assert callable(condition)
        end = self.clock.now + at_most_s
        while self.clock.now < end:
            if condition():
                return True
            self.run(0.1)
        return bool(condition())

    def is_shown(self, name: str, state: State, status: Status = Status.READY) -> bool:
        node = self.nodes[name]
        return (
            node.state is not None
            and not node.frozen
            and node.state.state is state
            and status_of(node.state) is status
        )

    def pair_ready(self) -> bool:
        first, second = NAMES
        return any(
            self.is_shown(a, State.PRIM) and self.is_shown(b, State.SECOND)
            for a, b in ((first, second), (second, first))
        )

    @property
    def quiet(self) -> bool:
        """In sync over a live stream, with nothing under way; without files always."""
        if not self.has_rfs:
            return True
        return self.stream_lives and not any(
            node.worker is None or node.worker.pending or node.worker.received
            for node in self.nodes.values()
        )

    def form_pair(self) -> None:
        """First start: n1 primary, n2 secondary."""
        self.act("n1", "prim")
        self.act("n2", "start")
        assert self.until(
            lambda: self.is_shown("n1", State.PRIM) and self.is_shown("n2", State.SECOND), 60
        ), self.tail()

    def tail(self, lines: int = 60) -> str:
        return "\n".join(f"{t:8.2f} {n} {text}" for t, n, text in self.story[-lines:])
