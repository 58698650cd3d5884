"""The table of verbs: what may be asked of the daemon, shared by command line, console, tests.

A verb names its arguments, whether it changes something, what it answers, and which method
of the `Manager` carries it out. The daemon implements `Manager`; this package never imports
it. Answers are values of the types below, so both ends agree on their shape.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from safepy.errors import RequestRefused
from safepy.model import Snapshot
from safepy.wire.admin import Request

#: Names of modules and nodes. `\Z`, because `$` would let a line feed through.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
#: Names of resources (`class.id`), watched processes and callers.
_LABEL = re.compile(r"[A-Za-z0-9_.:@-]{1,128}\Z")

#: What `Manager.act` understands. All return at once; the automaton works on.
ACTIONS = (
    "start",
    "stop",
    "restart",
    "stopstart",
    "swap",
    "prim",
    "second",
    "forcestop",
)


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """An installed module. `configured` is false until the first `safekit config`; `boot` is
    "on", "off" or what `<service boot=...>` says."""

    name: str
    id: int
    mode: str = "mirror"
    configured: bool = False
    boot: str = "off"


@dataclass(frozen=True, slots=True)
class ConfigurationInfo:
    """Signatures and dates (Unix seconds, 0 when there is none) of the configuration that
    runs and of the one in `SAFE/modules/AM` (reference 13.4 confinfo)."""

    active_signature: str
    active_date: float
    current_signature: str
    current_date: float


@dataclass(frozen=True, slots=True)
class Port:
    """One port that must be open between the nodes: `kind` is "UDP" or "TCP"."""

    process: str
    label: str
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """One `<proc>` of the process checker. `running` counts what was found last."""

    name: str
    checker_class: str
    action: str
    atleast: int
    running: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster configuration of this node. `fingerprint` is that of the cluster key, empty
    without one; the nodes of a cluster show the same (protocol S6)."""

    node: str
    signature: str
    date: float
    fingerprint: str
    nodes: tuple[str, ...] = ()
    lock: bool = False


@dataclass(frozen=True, slots=True)
class ClusterModule:
    """One line of `safekit cluster state`."""

    node: str
    module: str
    mode: str
    id: int
    date: float
    signature: str


@dataclass(frozen=True, slots=True)
class LoopState:
    """The counter of maxloop: `reached` when the next restart would stop the module."""

    count: int
    limit: int
    reached: bool


class Manager(Protocol):
    """What the verbs ask of the daemon.

    Every method may raise a `SafekitError`, which becomes the one line the operator reads. A
    module that is not installed is `RequestRefused("no module is called X")`. `who` stands in
    the log. `act` returns as soon as the automaton has taken the wish, so that a script of the
    module can ask for a `stop` of its own module without waiting for itself.
    """

    async def snapshots(self, module: str) -> list[Snapshot]:
        """Of one configured module, or of all when `module` is empty."""
        ...

    async def act(
        self, module: str, action: str, who: str, identity: str, fullsync: bool
    ) -> None: ...

    async def shutdown(self, who: str) -> None:
        """Ask every running module to stop."""
        ...

    async def set_failover(self, module: str, on: bool, who: str) -> None: ...

    async def set_errd(self, module: str, on: bool, who: str) -> None: ...

    async def errd_list(self, module: str) -> list[WatchedProcess]: ...

    async def set_boot(self, module: str, on: bool) -> None: ...

    async def print_line(self, module: str, level: str, text: str, origin: str) -> None:
        """A line of a script for the module log; `level` is "I", "W" or "E"."""
        ...

    async def set_resource(self, module: str, name: str, value: str, who: str) -> None: ...

    async def get_resource(self, module: str, name: str) -> str: ...

    async def loop(self, module: str, change: str, identity: str) -> LoopState:
        """`change` is "inc", "reset" or "check"."""
        ...

    async def modules(self) -> list[ModuleInfo]: ...

    async def install(self, module: str, source: str, module_id: int, replace: bool) -> ModuleInfo:
        """`source` is the absolute path of a `.safe` file or folder; `module_id` 0 = lowest
        free one; `replace` installs over a module of that name."""
        ...

    async def uninstall(self, module: str) -> None: ...

    async def package(self, module: str, target: str) -> None:
        """Write the installed module as a new `.safe` file (absolute path)."""
        ...

    async def configure(self, module: str, who: str) -> ConfigurationInfo: ...

    async def check_configuration(self, module: str) -> None: ...

    async def configuration_info(self, module: str) -> ConfigurationInfo: ...

    async def deconfigure(self, module: str, who: str) -> None: ...

    async def ports(self, module: str) -> list[Port]: ...

    async def cluster_configure(self, path: str) -> ClusterInfo: ...

    async def cluster_check(self, path: str) -> None: ...

    async def cluster_genkey(self, replace: bool) -> str:
        """Makes the cluster key and answers its fingerprint."""
        ...

    async def cluster_info(self) -> ClusterInfo: ...

    async def cluster_deconfigure(self) -> None: ...

    async def cluster_state(self) -> list[ClusterModule]: ...


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class NoArguments(_Arguments, frozen=True):
    pass


