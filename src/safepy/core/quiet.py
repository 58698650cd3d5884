"""Signs of life that say nothing new, taken in without a whole step.

A pair that is in sync hears the same beat again and again. All that such a beat changes is how long
the other node may be silent from now on; the rules would find nothing to do, and nothing new to
tell. Whatever is due, or comes due in the meantime, is the business of the whole step at
`ModuleState.due`, which is a pulse away at most. The simulator takes every event that this file
takes in by a whole step, too, and compares (`tests/sim/checks.py`).
"""

from __future__ import annotations

from . import links
from .events import BeatReceived, Event, ReplicaHeard
from .state import Link, ModuleState, Phase


def taken(state: ModuleState, event: Event, now: float) -> ModuleState | None:
    """The state with this event in it. None: it needs a whole step."""
    if not isinstance(event, (BeatReceived, ReplicaHeard)):
        return None
    gap_s = now - state.now
    if now >= state.due or not 0 <= gap_s <= state.params.detection_s / 4 or not state.at_rest:
        return None
    if isinstance(event, ReplicaHeard):
        new = state.copied()
        new.replica_heard_at = now
    else:
        if event.beat.session != state.links.peer_session:
            return None
        heard, view = links.receive(state.links, event.lane, event.beat, now)
        # None: not believed, or a newer view came over another lane.
        if view is not None and view != state.peer:
            return None
        new = state.copied()
        new.links = heard
    new.now = now
    return new


def at_rest(s: ModuleState) -> bool:
    """In sync with the other node, every lane shown as up, and nothing under way that waits for a
    word of it. Before `due` no lane can have expired."""
    in_sync = s.link is Link.PAIRED if s.serving else s.synced and s.phase is Phase.FOLLOWING
    return (
        in_sync
        and not s.plan
        and s.failover_known
        and not s.doubt
        and not s.request
        and s.dozing_since is None
        and s.inquiry is None
        # Each beat feeds the watchdog.
        and s.fed_at is None
        and all(lane.up for lane in s.links.lanes)
    )
