"""Wishes: of an administrator, of a detector, of the other node."""

from __future__ import annotations

from safepy.model import Level, State

from . import maintenance, operator, plans, rebooting, restarts, serving, stopping
from .commands import SetResource
from .events import ActionRequested, LoopChanged
from .state import Link, Phase
from .transitions import Cause
from .turn import Turn

#: What detectors may ask for only so often (9.4). Of swap the reference does not say it; without
#: an end two nodes could exchange their roles for ever.
COUNTED = ("restart", "stopstart", "wait", "swap")
STARTS = ("start", "prim", "primforce", "second", "secondforce")
#: What the other node is asked for: by an administrator here, or by a detector.
SWAP, SWAP_DETECTED = "swap", "swap-detected"
#: A request to the other node is repeated in the beats for so many pulses.
REQUEST_PULSES = 20


def requested(t: Turn, event: ActionRequested) -> None:
    """Log the wish in the words of the reference (15.4), then carry it out if it fits."""
    s = t.s
    if maintenance.suspends(t, event):
        return
    if event.because:
        t.remember(event.because)
    t.announce(_level(event), _sentence(event))
    if not event.identity:
        if not _by_itself(event.who):
            s.acting = ("", "")
        if not _by_itself(event.who) and s.loop.count:
            set_loop(t, restarts.reset(t.now))
    elif event.action in COUNTED and _too_often(t):
        return
    match event.action:
        case action if action in STARTS:
            if start(t, action):
                operator.wished(t, event)
        case "stop" | "shutdown":
            stopping.begin(t, "stop", start_again=False)
        case "stopstart":
            if not (event.identity and rebooting.instead(t, event)):
                stopping.begin(t, "stopstart", start_again=True)
        case "wait":
            # As far as WAIT again, where the rule that asked for it holds the module.
            stopping.begin(t, "stopwait", start_again=True)
        case "restart":
            _restart(t, event.services)
        case "swap":
            swap(t, detected=bool(event.identity))
        case _:
            t.announce(Level.EVENT, f"Unknown action {event.action}")


def _level(event: ActionRequested) -> Level:
    if event.identity:
        return Level.CRITICAL
    return Level.EVENT if event.who == "automatically" else Level.USER


def _sentence(event: ActionRequested) -> str:
    if event.action == "shutdown":  # of the machine or by command: the same words
        return f"Action shutdown called by {'root' if _by_itself(event.who) else event.who}"
    if _by_itself(event.who):
        return f"Action {event.action} called {event.who}"
    if by_rule(event.who):
        return f"Action {event.action} from {event.who}"
    return f"Action {event.action} called by {event.who}"


def by_rule(who: str) -> bool:
    """A failover rule asks."""
    return who.startswith("failover rule ")


def _by_itself(who: str) -> bool:
    """No administrator: after a stopstart, at boot, at the end of the daemon. A count that led to
    a reboot goes on after it."""
    return who == "automatically" or who.startswith("at ")


def _too_often(t: Turn) -> bool:
    """A detector asked once more; past the limit the module is stopped instead (9.4)."""
    s = t.s
    if s.phase in (Phase.STOPPED, Phase.STOPPING):
        return False
    loop, over = restarts.detected(s.loop, t.now, s.params.maxloop, s.params.loop_interval_s)
    set_loop(t, loop)
    if not over:
        return False
    s.loop_stop = True
    t.announce(Level.CRITICAL, "Action stop called by maxloop")
    t.announce(Level.CRITICAL, "Action stop called by heart : local fault")
    stopping.begin(t, "stop", start_again=False)
    return True


def count_worker_death(t: Turn) -> None:
    """The replication process died: a detection like any other, without a command."""
    s = t.s
    loop, over = restarts.detected(s.loop, t.now, s.params.maxloop, s.params.loop_interval_s)
    set_loop(t, loop)
    if over:
        s.loop_stop = True
        s.start_again = False
        t.announce(Level.CRITICAL, "Action stop called by maxloop")


def loop_changed(t: Turn, event: LoopChanged) -> None:
    """`safekit incloop`: a handler acts by itself, and counts. `resetloop`. At the limit the one
    who counts is told, and stops the module if it wants to."""
    s = t.s
    if event.change == "reset":
        set_loop(t, restarts.reset(t.now))
        return
    loop, _ = restarts.detected(s.loop, t.now, s.params.maxloop, s.params.loop_interval_s)
    set_loop(t, loop)


def set_loop(t: Turn, loop: restarts.LoopCount) -> None:
    """The counter and its two resources. The Unix time is for people only (I17)."""
    s = t.s
    s.loop = loop
    since = int(loop.since + s.params.wall_offset_s)
    t.do(SetResource("heart.stopstartloop", str(since)))
    t.do(SetResource("heart.stopstartcount", str(loop.count)))
    over = loop.count > s.params.maxloop and s.params.loop_interval_s > 0
    t.do(SetResource("heart.maxloop", "true" if over else "false"))


def start(t: Turn, wish: str) -> bool:
    """Whether the wish counts."""
    s = t.s
    if s.phase is Phase.DECIDING and wish != "start":
        s.wish = wish  # An operator ends the waiting.
        s.isolated = False
        t.clear_block()
        return True
    if s.phase is not Phase.STOPPED:
        t.announce(Level.INFO, f"Action {wish} ignored: the module is started already")
        return False
    s.wish = wish
    s.isolated = False
    if s.fault:
        t.do(SetResource(restarts.FAULT, ""))
    s.fault = ""
    s.sync_due = False
    s.record_broken = False
    s.loop_stop = False
    s.failed_stops = frozenset()
    s.synced = s.following = s.handing_over = s.unapplied = False
    s.transition_called = False
    s.follow_after = 0.0
    s.follow_failures = 0
    t.enter(State.WAIT, Phase.STARTING, Cause.STARTED)
    t.begin(plans.start())
    return True


def _restart(t: Turn, services: str) -> None:
    s = t.s
    if not s.app_ready or s.phase not in (Phase.LEADING, Phase.FOLLOWING):
        t.announce(Level.INFO, "Action restart ignored: no application runs here")
        return
    s.app_ready = False
    t.append(plans.restart(s.state, services))


def swap(t: Turn, detected: bool) -> None:
    """On PRIM: hand the lead over. On SECOND: ask the other node to; `detected`: not for an
    administrator."""
    s = t.s
    if s.phase is Phase.LEADING and s.link is Link.PAIRED and s.app_ready:
        serving.begin_swap(t)
    elif s.phase is Phase.FOLLOWING and s.synced and s.app_ready:
        s.request = SWAP_DETECTED if detected else SWAP
        s.request_id += 1
        s.request_until = t.now + REQUEST_PULSES * s.params.pulse_s
    else:
        t.announce(Level.EVENT, "Action swap ignored: it needs PRIM and SECOND, both ready")


def heard(t: Turn) -> None:
    """A wish of the other node, in its beats; it is heard once. One of a detector over there was
    counted there; here it waits for the end of a maintenance, and sets no counter to zero."""
    s = t.s
    view = t.view
    if view is None or view.request not in (SWAP, SWAP_DETECTED):
        return
    number = (s.links.peer_session, view.request_id)
    if s.answered == number:
        return
    s.answered = number
    if view.request == SWAP:
        requested(t, ActionRequested("swap", who=view.node))
    elif not maintenance.suspends(t, ActionRequested("swap", view.node, identity=view.node)):
        t.announce(Level.CRITICAL, f"Action swap called by {view.node}")
        swap(t, detected=True)
