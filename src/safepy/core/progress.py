"""The plan's front: hand a step out, take its result, go on with the next one."""

from __future__ import annotations

from typing import assert_never

from safepy.model import Active, Disk, Level, State

from . import addresses, commands, following, plans, records, requests, serving, stopping
from .events import ActionRequested, StepDone
from .failover import acting
from .plans import Address, Await, Callback, Save, Script, Then, Watch, Work
from .restarts import FAULT
from .state import FROZEN, Link, Params, Phase
from .transitions import Cause
from .turn import Turn

#: Steps that the worker answers.
BY_WORKER = (Work.SERVE, Work.QUIESCE, Work.DEMOTE, Work.FOLLOW, Work.STOP_FOLLOWING)


def advance(t: Turn) -> bool:
    """Bring the first step of the plan forward, if that is possible now."""
    s = t.s
    if not s.plan or s.running:
        return False
    step = s.plan[0]
    match step:
        case Script():
            return _script(t, step)
        case Callback():
            return _callback(t, step)
        case Watch():
            acting.watch(t, step)
            return _next(t)
        case Work():
            return _work(t, step)
        case Address():
            return _address(t, step)
        case Save():
            return _save(t, step)
        case Await():
            return _await(t, step)
        case Then():
            return _then(t, step)
        case _:
            assert_never(step)


def _next(t: Turn) -> bool:
    s = t.s
    s.plan = s.plan[1:]
    s.running = 0
    s.plan_version = 0
    s.plan_until = None
    return True


def step_done(t: Turn, event: StepDone) -> None:
    """A result. That of a step of an abandoned plan is of no interest, but a script that still
    ran has ended, and a record that is on the disk is on the disk."""
    s = t.s
    if event.step_id == s.save_step and s.saving is not None:
        _saved(t, event)
        return
    if event.step_id == s.script:
        s.script = 0
    if event.step_id == s.removing:
        addresses.removed(t, event)
    if event.step_id != s.running or not s.plan:
        return
    step = s.plan[0]
    _next(t)
    if isinstance(step, Work):
        _worked(t, step, event)
    elif step is Address.SET:
        addresses.was_set(t, event)
    elif isinstance(step, Script):
        if step.force and not event.ok:
            s.failed_stops |= {step.name}
    elif isinstance(step, Callback):
        following.called_back(t, step.event, event)


def worker_gone(t: Turn) -> None:
    """A step that the dead worker was carrying out has failed."""
    s = t.s
    if s.running and s.plan and s.plan[0] in BY_WORKER:
        step_done(t, StepDone(s.running, False, "the replication process died"))


def _saved(t: Turn, event: StepDone) -> None:
    s = t.s
    if event.ok:
        t.saved()
        return
    s.saving = None
    s.save_step = 0
    s.record_broken = True
    s.wanted = records.see(s.record, s.wanted.promised)
    stopping.local_fault(t, f"The generation record cannot be written: {event.detail}")


# Scripts.


def _script(t: Turn, step: Script) -> bool:
    s = t.s
    if not s.params.has_scripts:
        s.ran = plans.ran_by(step, s.ran)
        return _next(t)
    if s.script and t.now < s.script_until:
        return False  # A script of an abandoned plan still runs; it gets the time of a stop.
    if step.again and step.name not in s.failed_stops:
        return _next(t)
    s.ran = plans.ran_by(step, s.ran)
    number = t.new_id()
    arguments: tuple[str, ...] = (step.current.value, step.next.value)
    if step.action:
        arguments += (step.action,)
    if step.services:
        arguments += ("-Services", step.services)
    limit = _limit_s(s.params, step)
    t.do(commands.RunScript(number, step.name, arguments, step.force, limit))
    s.running = number
    s.script = number
    s.script_until = t.now + s.params.nicestop_s
    return True


def _limit_s(params: Params, step: Script) -> float | None:
    """How long it may take (reference 10.5). Nothing that stands in the way of a stop may take for
    ever; a start script may take as long as the application does."""
    if step.name.startswith("stop_"):
        return params.forcestop_s if step.force else params.nicestop_s
    if step.name in ("poststop", "update"):
        return params.nicestop_s
    stops = step.current is not State.STOP and step.next in (State.WAIT, State.STOP)
    return params.nicestop_s if stops else None