class Act(_Arguments, frozen=True):
    action: str
    identity: str = ""
    fullsync: bool = False

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"no action is called {self.action!r}")
        if self.identity:
            check_label(self.identity, "identity")


class Switch(_Arguments, frozen=True):
    on: bool


class PrintLine(_Arguments, frozen=True):
    level: str
    text: str
    origin: str = "safekit"

    def __post_init__(self) -> None:
        if self.level not in ("I", "W", "E"):
            raise ValueError("level must be I, W or E")


class ResourceName(_Arguments, frozen=True):
    name: str

    def __post_init__(self) -> None:
        check_label(self.name, "resource")


class ResourceValue(_Arguments, frozen=True):
    name: str
    value: str
    identity: str = ""

    def __post_init__(self) -> None:
        check_label(self.name, "resource")
        if len(self.value) > 1024 or not self.value.isprintable():
            raise ValueError("a resource's value is one printable line of at most 1024 characters")


class Loop(_Arguments, frozen=True):
    change: str
    identity: str = ""

    def __post_init__(self) -> None:
        if self.change not in ("inc", "reset", "check"):
            raise ValueError("change must be inc, reset or check")


class Install(_Arguments, frozen=True):
    source: str
    module_id: int = 0
    replace: bool = False

    def __post_init__(self) -> None:
        check_path(self.source)


class Path(_Arguments, frozen=True):
    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


