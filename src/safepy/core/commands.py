"""Everything the core may ask of the shell, carried out in the order given.

A command with a `step_id` takes time; its end comes back as `StepDone` with that number.
Every one of them says what becomes true and may be done twice without harm (habit 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Beat, Gate, Level, Record, SyncMode


@dataclass(frozen=True, slots=True)
class SendBeat:
    """Send this heartbeat on this lane."""

    lane: str
    beat: Beat


@dataclass(frozen=True, slots=True)
class SaveRecord:
    """Make the generation record durable (two slots, fdatasync). Nothing that follows from
    it may happen before its `StepDone`."""

    step_id: int
    record: Record


@dataclass(frozen=True, slots=True)
class RunScript:
    """Run `bin/NAME [force] CURRENT NEXT ACTION`; a missing script counts as done.

    `timeout_s` is None for scripts without a limit. `force` is the second, forced call.
    """

    step_id: int
    name: str
    arguments: tuple[str, ...]
    force: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """Every replicated path is covered read-only by a mount of ours (protocol I18); the
    private door to the real files is open. Checks the tree's marker first (F48)."""

    step_id: int


@dataclass(frozen=True, slots=True)
class Uncover:
    """The replicated paths show the real directories again; all our mounts are gone."""

    step_id: int


@dataclass(frozen=True, slots=True)
class StartWorker:
    """A worker process for this module runs, idle, with the doors of all directories open."""

    step_id: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """No worker process runs, and no live mount of one is left."""

    step_id: int


@dataclass(frozen=True, slots=True)
class Serve:
    """The worker has mounted every directory and answers reads; the gate is still closed.

    If it was following, everything received was applied first (protocol I1)."""

    step_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SetAddresses:
    """Every virtual address of the module is on this node and was announced. Only while the gate
    is or was open: never on a node that does not lead."""

    step_id: int


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """No virtual address of the module is on this node; with `tcpreset` the TCP connections that
    had it were reset before. Bounded in time whatever the interface does."""

    step_id: int


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Modifications may be answered in this mode and epoch until `deadline_s` from now."""

    mode: Gate
    epoch: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class CloseGate:
    """No modification is answered any more, and the held ones wait."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Quiesce:
    """Clean hand-over: gate closed to new modifications, those in flight ended on both nodes,
    both nodes flushed."""

    step_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Demote:
    """Gate closed, held modifications failed with EIO, the live mount aborted and gone; the
    read-only cover shows. The worker is idle again."""

    step_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseHeld:
    """Held modifications are answered with success and the gate goes on ALONE in `epoch`."""

    epoch: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class AllowFollower:
    """While serving ALONE: accept the peer's worker and bring its tree up to date, looking at
    `mode` at least, because of `reason` (protocol 6).

    `since`: below a walk only files modified after this moment (Unix seconds) are copied, whole,
    and the others are taken as equal (`secondforce -d`; 0: no such wish)."""

    epoch: int
    keep_aside: bool
    mode: SyncMode = SyncMode.EVERYTHING
    reason: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Join:
    """Serving side, after `CaughtUp` and a durable record: tell the follower to adopt, then
    answer the held modifications through it. Answered by the event `Joined`."""

    epoch: int
    gen: str
    base: str
    history: tuple[tuple[int, str], ...]
    checkpoint: int = 0


@dataclass(frozen=True, slots=True)
class Follow:
    """The worker dials the peer and lets its tree be brought up to date in `epoch`.

    `keep_aside`: what would be overwritten or deleted is kept in a dated folder first (I19).
    `restored`: an operator put the source's backup here, and says that nothing else changed
    (`rfssync -d second`): what changed while the module was stopped is not told to the source."""

    step_id: int
    epoch: int
    keep_aside: bool
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Adopted:
    """Following side, after the record is durable: tell the source that we are SECOND."""

    epoch: int


@dataclass(frozen=True, slots=True)
class StopFollowing:
    """The stream to the primary is closed; everything received was applied and flushed."""

    step_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class ModifiedRecorded:
    """The answer to `FirstModification`: its record is durable."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CheckpointBegun:
    """PRIM: `checkpoint_started` is durable; rotate the log and flush both nodes."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class CheckpointRecorded:
    """The record holds this checkpoint: SECOND answers the primary, PRIM drops the marks of the
    window before it (I6)."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class AskWitness:
    """CLAIM(this node, `epoch`) at the witness of the module (protocol 7.1). Answered by
    `WitnessAnswered`, or by a failed `StepDone` when the witness cannot be reached."""

    step_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The other node is switched off or cut off from network and storage, and the device says so
    (E3). `ok` only if it was confirmed."""

    step_id: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The witness address answers a ping (E5)."""

    step_id: int


@dataclass(frozen=True, slots=True)
class FeedWatchdog:
    """The hardware watchdog of this node is armed, and resets the machine in `timeout_s` seconds
    unless it is fed again (E4)."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class DisarmWatchdog:
    """The hardware watchdog of this node does not reset it."""


@dataclass(frozen=True, slots=True)
class Reboot:
    """The operating system was told to reboot this server, in order: the modules are stopped
    first. `ok` says that it was told, not that it happened."""

    step_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class WatchProcesses:
    """Enable or disable a class of the process checker (`prim`, `both`, `second`, `sec`, `pre`)."""

    checker_class: str
    on: bool


@dataclass(frozen=True, slots=True)
class Announce:
    """A line for the module log, in the words of the reference 15.4 where it has them."""

    level: Level
    text: str
    origin: str = "heart"


@dataclass(frozen=True, slots=True)
class SetResource:
    """A resource has this value now. `who` set it."""

    name: str
    value: str
    who: str = "heart"


@dataclass(frozen=True, slots=True)
class Publish:
    """The snapshot changed: probe, CLI and watchers may read it again."""


Command = (
    SendBeat
    | SaveRecord
    | RunScript
    | Cover
    | Uncover
    | StartWorker
    | StopWorker
    | Serve
    | SetAddresses
    | RemoveAddresses
    | OpenGate
    | CloseGate
    | Quiesce
    | Demote
    | ReleaseHeld
    | AllowFollower
    | Join
    | Follow
    | Adopted
    | StopFollowing
    | ModifiedRecorded
    | CheckpointBegun
    | CheckpointRecorded
    | AskWitness
    | Fence
    | Ping
    | FeedWatchdog
    | DisarmWatchdog
    | Reboot
    | WatchProcesses
    | Announce
    | SetResource
    | Publish
)