def _callback(t: Turn, step: Callback) -> bool:
    s = t.s
    if not (s.params.callbacks and s.params.has_rfs):
        return _next(t)
    if s.script and t.now < s.script_until:
        return False
    number = t.new_id()
    limit = s.params.nicestop_s
    t.do(commands.RunScript(number, "_rfs_callback", (step.event,), timeout_s=limit))
    s.running = number
    s.script = number
    s.script_until = t.now + limit
    return True


# The worker and the mounts.


def _work(t: Turn, step: Work) -> bool:
    s = t.s
    if not s.params.has_rfs:
        s.quiesced = s.quiesced or step is Work.QUIESCE
        return _next(t)
    if step is Work.FOLLOW and t.view is None:
        # The source is gone before we dialled it; the rules of FOLLOWING see to it.
        s.following = False
        return _next(t)
    if step is Work.UNCOVER and s.start_again:
        return _next(t)  # It starts again at once: the bare directory must not show (I18).
    number = t.new_id()
    s.running = number
    epoch = t.epoch
    match step:
        case Work.COVER:
            t.do(commands.Cover(number))
        case Work.UNCOVER:
            t.do(commands.Uncover(number))
        case Work.START_WORKER:
            t.do(commands.StartWorker(number))
        case Work.STOP_WORKER:
            s.worker = False
            t.do(commands.StopWorker(number))
        case Work.SERVE:
            t.do(commands.Serve(number, epoch))
        case Work.QUIESCE:
            t.do(commands.Quiesce(number, epoch))
        case Work.DEMOTE:
            t.do(commands.Demote(number, epoch))
        case Work.FOLLOW:
            policy = s.follow_policy
            restored = policy.mode == "external" and not policy.detect
            t.do(commands.Follow(number, s.follow_epoch, s.keep_aside, restored))
        case Work.STOP_FOLLOWING:
            t.do(commands.StopFollowing(number, epoch))
        case _:
            assert_never(step)
    return True


#: What people read when a step fails.
_FAILED = {
    Work.COVER: "The replicated directories cannot be taken over",
    Work.START_WORKER: "The replication process cannot be started",
    Work.SERVE: "The replicated directories cannot be served",
    Work.DEMOTE: "The replicated directories are not released",
    Work.STOP_WORKER: "The replication process does not end",
    Work.UNCOVER: "The replicated directories are not released",
}


def _worked(t: Turn, step: Work, event: StepDone) -> None:
    """What a result of the worker or the mounts means."""
    s = t.s
    match step:
        case Work.COVER | Work.SERVE:
            if not event.ok:
                stopping.local_fault(t, f"{_FAILED[step]}: {event.detail}")
        case Work.START_WORKER:
            s.worker = event.ok
            if not event.ok:
                stopping.local_fault(t, f"{_FAILED[step]}: {event.detail}")
        case Work.QUIESCE:
            s.quiesced = event.ok
            if not event.ok:
                t.announce(Level.EVENT, f"The hand-over is not clean: {event.detail}")
        case Work.STOP_FOLLOWING:
            s.following = False
            if not event.ok and s.wanted.disk is Disk.UPTODATE and s.phase is not Phase.LEADING:
                t.announce(Level.CRITICAL, f"What was received cannot be applied: {event.detail}")
                stopping.received_is_lost(t)
        case Work.FOLLOW:
            if not event.ok:
                t.announce(Level.EVENT, f"Following failed: {event.detail}")
                s.following = False
                s.follow_after = t.now + s.params.detection_s / 3
        case Work.DEMOTE | Work.STOP_WORKER | Work.UNCOVER:
            if not event.ok:
                t.announce(Level.EVENT, f"{_FAILED[step]}: {event.detail}")
        case _:
            assert_never(step)


def _address(t: Turn, step: Address) -> bool:
    number = addresses.step(t, step)
    if number is None:
        return False
    if number == 0:
        return _next(t)
    t.s.running = number
    return True


