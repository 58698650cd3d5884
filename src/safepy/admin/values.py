"""What goes into the verbs and what comes out: arguments, answers, and the names they may bear."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from safepy.admin.names import check_label, check_path
from safepy.model import Snapshot

_UID = re.compile(r"[A-Za-z0-9_.:@-]{1,24}\Z")
#: Unix seconds, the end of the year 9999.
LAST_MOMENT = 253_402_300_800.0
#: What `Manager.action` understands. All return at once; the automaton works on.
ACTIONS = (
    "start",
    "stop",
    "restart",
    "stopstart",
    "swap",
    "prim",
    "primforce",
    "second",
    "secondforce",
)


#: What `safekit plan` can imagine.
PLANNED = (
    "start",
    "stop",
    "stopstart",
    "shutdown",
    "restart",
    "swap",
    "prim",
    "primforce",
    "second",
)

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """An installed module. `boot` is "on" or "off"; `config_date` is Unix seconds, None until
    the first `safekit config`; `state` is empty as long as the module is not configured."""

    module: str
    id: int
    mode: str = "mirror"
    configured: bool = False
    digest: str = ""
    config_date: float | None = None
    boot: str = "off"
    state: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A configuration's hexadecimal digest and its date in Unix seconds."""

    signature: str
    date: float


