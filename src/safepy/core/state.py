"""All that one node remembers of one module, and the parameters it works under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from safepy.model import Gate, PeerView, Record, State, SyncPolicy

from .arbitration import Arbiter, Arbitration
from .failover.rules import Rule, RuleSet
from .links import Lane as Lane
from .links import Links
from .plans import Plan
from .restarts import LoopCount
from .transitions import Cause


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Nothing happens by itself before `until`, a moment on the core's clock."""

    until: float
    length_s: float
    reason: str
    by: str


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
    mode: str = "mirror"
    has_rfs: bool = True
    has_scripts: bool = True
    failover: bool = True
    defaultprim: str = "alone"
    maxloop: int = 3
    loop_interval_s: float = 24 * 3600.0
    automatic_reboot: bool = False
    #: What an earlier run of the daemon counted, on this run's clock, why it had stopped the module
    #: by itself, and its maintenance.
    loop: LoopCount = LoopCount()  # noqa: RUF009 - a frozen value
    fault: str = ""
    maintenance: Maintenance | None = None
    nicestop_s: float = 300.0
    forcestop_s: float = 300.0
    errd_classes: frozenset[str] = frozenset()
    arbitration: Arbitration = Arbitration()  # noqa: RUF009 - a frozen value
    config_digest: str = ""
    wall_offset_s: float = 0.0
    #: `<rfs>`: consent to serve data that are younger than this (at most a minute: none), whether
    #: the node is synchronised at set times only, whether `_rfs_callback` is called.
    syncdelta_s: float = 0.0
    syncat: bool = False
    callbacks: bool = False
    #: `<failover>`, and the resources of the checks, each with the class that it belongs to.
    rules: RuleSet = RuleSet()  # noqa: RUF009 - a frozen value
    checks: tuple[tuple[str, str], ...] = ()
    failover_period_s: float = 5.0
    handle_time_s: float = 15.0
    #: `safekit checker`, and the resources that an earlier run of the daemon left.
    checking: bool = True
    resources: Mapping[str, str] = field(default_factory=dict)
    #: There is a `<vip>` with at least one virtual address.
    has_vip: bool = False

    @property
    def light(self) -> bool:
        """A module of this node alone: no lanes, no peer, nothing replicated (reference 8)."""
        return self.mode == "light"

    #: Beats leave at multiples of the pulse. A daemon has one clock for all its modules: they send
    #: in the same turn of its loop, and a node with many of them seldom wakes.
    aligned_pulses: bool = False

    @property
    def pulse_s(self) -> float:
        return min((lane.pulse_s for lane in self.lanes), default=float("inf"))

    @property
    def detection_s(self) -> float:
        """The peer is lost after this silence: the longest of the lanes (protocol 9)."""
        return max((lane.timeout_s for lane in self.lanes), default=float("inf"))

    @property
    def renew_s(self) -> float:
        """Between two renewals of an open gate: three of them fit into its time."""
        return max(self.pulse_s, self.gate_s / 4)

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


class CheckpointStage(StrEnum):
    """How far a checkpoint is."""

    #: PRIM: `checkpoint_started` is being saved.
    BEGINNING = "beginning"
    #: PRIM: both nodes flush.
    FLUSHING = "flushing"
    #: Both: the counter is being saved.
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class CheckpointUnderWay:
    """`version`: of the record that is waited for."""

    number: int
    stage: CheckpointStage
    version: int = 0