# The record.


def _save(t: Turn, step: Save) -> bool:
    s = t.s
    if s.plan_version:
        if t.durable(s.plan_version) or s.record_broken:
            return _next(t)
        return False
    if s.record_broken:
        return _next(t)
    params = s.params
    match step:
        case Save.LEAD:
            record = records.lead(
                s.wanted, params.session, params.boot_id, s.lead_same, s.lead_forced
            )
            s.lost_volatile = False
        case Save.TAKE_OVER:
            if not following.still_entitled(t):
                s.phase = Phase.FOLLOWING
                s.synced = False
                t.begin(())
                return True
            record = records.take_over(s.wanted, params.session, params.boot_id)
            s.lost_volatile = False
        case Save.FOLLOW:
            record = records.follow(s.wanted, s.follow_epoch, params.boot_id, params.has_rfs)
        case Save.OUTDATED:
            record = records.outdated(s.wanted) if params.has_rfs else s.wanted
        case Save.STEPPED_DOWN:
            record = s.wanted
        case Save.NEW_EPOCH:
            if s.link is not Link.SOLO:
                return _next(t)  # The link has changed the epoch, or is about to.
            record = records.renumber(s.wanted)
        case Save.STOPPED:
            stopped = stopping.stopped_record(t)
            if s.serving:
                serving.shut(t)
            if stopped is None:
                return _next(t)
            record = stopped
        case _:
            assert_never(step)
    s.plan_version = t.want(record)
    return True


# Waiting for the other node.


def _await(t: Turn, step: Await) -> bool:
    s = t.s
    match step:
        case Await.LINK_SETTLED:
            if s.link in FROZEN or s.link in (Link.RECORDING, Link.JOINING):
                return False
            return _next(t)
        case Await.PRIMARY_GOES_ON:
            if s.plan_until is None:
                s.plan_until = t.now + s.params.detection_s
                return True
            view = t.view
            known = s.wanted.disk is not Disk.UPTODATE
            gone = view is None or view.state not in (State.ALONE, State.PRIM)
            if known or gone or t.now >= s.plan_until:
                return _next(t)
            return False
        case _:
            assert_never(step)


# Turning points.


def _then(t: Turn, step: Then) -> bool:
    s = t.s
    match step:
        case Then.SWAP_POINT:
            return serving.swap_point(t)
        case Then.DECIDE:
            s.phase = Phase.DECIDING
        case Then.OPEN_GATE:
            _open_gate(t)
        case Then.UP:
            t.enter(State.UP, Phase.LEADING, Cause.NO_PEER)
        case Then.WAIT:
            serving.shut(t)
            if s.state is not State.WAIT:
                t.enter(State.WAIT, Phase.STOPPING, s.stop_cause)
        case Then.FOLLOW:
            s.phase = Phase.FOLLOWING
            s.synced = s.following = False
            s.transition_called = True
        case Then.READY:
            s.app_ready = True
            s.acting = ("", "")
        case Then.STOPPED:
            _next(t)
            _stopped(t)
            return True
        case _:
            assert_never(step)
    return _next(t)


def _open_gate(t: Turn) -> None:
    s = t.s
    serving.open_gate(t)
    if s.phase is Phase.TAKING_OVER:
        t.enter(State.ALONE, Phase.LEADING, s.take_over_cause)
    elif s.state is State.WAIT:
        t.enter(State.ALONE, Phase.LEADING, Cause.ELECTED)


def _stopped(t: Turn) -> None:
    s = t.s
    if s.loop_stop:
        t.announce(Level.CRITICAL, "Action stop called by maxloop")
        s.fault = "stopped by maxloop: a detector asked for too many restarts"
    t.enter(State.STOP, Phase.STOPPED, Cause.ENDED)
    if s.fault:
        s.reason = s.fault
        t.do(commands.SetResource(FAULT, s.fault))
    s.handing_over = False
    s.follow_after = 0.0
    if s.wanted.active is Active.NONE:
        s.lost_volatile = False
    if s.start_again:
        s.start_again = False
        requests.requested(t, ActionRequested("start", who="automatically"))
