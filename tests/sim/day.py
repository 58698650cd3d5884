"""One random bad day: how the nodes are configured, and the faults of act one, with the safety
checks after every event. Act two: the faults stop, an operator starts what is stopped, and within a
bounded time the pair must be PRIM and SECOND (`recovery.py`).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import replace

import ruled
from cluster import NAMES, TIMEOUT_S, Cluster
from node import Node
from recovery import both_up, recovers

from safepy.core import events as e
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.state import Link, Phase
from safepy.model import Disk, State

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


def without_files(rng: random.Random) -> Arbitration:
    """Nothing is replicated: a witness address is all that can be asked (reference 7.5)."""
    return Arbitration((Arbiter.PING,) if rng.random() < 0.5 else (), freeze_limit_s=6.0)


def _shipped(rng: random.Random, arbitration: Arbitration) -> ruled.Rules:
    return ruled.shipped(arbitration)


def _takes_a_configuration(node: Node) -> bool:
    state = node.state
    if state is None or node.frozen or not node.powered:
        return False
    if state.state is State.ALONE:
        return state.app_ready and not state.plan
    return state.state is State.WAIT and bool(state.blocked)


class Day:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        settings = random.Random(f"settings of {seed}")
        #: Of a light module: each node for itself.
        self.light = settings.random() < 0.03
        #: A fifth of the others replicate nothing; where they ask, they ask a witness address.
        has_rfs = not self.light and settings.random() < 0.8
        arbitration = arbitration_of(seed) if has_rfs else without_files(settings)
        if self.light:
            arbitration = Arbitration()
        #: A third of the days have checkers that find something, and failover rules about it.
        ruled_day = settings.random() < 0.35
        self.rules = (ruled.drawn if ruled_day else _shipped)(settings, arbitration)
        lanes = ("default", "flow") if seed % 2 else ("default",)
        self.cluster = Cluster(
            seed,
            lanes=() if self.light else lanes,
            arbitration=arbitration,
            has_rfs=has_rfs,
            has_vip=not self.light,
            aligned_pulses=seed % 4 > 1,
            mode="light" if self.light else "mirror",
            defaultprim=settings.choice(("alone", "alone", "alone", "n1", "lastprim")),
            automatic_reboot=settings.random() < 0.2,
            callbacks=has_rfs and settings.random() < 0.2,
            **self.rules.parameters(),
        )
        self.rng = self.cluster.rng
        #: A third of the days may isolate the nodes totally: both may lead then (E5, E6). With a
        #: sound arbiter every day may: one of them at most goes on.
        self.may_split = seed % 3 == 0 or self.cluster.sound
        self.kind = "+".join(arbitration.required) or "none"
        self.cluster.beats = deque(maxlen=400)
        self.happened: Counter[str] = Counter()
        self.recovery_s = 0.0

    def run(self) -> None:
        cluster = self.cluster
        if self.light:
            for name in NAMES:
                cluster.act(name, "start")
        else:
            cluster.form_pair()
        end = cluster.clock.now + ACT_ONE_S
        while cluster.clock.now < end:
            cluster.run(self.rng.choice((0.01, 0.05, 0.3, 1.0, 3.0, 6.0)))
            self._fault()
        self._set_failover(True)
        act_two = both_up if self.light else recovers
        self.recovery_s = act_two(cluster, self.may_split, f"seed {self.seed}")

    def _fault(self) -> None:
        node = self.cluster.nodes[self.rng.choice(NAMES)]
        fault = self.rng.choice(LIGHT_FAULTS if self.light else FAULTS)
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
        if not self.rules.resources:
            return False
        name = self.rng.choice(self.rules.resources)
        node.checkers.becomes(name, "down")
        self._later(0.1, 8.0, lambda: node.checkers.becomes(name, "up"))
        return True

    def checker_off(self, node: Node) -> bool:
        """`safekit checker off`, for a while."""
        if not self.rules.resources:
            return False
        node.checkers.switch(False)
        self._later(1.0, 8.0, lambda: node.checkers.switch(True))
        return True

    def failover_off(self, node: Node) -> bool:
        """An operator wants no take-over for a while; now and then one node is forgotten."""
        # A coin of its own: the rest of the day stays as it is.
        moment = repr(self.cluster.clock.now)
        forgotten = random.Random(moment).choice(("", "", *self.cluster.nodes))
        self._set_failover(False, forgotten)
        self._later(1.0, 15.0, lambda: self._set_failover(True))
        return True

    def _set_failover(self, on: bool, forgotten: str = "") -> None:
        for node in self.cluster.nodes.values():
            if node.name == forgotten:
                continue
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

    def maintenance(self, node: Node) -> bool:
        """An administrator works on a node for a while: nothing happens there by itself."""
        until = node.clock_now() + self.rng.uniform(1.0, 12.0)
        node.happen(e.MaintenanceSet(until, "", "root"))
        return True

    def maintenance_off(self, node: Node) -> bool:
        if node.state is None or node.state.maintenance is None:
            return False
        node.happen(e.MaintenanceSet(None, "", "root"))
        return True

    def reconfigure(self, node: Node) -> bool:
        """Another timeout while the module runs, on both nodes, one after the other; only where a
        configuration may be applied (reference 18.3)."""
        nodes = (node, self.cluster.other(node))
        if not all(_takes_a_configuration(each) for each in nodes):
            return False
        for each in nodes:
            factor = 1.25 if each.params.config_digest != "slower" else 0.8
            each.params = replace(
                each.params,
                lanes=tuple(
                    lane._replace(timeout_s=factor * lane.timeout_s) for lane in each.params.lanes
                ),
                config_digest="slower" if factor > 1 else "",
            )
        node.reconfigured()
        late, run = nodes[1], nodes[1].runs

        def too() -> None:
            if late.runs == run:  # A daemon that starts meanwhile has it already.
                late.reconfigured()

        self._later(0.0, 2.0, too)
        return True

    def script_fails(self, node: Node) -> bool:
        """Its exit code is told, and nothing follows from it but what the reference says."""
        node.failing = {self.rng.choice(("start_prim", "start_both", "stop_prim", "start_second"))}
        self._later(1.0, 8.0, node.failing.clear)
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
    Day.maintenance,
    Day.maintenance_off,
    Day.reconfigure,
    Day.script_fails,
    Day.nothing,
)


#: Those that need no other node, no files and no address.
LIGHT_FAULTS = (
    Day.power,
    Day.daemon_kill,
    Day.freeze,
    Day.record_write,
    Day.resource,
    Day.resource,
    Day.checker_off,
    Day.slow_scripts,
    Day.script_fails,
    Day.stop,
    Day.stopstart,
    Day.restart,
    Day.maintenance,
    Day.maintenance_off,
    Day.nothing,
)
