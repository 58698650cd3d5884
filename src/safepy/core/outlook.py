"""What the node tells: beats, resources, log lines of what became visible; and when to wake."""

from __future__ import annotations

from safepy.model import Beat, Level, State

from . import links, operator, permission, rebooting
from .arbitration import Arbiter
from .commands import DisarmWatchdog, FeedWatchdog, Publish, SendBeat, SetResource
from .failover import acting
from .plans import Await, Script
from .state import FROZEN, Link, ModuleState, Phase
from .turn import SYNCDELTA_S_MIN, Turn, status_of, uptodate, view_of


def tell(t: Turn) -> None:
    """Compare with what was told last, and tell the differences."""
    _lanes(t)
    _remote(t)
    _local(t)
    _publish(t)
    _watchdog(t)
    _beats(t)


def _watchdog(t: Turn) -> None:
    """The watchdog of the node that has one (E4) is armed while this node may believe that it has
    the right to serve, and fed only while it hears the other one."""
    s = t.s
    arbitration = s.params.arbitration
    if Arbiter.WATCHDOG not in arbitration.required or arbitration.guarded != s.params.node:
        return
    if s.link is Link.SOLO and not s.synced:
        if s.fed_at is not None:
            s.fed_at = None
            t.do(DisarmWatchdog())
        return
    due = s.fed_at is None or t.now >= s.fed_at + s.params.pulse_s / 2
    if due and not t.peer_lost:
        s.fed_at = t.now
        t.do(FeedWatchdog(arbitration.watchdog_s))


#: Who says so, where it is not heart, in the words of the reference (15.4).
WHO = {"rfs.degraded": "nfsadmin"}


def _set(t: Turn, name: str, value: str) -> None:
    _set_all(t, {name: value})


def _set_all(t: Turn, values: dict[str, str]) -> None:
    told = t.s.told_resources
    changed = {name: value for name, value in values.items() if told.get(name) != value}
    if not changed:
        return
    t.s.told_resources = {**told, **changed}
    for name, value in changed.items():
        t.do(SetResource(name, value, WHO.get(name, "heart")))


def _lanes(t: Turn) -> None:
    s = t.s
    if not s.links.lanes:
        return
    for index, lane in enumerate(s.links.lanes):
        up = t.now < links.lane_expires_at(s.links, lane)
        if up and lane.proof_at == float("-inf"):
            continue  # Never heard yet, and not yet overdue: unknown.
        if up is not lane.up:
            s.links = links.with_lane_shown(s.links, index, up)
        _set(t, f"heartbeat.{lane.lane.ident}", "up" if up else "down")
    dead_since = max(links.lane_expires_at(s.links, lane) for lane in s.links.lanes)
    dead = t.now >= dead_since
    if dead and s.replica_heard_at >= dead_since and not s.lanes_dead_told:
        t.announce(Level.CRITICAL, "All heartbeats are down, the replication stream lives")
        s.lanes_dead_told = True
    if not dead:
        s.lanes_dead_told = False


def _remote(t: Turn) -> None:
    s = t.s
    view = t.view
    if view is not None:
        remote = f"{view.state} {view.status}"
    elif t.peer_lost and s.links.lanes:
        remote = "UNKNOWN"
    else:
        return
    if remote != s.told_remote:
        s.told_remote = remote
        t.announce(Level.EVENT, f"Remote state {remote}")
        _set(t, "state.remote", remote)


def _local(t: Turn) -> None:
    s = t.s
    local = f"{s.state} {status_of(s)}"
    if local != s.told_local:
        if s.told_local:
            t.announce(Level.EVENT, f"Local state {local}")
        s.told_local = local
        _set(t, "state.local", local)
    values: dict[str, str] = {}
    if not s.params.light:
        values["usersetting.failover"] = "on" if s.failover else "off"
    if s.params.has_rfs:
        values["rfs.uptodate"] = uptodate(s)
        values |= operator.resources(t)
    if s.told_rules is not s.rules_true:
        s.told_rules = s.rules_true
        values |= acting.resources(s)
    values |= permission.uptodate(s)
    values["usersetting.checker"] = "on" if s.checking else "off"
    _set_all(t, values)
    if not s.loop.count:
        _set(t, "heart.maxloop", "false")


def _publish(t: Turn) -> None:
    s = t.s
    shown = (
        s.told_local,
        s.told_remote,
        s.reason,
        s.acting,
        s.blocked,
        s.remedy,
        s.record,
        s.sync_mode,
        s.sync_reason,
        s.maintenance,
        tuple(lane.up for lane in s.links.lanes),
    )
    if shown != s.told_shown:
        s.told_shown = shown
        t.do(Publish())


def _beats(t: Turn) -> None:
    """Every pulse on every lane, and at once on all of them when the view changed."""
    s = t.s
    view = view_of(s)
    if view.gives_way != s.told_held:
        s.told_held, s.held_at = view.gives_way, t.now
    changed = view != s.told_view
    s.links, sent = links.send(s.links, t.now, everywhere=changed, aligned=s.params.aligned_pulses)
    if changed or s.told_view is None:
        s.told_view = view
    session, view = s.links.session, s.told_view
    for beat in sent:
        said = Beat(session, beat.counter, beat.echo_session, beat.echo_counter, view)
        t.do(SendBeat(beat.lane, said))


def next_moment(s: ModuleState) -> float:
    """The first moment at which something is due or expires; infinity: nothing is (a light
    module). Always in the future, except for a pulse that is due now because nothing was ever
    sent."""
    moments = [links.next_moment(s.links)]
    if s.serving and s.params.has_rfs and s.link in (Link.SOLO, Link.PAIRED):
        moments.append(s.renew_at)
    moments.append(links.lost_at(s.links, s.replica_heard_at))
    moments.append(s.links.observing_since + 4 * s.params.pulse_s)
    if s.link in FROZEN or s.link is Link.JOINING:
        moments.append(s.link_until)
    if s.inquiry is not None:
        moments.append(s.inquiry.ask_at)
    moments.append(s.pair_after)
    if s.plan and isinstance(s.plan[0], Script) and s.script and not s.running:
        moments.append(s.script_until)
    if s.plan and isinstance(s.plan[0], Await) and s.plan_until is not None:
        moments.append(s.plan_until)
    if s.phase in (Phase.FOLLOWING, Phase.DECIDING):
        moments.append(s.follow_after)
    if s.address_left and not s.serving:
        moments.append(s.address_again)
    if s.request:
        moments.append(s.request_until)
    if s.maintenance is not None:
        moments.append(s.maintenance.until)
    moments.append(rebooting.due(s))
    moments += acting.next_moments(s)
    if s.params.syncdelta_s > SYNCDELTA_S_MIN:
        moments.append(s.stamp_at)
    return min((moment for moment in moments if moment > s.now), default=s.now)


def stopped(s: ModuleState) -> bool:
    return s.state is State.STOP
