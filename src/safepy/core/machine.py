"""The core's one door: `step` and `next_deadline` (design-examples 4).

A sign of life that says nothing new is taken in at once (`quiet.py`). Any other step has three
parts. The event changes what it says. Then the rules that hold at every moment
(the record, the link to the secondary, the election, the plan) run until none of them changes
anything. Then what became visible is told: beats, resources, log lines, the snapshot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from safepy.model import Active, Level, Record, State

from . import (
    addresses,
    checkpoints,
    deciding,
    events,
    following,
    invariants,
    links,
    maintenance,
    operator,
    outlook,
    pairing,
    permission,
    quiet,
    rebooting,
    reconfiguring,
    records,
    requests,
    serving,
    stopping,
    switching,
)
from .commands import CloseGate, Command, SetResource
from .events import Event
from .failover import acting
from .progress import advance, step_done, worker_gone
from .state import Link, ModuleState, Params, Phase
from .turn import Turn

#: Far more rounds of the rules than any event needs: beyond it two rules undo each other.
MAX_ROUNDS = 200


def initial(params: Params, record: Record | None, now: float) -> ModuleState:
    """The state of a module when the daemon starts or its configuration was applied.

    `record` is what the state directory holds (None: never configured here). `now` is seconds on
    the clock that `step` is given. Feed a `Tick` at once: the first beats go out with it.
    """
    known = replace(
        record or Record(),
        cluster_id=params.cluster_id,
        module=params.module,
        node=params.node,
        peer=params.peer,
    )
    if records.is_unconfirmed_claim(known):
        # Told to the other node, it would call itself outdated, although it alone may have what
        # was acknowledged before (K9).
        known = records.unclaim(known)
    state = ModuleState(
        params=params,
        now=now,
        state=State.STOP,
        phase=Phase.STOPPED,
        reason=params.fault or "stopped",
        since=now,
        links=links.new(params.session, params.lanes, now),
        failover=params.failover,
        # An earlier daemon may have left them: the first step sees to it that they are gone.
        addressed=params.has_vip,
        checking=params.checking,
        resources=params.resources,
        loop=params.loop,
        fault=params.fault,
        maintenance=params.maintenance,
        record=known,
        wanted=known,
        lost_volatile=_lost_volatile(params, known),
    )
    state.due = outlook.next_moment(state)
    return state


def _lost_volatile(params: Params, record: Record) -> bool:
    """What was acknowledged but not flushed may be gone (protocol 2.1): the machine restarted, or
    a receiving worker ended with what it had not applied yet."""
    match record.active:
        case Active.NONE:
            return False
        case Active.SECONDARY:
            return True
        case Active.PRIMARY:
            return record.boot_id != params.boot_id


def step(state: ModuleState, event: Event, now: float) -> tuple[ModuleState, tuple[Command, ...]]:
    """What the module becomes when `event` happens at `now`, and what the shell must do."""
    now = max(now, state.now)
    known = quiet.taken(state, event, now)
    return whole_step(state, event, now) if known is None else (known, ())


def whole_step(
    state: ModuleState, event: Event, now: float
) -> tuple[ModuleState, tuple[Command, ...]]:
    """As `step`, whatever the event says. `now` is not before the last step."""
    t = Turn(state, now)
    if t.now - state.now > state.params.detection_s / 4:
        # The shell should have said so; nothing may expire by it in any case (K18).
        _paused(t)
    _happen(t, event)
    _settle(t)
    outlook.tell(t)
    if acting.stale(t):
        # A failover rule may be about what has just become visible.
        _settle(t)
        outlook.tell(t)
    invariants.check(t.s)
    t.s.due = outlook.next_moment(t.s)
    t.s.at_rest = quiet.at_rest(t.s) and not acting.stale(t)
    return t.s, tuple(t.out)


def _settle(t: Turn) -> None:
    for _ in range(MAX_ROUNDS):
        if not _rules(t):
            return
    raise AssertionError(f"the rules do not settle: {t.s.phase} {t.s.link} {t.s.plan[:2]}")


def next_deadline(state: ModuleState) -> float | None:
    """The moment at which the core wants a `Tick`: the next pulse, or whatever expires first.
    None: nothing does (a light module)."""
    return state.due if state.due < float("inf") else None


def _happen(t: Turn, event: Event) -> None:
    s = t.s
    match event:
        case events.Tick():
            pass
        case events.Paused():
            _paused(t)
        case events.BeatReceived():
            _beat(t, event)
        case events.LaneAddress():
            name, value = f"heartbeatlocaladdr.{event.lane}", "up" if event.present else "down"
            s.resources = {**s.resources, name: value}
            t.do(SetResource(name, value))
        case events.ActionRequested():
            requests.requested(t, event)
        case events.FailoverSet():
            switching.put(t, event.on)
            t.do(SetResource("usersetting.failover", "on" if event.on else "off"))
            reconfiguring.update(t)
        case events.PolicySet():
            operator.policy_set(t, event.policy)
        case events.SyncDue():
            operator.sync_due(t, event.on)
        case events.MaintenanceSet():
            maintenance.changed(t, event)
        case events.Reconfigured():
            reconfiguring.changed(t, event)
        case events.ResourceChanged():
            acting.changed(t, event)
        case events.SwitchSet():
            acting.switched(t, event)
            reconfiguring.update(t)
        case events.LoopChanged():
            requests.loop_changed(t, event)
        case events.StepDone():
            if not (permission.answered(t, event) or rebooting.answered(t, event)):
                step_done(t, event)
        case events.WitnessAnswered():
            permission.answered(t, event)
        case events.ReplicaHeard():
            s.replica_heard_at = t.now
        case events.ReplicaLost():
            pairing.replica_lost(t, event.epoch, event.reason)
        case events.SourceLost():
            if s.phase is Phase.FOLLOWING:
                t.announce(Level.EVENT, f"Replication from the primary is lost: {event.reason}")
        case events.CaughtUp():
            pairing.caught_up(t, event.epoch)
        case events.AdoptRequested():
            following.adopt_requested(t, event)
        case events.Joined():
            if s.serving:
                pairing.joined(t, event.epoch)
            else:
                following.joined(t, event.epoch)
        case events.ResyncFailed():
            if s.serving:
                pairing.resync_failed(t, event.epoch, event.reason)
            else:
                following.resync_failed(t, event.reason, event.fatal)
        case events.FirstModification():
            serving.first_modification(t, event.epoch)
        case events.SyncChosen():
            pairing.sync_chosen(t, event)
        case events.CheckpointWanted():
            checkpoints.wanted(t, event.epoch)
        case events.CheckpointReached():
            checkpoints.reached(t, event.epoch, event.number)
        case events.DiskFault():
            if s.serving:
                serving.disk_fault(t, event.disk, event.reason)
            else:
                following.disk_fault(t, event.disk, event.reason)
        case events.WorkerDied():
            worker_died(t, event.reason)
        case events.GateStale():
            pairing.gate_stale(t, event.epoch)
        case _:
            assert_never(event)


def worker_died(t: Turn, reason: str) -> None:
    """A worker that dies again and again is a loop as well (9.4)."""
    if t.s.phase is Phase.STOPPING:
        worker_gone(t)
    stopping.worker_died(t, reason)
    if t.s.start_again and t.s.phase is Phase.STOPPING:
        requests.count_worker_death(t)


def _beat(t: Turn, event: events.BeatReceived) -> None:
    s = t.s
    if event.beat.view.node != s.params.peer:
        # D0: whoever it is proves nothing of the other node, not even that its lane works.
        s.links = links.drop(s.links)
        return
    s.links, view = links.receive(s.links, event.lane, event.beat, t.now)
    if view is None:
        return
    s.peer = view
    if t.heard_at >= s.links.observing_since:
        s.doubt = False
    switching.heard(t, view)
    t.see_epochs(view)
    requests.heard(t)


def _paused(t: Turn) -> None:
    """This node was asleep (protocol 9; F35 to F38): forget every deadline, observe anew, and
    answer nothing until it is known that this node still leads."""
    s = t.s
    if t.now - t.heard_at > s.params.detection_s - 2 * s.params.pulse_s:
        s.doubt = True
    s.links = links.observe_anew(s.links, t.now)
    permission.start_anew(t)
    s.frozen_since = t.now
    if s.link is Link.JOINING:
        s.link_until = t.now + s.params.detection_s
    if s.plan_until is not None:
        s.plan_until = t.now + s.params.detection_s
    if s.serving and s.params.has_rfs and s.link in (Link.SOLO, Link.PAIRED):
        s.dozing_since = t.now
        t.do(CloseGate(t.epoch))


def _rules(t: Turn) -> bool:
    return (
        t.save_what_is_wanted()
        or addresses.rules(t)
        or maintenance.rules(t)
        or rebooting.rules(t)
        or permission.rules(t)
        or following.behind(t)
        or serving.rules(t)
        or following.rules(t)
        or checkpoints.rules(t)
        or operator.rules(t)
        or acting.rules(t)
        or deciding.rules(t)
        or advance(t)
    )