@dataclass(frozen=True, slots=True)
class ConfigurationInfo:
    """The configuration that runs and the one in `SAFE/modules/AM` (reference 13.4)."""

    active: Signature | None = None
    current: Signature | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """What must be open between the nodes (reference 13.10); `rfs` None without `<rfs>`, `heart`
    None of a light module."""

    safeadmin: int
    webconsole: int
    heart: int | None = None
    rfs: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster configuration of this node. `fingerprint` is that of the cluster key, empty
    without one; the nodes of a cluster show the same (protocol S6)."""

    node: str
    cluster_id: str = ""
    signature: str = ""
    date: float | None = None
    lock: bool = False
    fingerprint: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterModule:
    """One line of `safekit cluster state`; `date` is Unix seconds."""

    node: str
    module: str
    mode: str
    id: int
    date: float | None
    signature: str


@dataclass(frozen=True, slots=True)
class LoopState:
    """The counter of maxloop; `reached`: more was counted in the interval than it allows."""

    count: int
    limit: int
    reached: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """A snapshot with its number, for whoever waits for the next one."""

    version: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Differing:
    """One name at which the two copies differ. `kind` is "content", "attributes", "missing on
    prim", "missing on second", "unreadable on prim" or "unreadable on second" (the disk refuses to
    read it); `mended`: they do not any more."""

    path: str
    kind: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class VerifyState:
    """How far a verification is. `differences` are those after the ones that were read before,
    `read` is how many that makes; `found` counts all. When it is `over`, `problem` is empty if
    both copies were compared whole."""

    files: int
    bytes: int
    found: int
    mended: int
    over: bool
    problem: str
    read: int
    differences: tuple[Differing, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncEstimate:
    """What a resynchronisation would do: `mode` (model.SyncMode) and why; `names` are compared,
    `files` looked into, `bytes` copied at most, at `rate_bytes_s` the last time (0: unknown)."""

    mode: str
    reason: str
    names: int
    files: int
    bytes: int
    rate_bytes_s: float = 0.0


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class NoArguments(Arguments, frozen=True):
    pass


class Act(Arguments, frozen=True):
    action: str
    identity: str = ""
    fullsync: bool = False
    #: secondforce: Unix seconds; older files are taken as equal.
    since: float = 0.0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"no action is called {self.action!r}")
        if (self.action == "secondforce") is not (0 < self.since < LAST_MOMENT):
            raise ValueError("secondforce takes a date, and nothing else does")
        if self.fullsync and self.action not in ("prim", "second"):
            raise ValueError("fullsync belongs to prim and second")
        if self.identity:
            check_label(self.identity, "caller")


class Policy(Arguments, frozen=True):
    """How the next synchronisation is done (reference 19.9); `uid` is a name of 24 characters."""

    mode: str
    role: str = "default"
    uid: str = ""
    detect: bool = True

    def __post_init__(self) -> None:
        if self.mode == "external":
            if self.role not in ("prim", "second"):
                raise ValueError("an external synchronisation has a prim and a second")
            if not _UID.match(self.uid):
                raise ValueError("a UID has 1 to 24 letters, digits and '_.:@-'")
        elif self.mode not in ("default", "full"):
            raise ValueError(f"no policy is called {self.mode!r}")
        elif self.role != "default" or self.uid or not self.detect:
            raise ValueError("role and UID belong to an external synchronisation")


class Identity(Arguments, frozen=True):
    identity: str = ""

    def __post_init__(self) -> None:
        if self.identity:
            check_label(self.identity, "caller")


class Switch(Arguments, frozen=True):
    on: bool


#: The longest maintenance: whoever forgets one shall not find it next year.
MAINTENANCE_S_MAX = 30 * 86_400.0


class Maintain(Arguments, frozen=True):
    """`safekit maintenance on|off`; `for_s` and `reason` belong to on."""

    on: bool
    for_s: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        if self.on and not 1 <= self.for_s <= MAINTENANCE_S_MAX:
            raise ValueError("a maintenance lasts from one second to 30 days")
        if not self.on and (self.for_s or self.reason):
            raise ValueError("time and reason belong to maintenance on")
        if len(self.reason) > 200 or not (self.reason.isprintable() or not self.reason):
            raise ValueError("a reason is one line of at most 200 characters")


class Costly(Arguments, frozen=True):
    """A command that may lose data (`core.cost`)."""

    action: str


class Planned(Arguments, frozen=True):
    """`safekit plan`."""

    action: str

    def __post_init__(self) -> None:
        if self.action not in PLANNED:
            raise ValueError("plan takes " + ", ".join(PLANNED))


class Clean(Arguments, frozen=True):
    """`safekit clean`."""

    what: str = "all"

    def __post_init__(self) -> None:
        if self.what not in ("all", "log", "process", "resource"):
            raise ValueError("clean takes all, log, process or resource")


class PrintLine(Arguments, frozen=True):
    level: str
    text: str
    origin: str = "safekit"

    def __post_init__(self) -> None:
        if self.level not in ("I", "W", "E"):
            raise ValueError("level must be I, W or E")


class ResourceName(Arguments, frozen=True):
    name: str

    def __post_init__(self) -> None:
        check_label(self.name, "resource")


class ResourceValue(Arguments, frozen=True):
    name: str
    value: str
    identity: str = ""
    log: bool | None = None

    def __post_init__(self) -> None:
        check_label(self.name, "resource")
        if not all(self.name.partition(".")):
            raise ValueError(f"a resource is called CLASS.ID, not {self.name}")
        if len(self.value) > 1024 or not self.value.isprintable():
            raise ValueError("a resource's value is one printable line of at most 1024 characters")


class Loop(Arguments, frozen=True):
    change: str
    identity: str = ""

    def __post_init__(self) -> None:
        if self.change not in ("inc", "reset", "check"):
            raise ValueError("change must be inc, reset or check")


class Install(Arguments, frozen=True):
    """`source` is an absolute path, or a name below SAFE/Application_Modules, or empty."""

    source: str = ""
    module_id: int | None = None
    replace: bool = False


class Target(Arguments, frozen=True):
    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


class Document(Arguments, frozen=True):
    """A file's content, because the daemon need not be able to read the operator's path."""

    content: bytes | None
    source: str


class Mend(Arguments, frozen=True):
    """`mend`: the side whose content the other one gets where they differ; "": neither."""

    mend: str = ""

    def __post_init__(self) -> None:
        if self.mend not in ("", "prim", "second"):
            raise ValueError("mend must be prim or second")


class VerifyNext(Arguments, frozen=True):
    """News of verification `number` after the first `seen` differences, within `timeout_s`."""

    number: int
    seen: int = 0
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        if self.seen < 0 or not 0.0 <= self.timeout_s <= 50.0:
            raise ValueError("seen must not be negative, timeout_s between 0 and 50")


class VerifyNumber(Arguments, frozen=True):
    number: int


class Force(Arguments, frozen=True):
    force: bool = False


class Next(Arguments, frozen=True):
    """Wait until the snapshot is newer than `version`, at most `timeout_s`."""

    version: int = 0
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.timeout_s <= 50.0:
            raise ValueError("timeout_s must be between 0 and 50")