#: The gate is not answering and will not until permission is there.
FROZEN = frozenset({Link.CLAIMING, Link.ASKING, Link.CONFIRMING})


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What the arbiters were asked since the peer was lost, and what they said (protocol 7).

    `want` is the number that is claimed. `step` is the open question to `asked`, 0 if none;
    `refusal` the last answer that was no yes, `final` if the witness will say the same again.
    `claimed`: a claim has left this node, whether or not its answer came back.
    """

    want: int
    since: float
    granted: frozenset[Arbiter] = frozenset()
    step: int = 0
    asked: Arbiter | None = None
    ask_at: float = 0.0
    refusal: str = ""
    final: bool = False
    claimed: bool = False


@dataclass
class ModuleState:
    """One node's whole memory of one module.

    A value: `step` works on its own copy and nothing else ever assigns to a field. Everything
    inside is immutable, so a shallow copy is a copy. Without slots, because one is made at every
    step, and a dictionary is copied twenty times faster than a hundred slots.
    """

    params: Params
    now: float
    #: The first moment at which something is due or expires, as found by the last whole step.
    due: float = field(default=float("-inf"), kw_only=True)
    #: Until then signs of life that say nothing new need no whole step (`quiet.py`).
    at_rest: bool = field(default=False, kw_only=True)

    # The visible state.
    state: State
    phase: Phase
    reason: str
    since: float
    links: Links
    app_ready: bool = False
    blocked: str = ""
    remedy: str = ""
    failover: bool = True
    #: When it was last switched on here, and whether a primary has heard of it since.
    failover_since: float = float("-inf")
    failover_known: bool = True

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

    # The other node: what is believed of it, and what was shown of it.
    peer: PeerView | None = None
    replica_heard_at: float = float("-inf")
    lanes_dead_told: bool = False

    # The plan: steps left. The first one runs while `running` is its number, or, for a save,
    # while the durable version is below `plan_version`. `script` is the last script that was
    # handed out and has not ended: a new plan does not run another one beside it at once.
    plan: Plan = ()
    running: int = 0
    plan_version: int = 0
    plan_until: float | None = None
    next_id: int = 1
    script: int = 0
    script_until: float = 0.0
    action: str = "start"
    ran: frozenset[str] = frozenset()
    #: Forced stop scripts of this stop that failed, or were killed at their limit.
    failed_stops: frozenset[str] = frozenset()

    # The worker: is it there, may it answer, what does it wait for.
    worker: bool = False
    covered: bool = False
    serving: bool = False
    gate: Gate = Gate.CLOSED
    renew_at: float = 0.0
    #: The virtual addresses may be on this node. `removing`: the order to take them away that has
    #: not ended, 0 if none; `address_left`: they could not be removed, next try `address_again`.
    addressed: bool = False
    removing: int = 0
    address_left: bool = False
    address_again: float = 0.0
    #: Since an awakening: the gate stays shut until the peer was heard again.
    dozing_since: float | None = None
    #: This node was asleep so long that the peer may have led meanwhile. Until it is heard, its
    #: silence is no permission: nobody knows what it acknowledged (K12c).
    doubt: bool = False
    link: Link = Link.SOLO
    link_version: int = 0
    link_until: float = 0.0
    #: The epoch of the last join that was ordered, and of the last claim.
    join_epoch: int = 0
    #: Our record before a join that is not confirmed yet.
    unjoined: Record | None = None
    claim_epoch: int = 0
    swapped_epoch: int = 0
    modified_version: int = 0
    #: The epoch in which this node began to serve alone; what the worker reports of an earlier
    #: one is old.
    solo_epoch: int = 0
    #: The evidence that allowed this node to serve alone (protocol 7); "" while paired.
    evidence: str = ""
    inquiry: Inquiry | None = None
    #: Refused because no witness of `<splitbrain>` answered here (E5): until the other node is
    #: heard, or an operator says otherwise.
    isolated: bool = False
    #: When this node last stopped serving: what the peer said before it may be outdated by an
    #: adoption of what we sent.
    served_until: float = float("-inf")
    #: When the secondary was lost and writes were held.
    frozen_since: float = 0.0
    #: Losses of the secondary within `pairing.FLAPPING_S`, and no follower before this moment.
    losses: tuple[float, ...] = ()
    pair_after: float = 0.0
    #: The peer's session at the time the pair formed: a restart of it is another one.
    paired_session: str = ""
    #: When the watchdog of this node was fed; None: it is not armed.
    fed_at: float | None = None
    #: What the worker was told about the follower it may take.
    allowed: tuple[object, ...] | None = None

    checkpoint: CheckpointUnderWay | None = None
    #: Serving, but what is on this disk cannot be replicated (F43, F44 without a secondary).
    degraded: bool = False

    # Synchronisation: how the last one was done and why; whether it failed.
    sync_mode: str = ""
    sync_reason: str = ""
    reintegre_failed: bool = False
    #: What an operator said of the next one: of the record with it, until it is durable.
    policy_version: int = 0
    policy_wished: bool = False
    copy_since: float = 0.0
    sync_due: bool = False
    stamp_at: float = 0.0

    # Following.
    following: bool = False
    keep_aside: bool = False
    take_over_cause: Cause = Cause.NO_HEARTBEAT
    follow_epoch: int = 0
    #: The policy that the source knew of when this attempt began.
    follow_policy: SyncPolicy = SyncPolicy()  # noqa: RUF009 - a frozen value
    adopting_version: int = 0
    adopted_epoch: int = 0
    synced: bool = False
    #: Something that was received could not be applied: no permission to take over.
    unapplied: bool = False
    handing_over: bool = False
    follow_after: float = 0.0
    #: Data that was in sync is given up only for a peer that answered what was sent since then.
    fresh_since: float = float("-inf")
    follow_failures: int = 0
    transition_called: bool = False

    # Wishes.
    maintenance: Maintenance | None = None
    #: Actions that were not carried out in it and were told: (action, who).
    told_ignored: frozenset[tuple[str, str]] = frozenset()
    wish: str = "start"
    stop_cause: Cause = Cause.STOP
    lead_same: bool = False
    lead_forced: bool = False
    quiesced: bool = False
    start_again: bool = False
    fault: str = ""
    request: str = ""
    request_id: int = 0
    request_until: float = 0.0
    answered: tuple[str, int] = ("", 0)
    loop: LoopCount = LoopCount()  # noqa: RUF009 - a frozen value
    loop_stop: bool = False
    #: The server was told to reboot, by the step that is not answered yet; given up then.
    reboot_step: int = 0
    reboot_until: float | None = None

    #: Values that the core did not give itself: of checkers, errd, `safekit set`. Replaced, never
    #: changed.
    resources: Mapping[str, str] = field(default_factory=dict)

    # The failover machine (`failover/acting.py`). Which classes of checkers look, and whether
    # `safekit checker` lets them.
    watched: frozenset[str] = frozenset()
    checking: bool = True
    #: What the rules were last held against, those that were true, and since when; those that
    #: have acted and are still true, and when they may act again.
    rules_seen: tuple[object, ...] = ()
    rules_true: tuple[Rule, ...] = ()
    true_since: Mapping[str, float] = field(default_factory=dict)
    acted: frozenset[str] = frozenset()
    act_again_at: float | None = None
    #: A resource without a first report on which a wait rule depends.
    untested: str = ""
    #: The rule that keeps the module in WAIT.
    held_by: str = ""
    #: What the other node is told of that, and since when.
    told_held: str = ""
    held_at: float = float("-inf")
    #: Action and label of the rule that acts, or brought the module to where it is.
    acting: tuple[str, str] = ("", "")
    told_rules: tuple[Rule, ...] | None = None

    #: The last decisions with their times, for people.
    story: tuple[tuple[float, str], ...] = ()

    # What was told last, to tell only changes.
    told_view: PeerView | None = None
    told_local: str = ""
    told_remote: str = ""
    told_wait: str = ""
    told_split: bool = False
    told_resync: str = ""
    told_sync: tuple[str, str] = ("", "")
    told_abnormal: str = ""
    told_resources: Mapping[str, str] = field(default_factory=dict)
    told_shown: tuple[object, ...] = ()

    def copied(self) -> ModuleState:
        """Another one, equal to this."""
        new = object.__new__(ModuleState)
        new.__dict__.update(self.__dict__)
        return new
