"""The table of verbs: what may be asked of the daemon, shared by command line, console, tests.

A verb names its arguments, whether it changes something, what it answers, and which method
of the `Manager` (`admin.manager`) carries it out. The daemon implements it; this package never
imports that. Answers are values of the types below, so both ends agree on their shape.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from safepy.admin.manager import Manager
from safepy.admin.names import check_name
from safepy.admin.values import (
    Act,
    Arguments,
    Clean,
    ClusterInfo,
    ClusterModule,
    ConfigurationInfo,
    Costly,
    Document,
    Force,
    Identity,
    Install,
    Loop,
    LoopState,
    Maintain,
    Mend,
    ModuleInfo,
    Next,
    NoArguments,
    Planned,
    Policy,
    Ports,
    PrintLine,
    ResourceName,
    ResourceValue,
    Switch,
    SyncEstimate,
    Target,
    VerifyNext,
    VerifyNumber,
    VerifyState,
    Watched,
)
from safepy.admin.watched import ClassSwitch, Kill, KilledProcess, WatchedProcess
from safepy.core.why import Why
from safepy.errors import RequestRefused
from safepy.model import Level, Snapshot
from safepy.wire.admin import Request


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was found good: who asks (by the socket's credentials), and for what."""

    module: str
    args: Any
    who: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table. `module` is "required", "optional" (empty = all) or "none". How long a
    client waits for the answer says `admin.limits`. `routine`: asked by a program that names itself
    (`identity`), again and again, it is no line of the command log. `only_looks`: with these
    arguments it changes nothing."""

    name: str
    run: Callable[[Manager, Call], Awaitable[object]]
    arguments: type[Arguments] = NoArguments
    answer: Any = None
    changes: bool = True
    module: str = "required"
    routine: bool = False
    only_looks: Callable[[Any], bool] = lambda _arguments: False

    def recorded(self, arguments: Any) -> bool:
        """Whether it is a line of the command log, which has what changes something (15.6)."""
        if not self.changes or self.only_looks(arguments):
            return False
        return not (self.routine and arguments.identity)


async def _states(manager: Manager, call: Call) -> list[Snapshot]:
    """Of one module, or of every configured one; with the dates of all resources."""
    names = [call.module]
    if not call.module:
        rows = msgspec.convert(msgspec.to_builtins(await manager.modules()), list[ModuleInfo])
        names = [row.module for row in rows if row.configured]
    found = []
    for name in names:
        snapshot = await manager.snapshot(name)
        latest = {row[0]: row for row in await manager.resources(name)}
        latest.update((row[0], row) for row in snapshot.resources)
        found.append(replace(snapshot, resources=tuple(sorted(latest.values()))))
    return found


async def _next(manager: Manager, call: Call) -> Watched:
    return Watched(
        *await manager.next_snapshot(call.module, call.args.version, call.args.timeout_s)
    )


async def _resource(manager: Manager, call: Call) -> str:
    """As `state -v` shows it: what the automaton knows, else what was set last."""
    (snapshot,) = await _states(manager, call)
    for name, value, _ in snapshot.resources:
        if name == call.args.name:
            return value
    raise RequestRefused(
        f"module {call.module} has no resource {call.args.name}",
        f"safekit state -v -m {call.module} shows them",
    )


async def _boot_status(manager: Manager, call: Call) -> str:
    return await manager.boot(call.module, None)


_TABLE = (
    Verb("state", _states, answer=list[Snapshot], changes=False, module="optional"),
    Verb("state.next", _next, Next, Watched, changes=False),
    Verb(
        "action",
        lambda m, c: m.action(
            c.module,
            c.args.action,
            c.args.identity or c.who,
            c.args.identity,
            c.args.fullsync,
            c.args.since,
        ),
        Act,
    ),
    Verb(
        "rfssync",
        lambda m, c: m.sync_policy(
            c.module, c.args.mode, c.args.role, c.args.uid, c.args.detect, c.who
        ),
        Policy,
    ),
    Verb(
        "forcestop",
        lambda m, c: m.action(c.module, "forcestop", c.args.identity or c.who, c.args.identity),
        Identity,
    ),
    Verb("shutdown", lambda m, c: m.shutdown(c.who), module="none"),
    Verb("failover", lambda m, c: m.failover(c.module, c.args.on, c.who), Switch),
    Verb(
        "maintenance",
        lambda m, c: m.maintenance(c.module, c.args.on, c.args.for_s, c.args.reason, c.who),
        Maintain,
    ),
    Verb("update", lambda m, c: m.update(c.module, c.who)),
    Verb("checker", lambda m, c: m.checker(c.module, c.args.on, c.who), Switch),
    Verb("errd", lambda m, c: m.errd(c.module, c.args.on, c.who), Switch),
    Verb(
        "errd.list",
        lambda m, c: m.errd_list(c.module),
        answer=list[WatchedProcess],
        changes=False,
    ),
    Verb(
        "errd.class",
        lambda m, c: m.errd_class(c.module, c.args.checker_class, c.args.on),
        ClassSwitch,
    ),
    Verb(
        "kill",
        lambda m, c: m.kill(c.args.name, c.args.argregex, c.args.level, c.args.caller),
        Kill,
        list[KilledProcess],
        module="optional",
        only_looks=lambda kill: kill.level == "test",
    ),
    Verb(
        "loop",
        lambda m, c: m.loop(c.module, c.args.change, c.args.identity),
        Loop,
        LoopState,
        routine=True,
        only_looks=lambda loop: loop.change == "check",
    ),
    Verb("boot", lambda m, c: m.boot(c.module, c.args.on), Switch),
    Verb("boot.status", _boot_status, answer=str, changes=False),
    Verb("verify", lambda m, c: m.verify(c.module, c.args.mend, c.who), Mend, int),
    Verb(
        "verify.next",
        lambda m, c: m.verify_result(c.module, c.args.number, c.args.seen, c.args.timeout_s),
        VerifyNext,
        VerifyState,
        changes=False,
    ),
    Verb("verify.stop", lambda m, c: m.verify_stop(c.module, c.args.number), VerifyNumber),
    Verb(
        "estimate",
        lambda m, c: m.estimate(c.module),
        answer=SyncEstimate,
        changes=False,
    ),
    Verb("why", lambda m, c: m.why(c.module), answer=Why, changes=False),
    Verb("plan", lambda m, c: m.plan(c.module, c.args.action), Planned, list[str], changes=False),
    Verb("cost", lambda m, c: m.cost(c.module, c.args.action), Costly, str, changes=False),
    Verb("clean", lambda m, c: m.clean(c.module, c.args.what, c.who), Clean),
    Verb(
        "print",
        lambda m, c: m.print_line(c.module, Level(c.args.level), c.args.text, c.args.origin),
        PrintLine,
        changes=False,
    ),
    Verb(
        "resource.get",
        _resource,
        ResourceName,
        answer=str,
        changes=False,
    ),
    Verb(
        "resource.set",
        lambda m, c: m.set_resource(
            c.module, c.args.name, c.args.value, c.args.identity or c.who, c.args.log
        ),
        ResourceValue,
        routine=True,
    ),
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
        int,
    ),
    Verb("module.uninstall", lambda m, c: m.uninstall(c.module)),
    Verb("module.package", lambda m, c: m.package(c.module, c.args.path), Target),
    Verb("config", lambda m, c: m.config(c.module), answer=list[str]),
    Verb("confcheck", lambda m, c: m.confcheck(c.module), answer=list[str], changes=False),
    Verb(
        "confinfo",
        lambda m, c: m.confinfo(c.module),
        answer=ConfigurationInfo,
        changes=False,
    ),
    Verb("deconfig", lambda m, c: m.deconfig(c.module)),
    Verb("ports", lambda m, c: m.ports(c.module), answer=Ports, changes=False),
    Verb(
        "cluster.config",
        lambda m, c: m.cluster_config(c.args.content, c.args.source),
        Document,
        list[str],
        module="none",
    ),
    Verb(
        "cluster.confcheck",
        lambda m, c: m.cluster_confcheck(c.args.content or b"", c.args.source),
        Document,
        list[str],
        changes=False,
        module="none",
    ),
    Verb("cluster.genkey", lambda m, c: m.cluster_genkey(c.args.force), Force, str, module="none"),
    Verb(
        "cluster.confinfo",
        lambda m, c: m.cluster_confinfo(),
        answer=ClusterInfo,
        changes=False,
        module="none",
    ),
    Verb("cluster.deconfig", lambda m, c: m.cluster_deconfig(), module="none"),
    Verb(
        "cluster.state",
        lambda m, c: m.cluster_state(),
        answer=list[ClusterModule],
        changes=False,
        module="none",
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}


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