class Replace(_Arguments, frozen=True):
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was found good: who asks (by the socket's credentials), and for what."""

    module: str
    args: Any
    who: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table. `limit_s` is how long a client waits for the answer; `module` is
    "required", "optional" (empty = all) or "none"."""

    name: str
    run: Callable[[Manager, Call], Awaitable[object]]
    arguments: type[_Arguments] = NoArguments
    answer: Any = None
    changes: bool = True
    module: str = "required"
    limit_s: float = 60.0


#: Commands that read and copy files, on a machine that may be busy.
_LONG_S = 600.0

_TABLE = (
    Verb(
        "state",
        lambda m, c: m.snapshots(c.module),
        answer=list[Snapshot],
        changes=False,
        module="optional",
    ),
    Verb(
        "act",
        lambda m, c: m.act(c.module, c.args.action, c.who, c.args.identity, c.args.fullsync),
        Act,
    ),
    Verb("shutdown", lambda m, c: m.shutdown(c.who), module="none"),
    Verb("failover", lambda m, c: m.set_failover(c.module, c.args.on, c.who), Switch),
    Verb("errd", lambda m, c: m.set_errd(c.module, c.args.on, c.who), Switch),
    Verb(
        "errd.list",
        lambda m, c: m.errd_list(c.module),
        answer=list[WatchedProcess],
        changes=False,
    ),
    Verb("boot", lambda m, c: m.set_boot(c.module, c.args.on), Switch),
    Verb(
        "print",
        lambda m, c: m.print_line(c.module, c.args.level, c.args.text, c.args.origin),
        PrintLine,
    ),
    Verb(
        "resource.get",
        lambda m, c: m.get_resource(c.module, c.args.name),
        ResourceName,
        answer=str,
        changes=False,
    ),
    Verb(
        "resource.set",
        lambda m, c: m.set_resource(c.module, c.args.name, c.args.value, c.args.identity or c.who),
        ResourceValue,
    ),
    Verb("loop", lambda m, c: m.loop(c.module, c.args.change, c.args.identity), Loop, LoopState),
    Verb(
        "modules",
        lambda m, c: m.modules(),
        answer=list[ModuleInfo],
        changes=False,
        module="none",
    ),
    Verb(
        "module.install",
        lambda m, c: m.install(c.module, c.args.source, c.args.module_id, c.args.replace),
        Install,
        ModuleInfo,
        limit_s=_LONG_S,
    ),
    Verb("module.uninstall", lambda m, c: m.uninstall(c.module), limit_s=_LONG_S),
    Verb("module.package", lambda m, c: m.package(c.module, c.args.path), Path, limit_s=_LONG_S),
    Verb(
        "config",
        lambda m, c: m.configure(c.module, c.who),
        answer=ConfigurationInfo,
        limit_s=_LONG_S,
    ),
    Verb("confcheck", lambda m, c: m.check_configuration(c.module), changes=False),
    Verb(
        "confinfo",
        lambda m, c: m.configuration_info(c.module),
        answer=ConfigurationInfo,
        changes=False,
    ),
    Verb("deconfig", lambda m, c: m.deconfigure(c.module, c.who), limit_s=_LONG_S),
    Verb("ports", lambda m, c: m.ports(c.module), answer=list[Port], changes=False),
    Verb(
        "cluster.config",
        lambda m, c: m.cluster_configure(c.args.path),
        Path,
        ClusterInfo,
        module="none",
    ),
    Verb(
        "cluster.confcheck",
        lambda m, c: m.cluster_check(c.args.path),
        Path,
        changes=False,
        module="none",
    ),
    Verb(
        "cluster.genkey",
        lambda m, c: m.cluster_genkey(c.args.replace),
        Replace,
        str,
        module="none",
    ),
    Verb(
        "cluster.confinfo",
        lambda m, c: m.cluster_info(),
        answer=ClusterInfo,
        changes=False,
        module="none",
    ),
    Verb("cluster.deconfig", lambda m, c: m.cluster_deconfigure(), module="none"),
    Verb(
        "cluster.state",
        lambda m, c: m.cluster_state(),
        answer=list[ClusterModule],
        changes=False,
        module="none",
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}


def check_name(name: str, what: str = "module") -> str:
    """A name of a module or node: 1 to 64 of A-Z a-z 0-9 _ -; anything else is RequestRefused."""
    if not _NAME.match(name):
        raise RequestRefused(
            f"{name!r} cannot be the name of a {what}",
            "1 to 64 characters, letters without accents, digits, '_' and '-'",
        )
    return name


def check_label(label: str, what: str) -> str:
    """A name of a resource, process or caller, without blanks; else RequestRefused."""
    if not _LABEL.match(label):
        raise RequestRefused(
            f"{label!r} cannot be the name of a {what}",
            "1 to 128 characters, letters without accents, digits and '_.:@-'",
        )
    return label


def check_path(path: str) -> str:
    """Absolute, because the daemon's working directory is not the caller's; no NUL."""
    if not path.startswith("/") or "\0" in path:
        raise RequestRefused(f"{path!r} is not an absolute path")
    return path


def prepare(request: Request, who: str) -> tuple[Verb, Call]:
    """The verb and its checked arguments.

    Raises:
        RequestRefused: no such verb, a module's name that is none, wrong arguments.
    """
    verb = VERBS.get(request.verb)
    if verb is None:
        raise RequestRefused(f"safeadmin knows no request {request.verb!r}")
    if verb.module == "none" and request.module:
        raise RequestRefused(f"{verb.name} concerns no single module")
    if verb.module == "required" and not request.module:
        raise RequestRefused("no module is named", "name it with -m AM")
    if request.module:
        check_name(request.module)
    try:
        args = msgspec.convert(request.args, verb.arguments)
    except msgspec.ValidationError as error:
        raise RequestRefused(f"{verb.name}: {error}") from None
    return verb, Call(request.module, args, who)


async def perform(manager: Manager, request: Request, who: str) -> object:
    """Carry a request out and give its answer as plain values. Raises SafekitError."""
    verb, call = prepare(request, who)
    return msgspec.to_builtins(await verb.run(manager, call))
