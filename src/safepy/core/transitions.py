"""The table of visible state changes: from, to, cause, and the sentence people read.

`docs/state-machine.md` is drawn from it by `scripts/draw-state-machine`. The scripts of each
change follow from `plans.RUNS`; a change that is not in the table cannot happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from safepy.model import State


class Cause(StrEnum):
    """Why a visible state changes."""

    STARTED = "start"
    ELECTED = "permission to lead"
    NO_PEER = "nothing to wait for"
    PEER_LEADS = "the other node leads"
    JOINED = "the secondary is in sync"
    SECONDARY_GONE = "the secondary is gone"
    REMOTE_STOP = "remote stop"
    NO_HEARTBEAT = "no heartbeat"
    SWAP = "swap"
    SPLIT_BRAIN = "split brain"
    OVERTAKEN = "overtaken"
    REFUSED = "no permission"
    SOURCE_GONE = "the source is gone"
    STOP = "stop"
    LOCAL_FAULT = "local fault"
    FAILOVER_OFF = "failover off"
    ENDED = "end of stop"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row. `reason` is shown in the status until the next change."""

    source: State
    target: State
    cause: Cause
    reason: str


_ROWS = (
    Transition(State.STOP, State.WAIT, Cause.STARTED, "started"),
    Transition(State.WAIT, State.ALONE, Cause.ELECTED, "leads, without a secondary"),
    Transition(State.WAIT, State.SECOND, Cause.PEER_LEADS, "the other node is primary"),
    Transition(State.ALONE, State.PRIM, Cause.JOINED, "the secondary is in sync"),
    Transition(State.PRIM, State.ALONE, Cause.SECONDARY_GONE, "goes on without the secondary"),
    Transition(State.SECOND, State.ALONE, Cause.REMOTE_STOP, "took over: the primary stopped"),
    Transition(State.SECOND, State.ALONE, Cause.NO_HEARTBEAT, "took over: the primary is lost"),
    Transition(State.SECOND, State.ALONE, Cause.SWAP, "took over: roles are exchanged"),
    Transition(State.PRIM, State.SECOND, Cause.SWAP, "roles are exchanged"),
    Transition(State.ALONE, State.SECOND, Cause.SPLIT_BRAIN, "gave way after a split brain"),
    Transition(State.PRIM, State.SECOND, Cause.SPLIT_BRAIN, "gave way after a split brain"),
    Transition(State.ALONE, State.SECOND, Cause.OVERTAKEN, "the other node took over meanwhile"),
    Transition(State.PRIM, State.SECOND, Cause.OVERTAKEN, "the other node took over meanwhile"),
    Transition(State.PRIM, State.SECOND, Cause.LOCAL_FAULT, "the local disk cannot be trusted"),
    Transition(State.PRIM, State.WAIT, Cause.REFUSED, "no permission to serve alone"),
    Transition(State.ALONE, State.WAIT, Cause.REFUSED, "no permission to serve alone"),
    Transition(State.SECOND, State.WAIT, Cause.REFUSED, "no permission to serve alone"),
    Transition(State.SECOND, State.WAIT, Cause.SOURCE_GONE, "the primary went away"),
    Transition(State.SECOND, State.WAIT, Cause.FAILOVER_OFF, "automatic failover is off"),
    Transition(State.SECOND, State.WAIT, Cause.LOCAL_FAULT, "local fault"),
    Transition(State.SECOND, State.WAIT, Cause.STOP, "stopping"),
    Transition(State.ALONE, State.WAIT, Cause.STOP, "stopping"),
    Transition(State.PRIM, State.WAIT, Cause.STOP, "stopping"),
    Transition(State.WAIT, State.STOP, Cause.ENDED, "stopped"),
    # Light modules; they share the first row and the last one.
    Transition(State.WAIT, State.UP, Cause.NO_PEER, "runs; a light module has no other node"),
    Transition(State.UP, State.WAIT, Cause.STOP, "stopping"),
)

TABLE = {(row.source, row.target, row.cause): row for row in _ROWS}
assert len(TABLE) == len(_ROWS), "two rows for one change"
