"""The nouns. Frozen values without behaviour that every layer may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Module states (reference: modules-states-commands 4.1)."""

    STOP = "STOP"
    WAIT = "WAIT"
    ALONE = "ALONE"
    PRIM = "PRIM"
    SECOND = "SECOND"
    #: Light modules: the application runs, and there is no other node.
    UP = "UP"


class Status(StrEnum):
    """How settled a state is (reference 4.2)."""

    NOT_READY = "NotReady"
    TRANSIENT = "Transient"
    READY = "Ready"


#: Exit codes of `safekit state -lq` (reference 4.1).
STATE_CODES = {
    State.STOP: 0,
    State.WAIT: 1,
    State.ALONE: 2,
    State.UP: 2,
    State.PRIM: 3,
    State.SECOND: 4,
}


class Disk(StrEnum):
    """Quality of the local tree (protocol 2.1)."""

    UNCONFIGURED = "UNCONFIGURED"
    UPTODATE = "UPTODATE"
    OUTDATED = "OUTDATED"
    INCONSISTENT = "INCONSISTENT"


class Active(StrEnum):
    """What the node was doing; set durably before, cleared by a clean stop (protocol 2.1)."""

    NONE = "none"
    PRIMARY = "P"
    SECONDARY = "S"


class SyncMode(StrEnum):
    """How much of the trees a resynchronisation looks at (protocol 6, 8), least first.

    ZONES: what either node marked, by path (nothing, if nothing was marked). WALK: names and
    attributes of all, and content where marks, times or ids ask for it. EVERYTHING: the content
    of all files by digests, too.
    """

    ZONES = "zones"
    WALK = "walk"
    EVERYTHING = "everything"


class Gate(StrEnum):
    """The worker's permission to answer modifications (protocol 0)."""

    CLOSED = "closed"
    ALONE = "alone"
    PRIM = "prim"


