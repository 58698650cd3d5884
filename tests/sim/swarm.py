"""Random bad days; `scripts/swarm --minutes N` lives them by the hour.

Act one: faults, with the safety checks after every event. Act two: the faults stop, an operator
starts what is stopped, and within a bounded time the pair must be PRIM and SECOND.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace

import ruled
from cluster import NAMES, TIMEOUT_S, Cluster
from covering import Covered, watched
from node import Node
from recovery import recovers

from safepy.core import events as e
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.state import Link, Phase
from safepy.model import Disk

ACT_ONE_S = 40.0


def arbitration_of(seed: int) -> Arbitration:
    """Half of the days have no arbiter, a fifth a witness, the others every allowed choice."""
    kinds: tuple[tuple[Arbiter, ...], ...] = (
        *((),) * 10,
        *((Arbiter.WITNESS,),) * 4,
        (Arbiter.FENCE,),
        (Arbiter.WATCHDOG,),
        (Arbiter.PING,),
        (Arbiter.WITNESS, Arbiter.FENCE),
        (Arbiter.WITNESS, Arbiter.WATCHDOG),
        (Arbiter.WITNESS, Arbiter.PING),
    )
    return Arbitration(
        required=kinds[seed // 6 % len(kinds)],
        guarded=NAMES[seed // 2 % 2],
        watchdog_s=3.0,
        freeze_limit_s=(6.0, 30.0)[seed % 2],
    )


class Day:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        lanes = ("default", "flow") if seed % 2 else ("default",)
        arbitration = arbitration_of(seed)
        #: A quarter of the days have failover rules, and checkers that find something.
        self.ruled = seed % 4 == 1
        rules = ruled.parameters() if self.ruled else {}
        self.cluster = Cluster(
            seed,
            lanes=lanes,
            arbitration=arbitration,
            has_vip=True,
            aligned_pulses=seed % 4 > 1,
            **rules,
        )
        self.rng = self.cluster.rng
        #: A third of the days may isolate the nodes totally: both may lead then (E5, E6). With a
        #: sound arbiter every day may: one of them at most goes on.
        self.may_split = seed % 3 == 0 or self.cluster.sound
        self.kind = "+".join(arbitration.required) or "none"
        self.cluster.beats = deque(maxlen=400)
        self.happened: Counter[str] = Counter()

    def run(self) -> None:
        cluster = self.cluster
        cluster.form_pair()
        end = cluster.clock.now + ACT_ONE_S
        while cluster.clock.now < end:
            cluster.run(self.rng.choice((0.01, 0.05, 0.3, 1.0, 3.0, 6.0)))
            self._fault()
        self._set_failover(True)
        recovers(cluster, self.may_split, f"seed {self.seed}")

    def _fault(self) -> None:
        node = self.cluster.nodes[self.rng.choice(NAMES)]
        fault = self.rng.choice(FAULTS)
        if fault(self, node):
            self.happened[fault.__name__] += 1

    # -- faults; each returns whether it happened --------------------------------------------------

    def _later(self, low_s: float, high_s: float, call: object) -> None:
        assert callable(call)
        self.cluster.clock.later(self.rng.uniform(low_s, high_s), lambda: call())

    def power(self, node: Node) -> bool:
        if not node.powered:
            return False
        node.power_off()
        self._later(0.5, 12.0, node.power_on)
        return True

    def daemon_kill(self, node: Node) -> bool:
        node.kill_daemon(self.rng.uniform(0.1, 6.0))
        return True

    def worker_kill(self, node: Node) -> bool:
        node.kill_worker()
        return True

    def freeze(self, node: Node) -> bool:
        if node.frozen or not node.powered:
            return False
        node.freeze()
        still, told = self.rng.random() < 0.4, self.rng.random() < 0.7
        self._later(0.3, 3 * TIMEOUT_S, lambda: node.awake(still, told))
        return True

    def stream(self, node: Node) -> bool:
        network = self.cluster.network
        if network.lanes_dead and not self.may_split:
            return False
        self.cluster.cut_stream()
        self._later(0.1, 8.0, lambda: setattr(network, "stream_cut", False))
        return True

    def lanes(self, node: Node) -> bool:
        """All lanes, in one direction or both. The stream may live on (F27)."""
        network = self.cluster.network
        if network.stream_cut and not self.may_split:
            return False
        if not self.may_split and not self.cluster.stream_lives:
            return False
        senders = self.rng.choice(((node.name,), NAMES))
        network.cut_lanes(*senders)
        self._later(0.5, 9.0, self._join_lanes)
        return True

    def _join_lanes(self) -> None:
        for lane in self.cluster.network.lanes.values():
            lane.cut.clear()

    def isolation(self, node: Node) -> bool:
        if not self.may_split:
            return False
        self.cluster.network.cut_lanes(*NAMES)
        self.cluster.cut_stream()
        # Often until the moment at which one of the two takes the lead, or both do.
        low_s, high_s = self.rng.choice(((1.0, 12.0), (TIMEOUT_S - 0.3, TIMEOUT_S + 1.2)))
        self._later(low_s, high_s, self._rejoin)
        return True

    def _rejoin(self) -> None:
        self._join_lanes()
        self.cluster.network.stream_cut = False

    def one_lane(self, node: Node) -> bool:
        lane = self.rng.choice(list(self.cluster.network.lanes.values()))
        if len(self.cluster.network.lanes) == 1:
            lane.loss = self.rng.choice((0.0, 0.1, 0.3))
            lane.duplicates = self.rng.choice((0.0, 0.2))
            lane.delay_s = (0.0002, self.rng.choice((0.002, 0.05, 0.6)))
            return True
        if any(other.cut for other in self.cluster.network.lanes.values()):
            return False
        lane.cut.update(NAMES)
        self._later(1.0, 10.0, lane.cut.clear)
        return True

    def disk_full(self, node: Node) -> bool:
        if node.state is None or node.state.serving:
            return False
        self.cluster.fails(node, power=False)
        node.disk_full, node.full_means = True, Disk.OUTDATED
        self._later(1.0, 6.0, lambda: setattr(node, "disk_full", False))
        return True

    def disk_error(self, node: Node) -> bool:
        """EIO at the primary: it hands over if the other copy is good (F43)."""
        state, worker = node.state, node.worker
        if state is None or worker is None or not state.serving or not self.cluster.quiet:
            return False
        self.cluster.fails(node, power=False)
        worker.report(e.DiskFault(worker.epoch, Disk.OUTDATED, "input/output error"))
        return True

    def record_write(self, node: Node) -> bool:
        """The record cannot be written for a while (F47)."""
        self.cluster.fails(node, power=False)
        node.record_fails = True
        self._later(0.5, 6.0, lambda: setattr(node, "record_fails", False))
        return True

    def record_write_at_the_join(self, node: Node) -> bool:
        """The record cannot be written just when the secondary has caught up."""
        state = node.state
        if state is None or not state.serving or state.link is not Link.SOLO:
            return False

        def caught_up() -> bool:
            return node.state is None or node.state.link is not Link.SOLO or not state.serving

        if not self.cluster.until(caught_up, 3.0):
            return False
        return self.record_write(node)

    def no_room(self, node: Node) -> bool:
        """What the primary has does not fit here: only a person can help (F41)."""
        state, worker = node.state, node.worker
        if state is None or worker is None or state.phase is not Phase.FOLLOWING or state.synced:
            return False
        worker.report(e.ResyncFailed(state.follow_epoch, "no space left on device", fatal=True))
        return True

    def interface_gone(self, node: Node) -> bool:
        """The virtual address cannot be set here: whoever takes the lead meanwhile stops."""
        if node.interface_gone:
            return False
        node.interface_gone = True
        self._later(1.0, 10.0, lambda: setattr(node, "interface_gone", False))
        return True

    def address_sticks(self, node: Node) -> bool:
        """The virtual address cannot be removed: a stop must not wait for it."""
        if node.address_sticks:
            return False
        node.address_sticks = True
        self._later(1.0, 10.0, lambda: setattr(node, "address_sticks", False))
        return True

    def resource(self, node: Node) -> bool:
        """A checker finds that something is down, for a while."""
        if not self.ruled:
            return False
        name = self.rng.choice(ruled.RESOURCES)
        node.checkers.becomes(name, "down")
        self._later(0.1, 8.0, lambda: node.checkers.becomes(name, "up"))
        return True

    def checker_off(self, node: Node) -> bool:
        """`safekit checker off`, for a while."""
        if not self.ruled:
            return False
        node.checkers.switch(False)
        self._later(1.0, 8.0, lambda: node.checkers.switch(True))
        return True

    def failover_off(self, node: Node) -> bool:
        """An operator wants no take-over for a while, on both nodes."""
        self._set_failover(False)
        self._later(1.0, 15.0, lambda: self._set_failover(True))
        return True

    def _set_failover(self, on: bool) -> None:
        for node in self.cluster.nodes.values():
            node.params = replace(node.params, failover=on)
            node.happen(e.FailoverSet(on))

    def replay(self, node: Node) -> bool:
        """Somebody repeats heartbeats of any age, to either node (F31)."""
        beats = list(self.cluster.beats or ())
        for sender, command in self.rng.sample(beats, min(len(beats), 20)):
            receiver = self.cluster.other(self.cluster.nodes[sender])
            self._later(0.0, 2.0, lambda r=receiver, k=command: self.cluster.deliver_beat(r, k))
        return bool(beats)

    def arbiter(self, node: Node) -> bool:
        """Witness, fencing device or router out of reach for this node, or for both."""
        arbiters = self.cluster.arbiters
        if self.kind == "none":
            return False
        cut = self.rng.choice((arbiters.witness_cut, arbiters.fence_cut, arbiters.router_cut))
        cut.update(self.rng.choice(((node.name,), NAMES)))
        arbiters.answers_lost = self.rng.choice((0.0, 0.3))
        arbiters.repeated = self.rng.choice((0.0, 0.3))
        self._later(1.0, 20.0, cut.clear)
        return True

    def slow_disk(self, node: Node) -> bool:
        node.save_s = (0.05, 1.0)
        self._later(1.0, 6.0, lambda: setattr(node, "save_s", (0.001, 0.01)))
        return True

    def slow_scripts(self, node: Node) -> bool:
        node.script_s = (0.2, 2.5)
        node.hanging = {self.rng.choice(("stop_prim", "stop_second", "stop_sec", "none"))}
        return True

    def stop(self, node: Node) -> bool:
        self.cluster.act(node.name, "stop")
        self._later(0.1, 6.0, lambda: self.cluster.act(node.name, "start"))
        return True

    def stopstart(self, node: Node) -> bool:
        self.cluster.act(node.name, "stopstart")
        return True

    def restart(self, node: Node) -> bool:
        self.cluster.act(node.name, "restart")
        return True

    def swap(self, node: Node) -> bool:
        self.cluster.act(node.name, "swap")
        return True

    def nothing(self, node: Node) -> bool:
        self.cluster.run(self.rng.uniform(1.0, 8.0))
        return True


FAULTS = (
    Day.power,
    Day.daemon_kill,
    Day.worker_kill,
    Day.freeze,
    Day.stream,
    Day.lanes,
    Day.isolation,
    Day.one_lane,
    Day.disk_full,
    Day.disk_error,
    Day.record_write,
    Day.record_write_at_the_join,
    Day.no_room,
    Day.failover_off,
    Day.resource,
    Day.resource,
    Day.checker_off,
    Day.interface_gone,
    Day.address_sticks,
    Day.replay,
    Day.arbiter,
    Day.slow_disk,
    Day.slow_scripts,
    Day.stop,
    Day.stopstart,
    Day.restart,
    Day.swap,
    Day.nothing,
)


@dataclass
class Outcome:
    """What some days brought."""

    lived: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    splits: int = 0
    covered: Covered = field(default_factory=Covered)

    def add(self, other: Outcome) -> None:
        self.lived += other.lived
        self.broken |= other.broken
        self.happened += other.happened
        self.writes += other.writes
        self.splits += other.splits
        self.covered.add(other.covered)

    def report(self) -> str:
        faults = ", ".join(f"{name} {number}" for name, number in self.happened.most_common())
        return (
            f"{self.covered.report()}\n{faults}\n{self.lived} days, {len(self.broken)} broken, "
            f"{self.writes} writes, {self.splits} with a split brain"
        )


def days(first: int, count: int) -> Outcome:
    """Live the days of `count` seeds from `first` on."""
    with watched() as covered:
        outcome = Outcome(covered=covered)
        for seed in range(first, first + count):
            day = Day(seed)
            try:
                day.run()
            except AssertionError as error:
                outcome.broken[seed] = str(error)
            outcome.lived += 1
            outcome.happened.update(day.happened)
            outcome.writes += day.cluster.checks.acknowledged_count
            outcome.splits += bool(day.cluster.checks.splits)
    return outcome
