"""Everything that can happen to a module. Values; `machine.step` is their only reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safepy.model import Beat, Disk, SyncPolicy

if TYPE_CHECKING:
    from .state import Params


@dataclass(frozen=True, slots=True)
class Tick:
    """The moment named by `next_deadline` has come."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The event loop stood still for `gap_s` seconds: this node was asleep (protocol 9)."""

    gap_s: float


@dataclass(frozen=True, slots=True)
class BeatReceived:
    """An authentic heartbeat came in on a lane."""

    lane: str
    beat: Beat


@dataclass(frozen=True, slots=True)
class LaneAddress:
    """The local address of a lane appeared or is gone (`heartbeatlocaladdr.X`)."""

    lane: str
    present: bool


@dataclass(frozen=True, slots=True)
class ActionRequested:
    """A wish for this module.

    `action` is one of start, stop, shutdown (a stop, with everything of this node), prim,
    primforce, second, secondforce, restart, stopstart, swap.
    `who` stands in the
    log ("root", "errd", "at boot time"). `identity` is set when a detector or a script asks
    (`-i NAME`): it counts against maxloop; an administrator's wish (identity "") resets the
    counter (reference 9.4). `fullsync` asks that the next synchronisation copies everything.
    `since` (Unix seconds) belongs to secondforce: older files are taken as equal. `services`
    belongs to restart: what its scripts are to restart, a comma-separated list ("": everything).
    `because` is what a detector found, for `safekit why`; who asks has said it in the log.
    """

    action: str
    who: str
    identity: str = ""
    fullsync: bool = False
    since: float = 0.0
    services: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """`safekit rfssync`: how the next synchronisation is to be done (reference 19.8, 19.9)."""

    policy: SyncPolicy


@dataclass(frozen=True, slots=True)
class SyncDue:
    """The resource rfs.syncat got this value: a node with `syncat` may be synchronised now, or
    waits for the next date (reference 19.11). From the scheduler, or `safekit set`."""

    on: bool


@dataclass(frozen=True, slots=True)
class FailoverSet:
    """`safekit failover on|off`."""

    on: bool


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """A checker, errd, or `safekit set` gave a resource this value: the failover rules go by it.
    What the core itself knows (heartbeats, replication) does not come this way."""

    name: str
    value: str
    who: str


@dataclass(frozen=True, slots=True)
class SwitchSet:
    """`safekit checker|errd on|off` (reference 9.6): `name` is the command's."""

    name: str
    on: bool
    who: str


@dataclass(frozen=True, slots=True)
class LoopChanged:
    """`safekit incloop|resetloop`: `change` is inc or reset (reference 9.4)."""

    change: str
    who: str


@dataclass(frozen=True, slots=True)
class MaintenanceSet:
    """`safekit maintenance`: nothing happens by itself before `until`, a moment on the core's
    clock; None: it is over."""

    until: float | None
    reason: str
    who: str


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration was changed while the module runs: these are the parameters now."""

    params: Params


@dataclass(frozen=True, slots=True)
class StepDone:
    """A command that carried a `step_id` ended. `detail` is a sentence when it failed."""

    step_id: int
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WitnessAnswered:
    """The answer to `AskWitness`: `epoch` and `owner` are what the register holds now, `refusal`
    a sentence if the claim was not granted (protocol 7.1)."""

    step_id: int
    granted: bool
    epoch: int
    owner: str
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaHeard:
    """Authentic traffic came over the replication stream; at most one event a second."""


@dataclass(frozen=True, slots=True)
class ReplicaLost:
    """Serving in PRIM (or joining): the stream to the secondary is gone or makes no progress.

    From here the worker holds every modification: none is answered until `ReleaseHeld` or
    `FailHeld` (protocol I1, I4; design-examples 6).
    """

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceLost:
    """Following: the stream to the primary is gone. The worker dials again by itself."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Serving ALONE: the follower's tree equals ours and is flushed; writes are held (I11)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class AdoptRequested:
    """Following: the source asks this node to adopt its identity; the tree is flushed (I11)."""

    epoch: int
    gen: str
    base: str
    history: tuple[tuple[int, str], ...]
    checkpoint: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """Both sides are in the replicated state of `epoch`: PRIM here, or SECOND here."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ResyncFailed:
    """The resynchronisation broke off; it is tried again as long as the stream returns.

    `fatal` is set when a new try cannot help (no room to keep files aside, wrong tree).
    """

    epoch: int
    reason: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class FirstModification:
    """Serving ALONE: the application wants to change something for the first time in this
    generation; the worker holds it until `RecordModified` is answered (protocol I4)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SyncChosen:
    """How much the resynchronisation that begins looks at, and why: for people."""

    epoch: int
    mode: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckpointWanted:
    """PRIM: the worker's window is full or old. Answered by `CheckpointBegun` once
    `checkpoint_started` is durable (protocol 4.3 a)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CheckpointReached:
    """Everything before checkpoint `number` is durable: here (SECOND), on both nodes (PRIM).
    Answered by `CheckpointRecorded` once the record says so (4.3 c, d)."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class DiskFault:
    """The local tree cannot be trusted as `disk` any more (F42 to F47)."""

    epoch: int
    disk: Disk
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker process ended without being asked to (F16)."""

    reason: str


@dataclass(frozen=True, slots=True)
class GateStale:
    """The peer's worker answered STALE: it is in a later epoch (protocol I13)."""

    epoch: int


Event = (
    Tick
    | Paused
    | BeatReceived
    | LaneAddress
    | ActionRequested
    | FailoverSet
    | PolicySet
    | SyncDue
    | MaintenanceSet
    | Reconfigured
    | ResourceChanged
    | SwitchSet
    | LoopChanged
    | StepDone
    | WitnessAnswered
    | ReplicaHeard
    | ReplicaLost
    | SourceLost
    | CaughtUp
    | AdoptRequested
    | Joined
    | ResyncFailed
    | FirstModification
    | SyncChosen
    | CheckpointWanted
    | CheckpointReached
    | DiskFault
    | WorkerDied
    | GateStale
)