class Level(StrEnum):
    """Levels of the module log (reference 15.2)."""

    USER = "U"
    CRITICAL = "C"
    EVENT = "E"
    SCRIPT = "S"
    INFO = "I"
    TRACE = "W"
    DEBUG = "D"


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """What an operator said of the next synchronisation (reference 19.8, 19.9); back to the
    default when it has succeeded.

    `mode` is default, full or external; `role` (prim, second) and `uid` belong to external: the
    tree of the second was restored from a backup of the prim's, made after `uid` was named there.
    `detect` is false if what changed between backup or restore and start is not looked for (`-d`).
    `why` names the command, for people.
    """

    mode: str = "default"
    role: str = "default"
    uid: str = ""
    detect: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The generation record (protocol 2.1): what a node must remember across power loss.

    `gen` names the data generation, `base` the generation it departed from (both 32 hex
    digits, or empty). `history` holds (epoch, gen) pairs of ancestors, newest first, at
    most 16. `solo_role` says from which role the node went alone ("P", "S" or ""), which
    decides a split brain (reference 7.5); `last_role` is the role at the last stop
    (`defaultprim="lastprim"`). `forced` marks a generation made by an operator's force.
    `checkpoint` and `checkpoint_started` count the moments at which both nodes had everything
    on their disks (protocol 4.3); they go on counting through all generations. `shared` is the
    epoch of the last period in which both nodes were in sync (0: none is known): a claim at the
    witness is for the number after it, whatever either node has seen since (I3).
    `crashed_primary`: this node ended as a primary without a clean stop and was not brought up to
    date since, so its tree may hold what nobody was told of. `marks_base`: joins to generations
    later than this ancestor failed, so the marks tell all since it ("": since `base`).
    `synced_at`: Unix seconds of the last moment known to be in sync, for people and for
    `syncdelta`; 0: never.
    """

    cluster_id: str = ""
    module: str = ""
    node: str = ""
    peer: str = ""
    epoch: int = 0
    promised: int = 0
    gen: str = ""
    base: str = ""
    history: tuple[tuple[int, str], ...] = ()
    disk: Disk = Disk.UNCONFIGURED
    peer_behind: bool = False
    active: Active = Active.NONE
    modified: bool = False
    forced: bool = False
    solo_role: str = ""
    last_role: str = ""
    boot_id: str = ""
    checkpoint: int = 0
    checkpoint_started: int = 0
    shared: int = 0
    crashed_primary: bool = False
    marks_base: str = ""
    synced_at: float = 0.0
    policy: SyncPolicy = SyncPolicy()


@dataclass(frozen=True, slots=True)
class PeerView:
    """What one node tells the other in every heartbeat.

    `serving` is true while the sender's gate is or may be open. `request` carries a wish to
    the other node ("swap", "swap-detected", or empty) with a number that makes it count once.
    `lost_volatile`: the node lost its page cache since it was last active (protocol 2.1).
    `degraded`: it serves, and cannot be replicated from. `copy_since`: it wants to get only what
    was modified after this moment (Unix seconds, `secondforce -d`); 0: no such wish.
    `maintenance_until`: it takes no action by itself before this moment (Unix seconds); 0: it does.
    `held`: the failover rule that keeps it in WAIT, or "init" while one may; empty: none.
    `failover`: as a secondary it would take over (`safekit failover`).
    """

    node: str
    state: State
    status: Status
    record: Record
    serving: bool = False
    lost_volatile: bool = False
    ready_to_follow: bool = False
    request: str = ""
    request_id: int = 0
    config_digest: str = ""
    degraded: bool = False
    copy_since: float = 0.0
    resources: tuple[tuple[str, str], ...] = ()
    maintenance_until: float = 0.0
    held: str = ""
    failover: bool = True

    @property
    def gives_way(self) -> str:
        """`held`, where the other node is to serve instead; with failover off it is not."""
        return self.held if self.failover else ""


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat on one lane (protocol 9).

    `session` is random for each run of a daemon. `echo_session` and `echo_counter` repeat
    the newest beat heard from the other node **on this lane**: a beat counts as alive, and
    its view is believed, only if it echoes our present session (both directions work, and it
    is no replay: F25, F30, F31).
    """

    session: str
    counter: int
    echo_session: str
    echo_counter: int
    view: PeerView


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a resynchronisation is. Totals are 0 while unknown; rates in bytes a second.

    `trees_done` of `trees_total` directories are compared; `scan_s` is how long names and
    attributes were looked at, `copy_s` how long content travelled. `mode` (`SyncMode`) and
    `reason` say how much is looked at, and why.
    """

    phase: str = ""
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_copied: int = 0
    files_copied: int = 0
    rate_bytes_s: float = 0.0
    left_s: float | None = None
    trees_done: int = 0
    trees_total: int = 0
    scan_s: float = 0.0
    copy_s: float = 0.0
    mode: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What CLI, console and probe show of one module; made by `core/status.py`.

    `waiting_for` and `remedy` are empty unless the module waits: for what, and the command
    that ends the waiting. `since` is wall-clock seconds, for display only.
    """

    module: str
    node: str
    peer: str
    state: State
    status: Status
    reason: str
    since: float
    peer_state: str
    peer_status: str
    waiting_for: str = ""
    remedy: str = ""
    record: Record = field(default_factory=Record)
    resources: tuple[tuple[str, str, float], ...] = ()
    progress: Progress | None = None
    lanes: tuple[tuple[str, bool], ...] = ()
    #: What the other node said of its resources in its last heartbeat; empty if it is lost.
    peer_resources: tuple[tuple[str, str], ...] = ()
    #: How much the last synchronisation looked at, and why; how the next one is wished to be.
    synchronisation: str = ""
    sync_policy: str = ""
    #: Sentences about what is wrong around the module and is no state of it.
    notes: tuple[str, ...] = ()
    #: How many packets of the network were not believed since the daemon started, by kind.
    dropped: tuple[tuple[str, int], ...] = ()
    #: What was decided last, oldest first: Unix seconds and a sentence each.
    story: tuple[tuple[float, str], ...] = ()
    #: "mirror", or "light": without another node.
    mode: str = "mirror"
    #: No automatic action before this moment (Unix seconds, 0: not in maintenance), why, and who
    #: said so; and what the other node says of itself.
    maintenance_until: float = 0.0
    maintenance_reason: str = ""
    maintenance_by: str = ""
    peer_maintenance_until: float = 0.0
