"""What the daemon and a worker say to each other: one JSON document a datagram (SOCK_SEQPACKET).

Orders go down, reports come up. Every one carries the epoch; the worker ignores an order of a
lower epoch than it has seen (protocol 4.0). Orders with `step_id` are answered by `Done`.
"""

from __future__ import annotations

import msgspec


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first order after the start, before any other.

    `doors` are paths of the private doors (bind mounts) to the real directories, `paths` the
    public ones, in the same order. `listen`/`dial` are (address, port) of this node and the
    peer for the stream. `key` is the module's replication key, hexadecimal: it travels on the
    socket pair only, never in arguments or environment (S6).
    """

    step_id: int
    module: str
    node: str
    peer: str
    key: str
    listen: tuple[str, int]
    dial: tuple[str, int]
    paths: list[str]
    doors: list[str]
    acknowledge_on: str
    acl: bool
    transfers: int
    locktimeout_s: float
    sendtimeout_s: float
    keep_dir: str
    #: Where the intent log, the saved marks and the seals are (0700, outside of the trees).
    state_dir: str = ""
    #: Which names are left out, one tuple for each directory: as in `config.schema.Replicated`.
    notreplicated: list[tuple[tuple[str, str], ...]] = []
    #: Bandwidth of a resynchronisation in bytes a second, 0: unlimited.
    reiallowedbw_bytes_s: int = 0
    #: Write to disk after so many bytes of one file, 0: only at the end.
    reicommit_bytes: int = 0
    reitimeout_s: float = 150.0
    #: Name each file that a resynchronisation copies.
    reidetail: bool = False
    checkpoint_interval_s: float = 30.0
    #: Since the last worker of this module ran, nobody can have changed the directories.
    kept_closed: bool = False

    def __repr__(self) -> str:
        return f"Setup(module={self.module!r}, node={self.node!r}, ...)"  # never the key


class Tune(msgspec.Struct, frozen=True, tag="tune"):
    """What of `Setup` may change while the worker runs: for the next follower, synchronisation or
    connection; what is under way goes on as it began."""

    acknowledge_on: str
    transfers: int
    reitimeout_s: float
    reidetail: bool
    listen: tuple[str, int]
    dial: tuple[str, int]


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    step_id: int
    epoch: int


class OpenGate(msgspec.Struct, frozen=True, tag="open_gate"):
    """`deadline_boottime_s` is a moment on CLOCK_BOOTTIME; a renewal is the same message."""

    epoch: int
    mode: str
    deadline_boottime_s: float


class CloseGate(msgspec.Struct, frozen=True, tag="close_gate"):
    epoch: int


class Quiesce(msgspec.Struct, frozen=True, tag="quiesce"):
    step_id: int
    epoch: int


class Demote(msgspec.Struct, frozen=True, tag="demote"):
    step_id: int
    epoch: int


class ReleaseHeld(msgspec.Struct, frozen=True, tag="release_held"):
    epoch: int
    deadline_boottime_s: float


class AllowFollower(msgspec.Struct, frozen=True, tag="allow_follower"):
    """`mode` (model.SyncMode) is the least that the records allow; what the workers know of their
    trees may ask for more. `reason` is the sentence for people. `since`: see core.commands."""

    epoch: int
    keep_aside: bool
    mode: str = "everything"
    reason: str = ""
    since: float = 0.0


class Join(msgspec.Struct, frozen=True, tag="join"):
    epoch: int
    gen: str
    base: str
    history: list[tuple[int, str]]
    checkpoint: int = 0


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """`restored`: what changed here while the module was stopped is not told to the source."""

    step_id: int
    epoch: int
    keep_aside: bool
    restored: bool = False


class Adopted(msgspec.Struct, frozen=True, tag="adopted"):
    epoch: int


class StopFollowing(msgspec.Struct, frozen=True, tag="stop_following"):
    step_id: int
    epoch: int


class ModifiedRecorded(msgspec.Struct, frozen=True, tag="modified_recorded"):
    epoch: int


class CheckpointBegun(msgspec.Struct, frozen=True, tag="checkpoint_begun"):
    """To a primary: `checkpoint_started` = number is durable, go on with it (protocol 4.3)."""

    epoch: int
    number: int


class CheckpointRecorded(msgspec.Struct, frozen=True, tag="checkpoint_recorded"):
    """The number is durable in the record. A secondary answers the primary now, a primary drops
    the marks of the window before."""

    epoch: int
    number: int


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """PRIM or SECOND: compare the content of both copies while they are in use, at low priority.
    `number` names this run in the reports, of which the last is `VerifyDone`. `mend`: "", or the
    side ("prim", "second") whose content the other one gets where they differ. A second one
    while one runs is answered by `VerifyDone` with a `problem`."""

    epoch: int
    number: int
    mend: str = ""


class StopVerify(msgspec.Struct, frozen=True, tag="stop_verify"):
    """End this run soon; it is answered by its `VerifyDone`."""

    epoch: int
    number: int


class Estimate(msgspec.Struct, frozen=True, tag="estimate"):
    """ALONE: how much would a resynchronisation that began now look at and copy? `mode`
    (model.SyncMode) is the least that the two records allow, for `reason`; `since`: see
    core.commands. Answered by `Estimated`."""

    epoch: int
    number: int
    mode: str
    reason: str
    since: float = 0.0


class Exit(msgspec.Struct, frozen=True, tag="exit"):
    """Unmount what is mounted, close everything and end."""

    step_id: int


Order = (
    Setup
    | Tune
    | Serve
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
    | Verify
    | StopVerify
    | Estimate
    | Exit
)


class Done(msgspec.Struct, frozen=True, tag="done"):
    step_id: int
    ok: bool
    detail: str = ""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Once a second: the loop turns. `peer_heard` says whether the stream was heard since the
    last one. `progress` is a `model.Progress` as a dictionary while a resync runs. The `net_`
    counters are what all streams between the workers carried since the worker's start."""

    peer_heard: bool
    held: int
    in_flight: int
    replicated_bytes: int
    progress: dict[str, str | int | float | None] | None = None
    net_in_bytes: int = 0
    net_out_bytes: int = 0
    #: What a synchronisation did that ended since the last one.
    finished: dict[str, str | int | float | None] | None = None


