"""All that one node remembers of one module, and the parameters it works under."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from safepy.model import Active, Disk, PeerView, Record, State

from .plans import Step


class Lane(NamedTuple):
    """One heartbeat network: its label, sending period, and the silence that means "lost"."""

    ident: str
    pulse_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Params:
    """What the configuration and this run of the daemon say; constant until the next `initial`.

    `session` is random for each run of the daemon; generation names are derived from it, so the
    core needs no randomness. `wall_offset_s` (wall clock minus monotonic clock) is for display
    only (protocol I17).
    """

    module: str
    node: str
    peer: str
    cluster_id: str
    lanes: tuple[Lane, ...]
    session: str
    boot_id: str
    has_rfs: bool = True
    has_scripts: bool = True
    failover: bool = True
    defaultprim: str = "alone"
    maxloop: int = 3
    loop_interval_s: float = 24 * 3600.0
    nicestop_s: float = 300.0
    forcestop_s: float = 300.0
    errd_classes: frozenset[str] = frozenset()
    config_digest: str = ""
    wall_offset_s: float = 0.0

    @property
    def pulse_s(self) -> float:
        return min(lane.pulse_s for lane in self.lanes)

    @property
    def detection_s(self) -> float:
        """The peer is lost after this silence: the longest of the lanes (protocol 9)."""
        return max(lane.timeout_s for lane in self.lanes)

    @property
    def gate_s(self) -> float:
        """How long an open gate lasts without renewal (protocol 4.0)."""
        return self.detection_s / 3


class Phase(StrEnum):
    """The chapter of life a module is in; finer than the visible state."""

    STOPPED = "stopped"
    STARTING = "starting"
    DECIDING = "deciding"
    LEADING = "leading"
    FOLLOWING = "following"
    TAKING_OVER = "taking over"
    RETREATING = "retreating"
    SWAPPING = "swapping"
    STOPPING = "stopping"


class Link(StrEnum):
    """Where a leading node stands with its secondary. Independent of the scripts that run."""

    SOLO = "solo"
    #: `CaughtUp` came, the record that clears `peer_behind` is being saved.
    RECORDING = "recording"
    #: `Join` is sent, `Joined` has not come yet.
    JOINING = "joining"
    PAIRED = "paired"
    #: The secondary is lost, writes are held, the new generation is being saved.
    CLAIMING = "claiming"
    #: The new generation is durable; waiting until the peer knows it or is silent.
    ASKING = "asking"
    #: Permission obtained, `peer_behind` is being saved; then the held writes are released.
    CONFIRMING = "confirming"


#: The gate is not answering and will not until permission is there.
FROZEN = frozenset({Link.CLAIMING, Link.ASKING, Link.CONFIRMING})


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane as this node sees it.

    `sent` holds (counter, moment) of the beats that were not echoed yet. `proof_at` is when the
    newest beat was sent of which we know that the peer heard it and answered: both directions
    worked since then. `heard` is the (session, counter) we echo. `stranger` is the newest beat
    of a session that has not proved itself yet.
    """

    lane: Lane
    pulse_at: float
    proof_at: float
    sent: tuple[tuple[int, float], ...] = ()
    heard: tuple[str, int] = ("", 0)
    stranger: tuple[str, int] = ("", 0)
    stranger_at: float = 0.0
    up: bool | None = None


@dataclass(frozen=True, slots=True)
class LoopCount:
    """Restarts that detectors asked for since `since` (reference 9.4)."""

    since: float = 0.0
    count: int = 0


@dataclass(slots=True)
class ModuleState:
    """One node's whole memory of one module.

    A value: `step` works on its own copy and nothing else ever assigns to a field. Everything
    inside is immutable, so a shallow copy is a copy.
    """

    params: Params
    now: float

    # The visible state.
    state: State
    phase: Phase
    reason: str
    since: float
    app_ready: bool = False
    blocked: str = ""
    remedy: str = ""
    failover: bool = True

    # The record: `record` is durable, `wanted` is what it shall be; both carry a version.
    record: Record = Record()  # noqa: RUF009 - a frozen value
    wanted: Record = Record()  # noqa: RUF009 - a frozen value
    wanted_version: int = 0
    durable_version: int = 0
    saving_version: int = 0
    saving: Record | None = None
    save_step: int = 0
    record_broken: bool = False
    lost_volatile: bool = False

    # The other node.
    lanes: tuple[LaneState, ...] = ()
    counter: int = 0
    peer: PeerView | None = None
    peer_session: str = ""
    peer_counter: int = 0
    peer_echo: int = 0
    peer_past: tuple[str, ...] = ()
    peer_shown: str = ""
    replica_heard_at: float = float("-inf")
    observing_since: float = 0.0
    local_lost: frozenset[str] = frozenset()
    foreign: str = ""

    # The plan: steps left; the first one runs while `running` is its number.
    plan: tuple[Step, ...] = ()
    running: int = 0
    running_until: float | None = None
    next_id: int = 1
    script: int = 0
    script_until: float | None = None
    action: str = "start"

    # The worker: is it there, may it answer, what does it wait for.
    worker: bool = False
    covered: bool = False
    serving: bool = False
    dozing: bool = False
    dozing_since: float = 0.0
    link: Link = Link.SOLO
    link_version: int = 0
    link_until: float | None = None
    link_epoch: int = 0
    renew_at: float = 0.0
    modified_version: int = 0
    allowed: tuple[int, bool, str] | None = None
    stepping_aside: bool = False

    # Following.
    follow_epoch: int = 0
    adopting_version: int = 0
    synced: bool = False
    source_lost: bool = False
    follow_after: float = 0.0

    # Wishes.
    wish: str = "start"
    fullsync: bool = False
    start_again: bool = False
    request: str = ""
    request_id: int = 0
    request_until: float = 0.0
    answered: tuple[str, int] = ("", 0)
    loop: LoopCount = LoopCount()  # noqa: RUF009 - a frozen value

    # What was told last, to tell only changes.
    told_view: PeerView | None = None
    told_local: str = ""
    told_resources: tuple[tuple[str, str], ...] = ()
    told_shown: tuple[object, ...] = ()