class ReplicaLost(msgspec.Struct, frozen=True, tag="replica_lost"):
    epoch: int
    reason: str


class SourceLost(msgspec.Struct, frozen=True, tag="source_lost"):
    epoch: int
    reason: str


class CaughtUp(msgspec.Struct, frozen=True, tag="caught_up"):
    epoch: int


class AdoptRequested(msgspec.Struct, frozen=True, tag="adopt_requested"):
    epoch: int
    gen: str
    base: str
    history: list[tuple[int, str]]
    checkpoint: int = 0


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    epoch: int


class ResyncFailed(msgspec.Struct, frozen=True, tag="resync_failed"):
    epoch: int
    reason: str
    fatal: bool


class FirstModification(msgspec.Struct, frozen=True, tag="first_modification"):
    epoch: int


class SyncChosen(msgspec.Struct, frozen=True, tag="sync_chosen"):
    """How much is looked at in the resynchronisation that begins now, and why."""

    epoch: int
    mode: str
    reason: str


class CheckpointWanted(msgspec.Struct, frozen=True, tag="checkpoint_wanted"):
    """A primary: it is time. Answered by `CheckpointBegun`."""

    epoch: int


class CheckpointReached(msgspec.Struct, frozen=True, tag="checkpoint_reached"):
    """Everything before the checkpoint is durable: on this node (a secondary), on both (a
    primary). Answered by `CheckpointRecorded`."""

    epoch: int
    number: int


class Difference(msgspec.Struct, frozen=True):
    """`path` as text, with backslashes for what is none; below the directory number `tree`. `kind`
    is "content", "attributes", or "missing" or "unreadable", "on prim" or "on second"."""

    tree: int
    path: str
    kind: str
    mended: bool = False


class VerifyProgress(msgspec.Struct, frozen=True, tag="verify_progress"):
    """At least each ten seconds. `files` and `bytes` were compared so far; `differences` are those
    found since the last one, some hundred at most (a message has 64 KiB)."""

    epoch: int
    number: int
    files: int
    bytes: int
    differences: list[Difference] = []


class VerifyDone(msgspec.Struct, frozen=True, tag="verify_done"):
    """The run ended: both copies were compared whole, or `problem` says why not."""

    epoch: int
    number: int
    files: int
    bytes: int
    problem: str = ""


class Estimated(msgspec.Struct, frozen=True, tag="estimated"):
    """`mode` is what this node alone would choose (model.SyncMode): the other node may know a
    reason for more. `files` would be looked into, `bytes` at most be copied; `names` is how many
    names are compared."""

    epoch: int
    number: int
    mode: str
    reason: str
    names: int
    files: int
    bytes: int
    problem: str = ""


class DiskFault(msgspec.Struct, frozen=True, tag="disk_fault"):
    epoch: int
    disk: str
    reason: str


class GateStale(msgspec.Struct, frozen=True, tag="gate_stale"):
    epoch: int


class Log(msgspec.Struct, frozen=True, tag="log"):
    """A line for the module log. `origin` is "nfsbox" or "reintegre" as in the reference."""

    origin: str
    level: str
    text: str


Report = (
    Done
    | Alive
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
    | VerifyProgress
    | VerifyDone
    | Estimated
    | DiskFault
    | GateStale
    | Log
)

ORDER = msgspec.json.Decoder(Order)
REPORT = msgspec.json.Decoder(Report)
#: What both raise for bytes that are no message.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
encode = msgspec.json.encode
