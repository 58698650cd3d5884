"""The manager's verbs about processes: `safekit errd ...` and `safekit kill`."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from safepy.config.errd import CLASSES
from safepy.config.schema import Proc
from safepy.core.events import SwitchSet
from safepy.daemon.module import Module
from safepy.daemon.node import Node
from safepy.errors import LocalFault, RequestRefused
from safepy.host import killing
from safepy.host.processes import Process, matching, named, scan
from safepy.model import State, Status

JsonObject = dict[str, Any]

LEVELS = {"9": signal.SIGKILL, "15": signal.SIGTERM}


class Errding:
    """Mixed into the manager; see there."""

    _node: Node

    async def checker(self, module: str, on: bool, who: str) -> None:
        """`safekit checker on|off`: the checks are tested, or not; until the opposite, or the next
        `config` (9.6). What is not tested is `init`, and keeps nobody from starting."""
        found = self._node.get(module)
        found.checking.suspend(not on)
        found.reporter.report("usersetting.checker", "on" if on else "off", who)
        found.post(SwitchSet("checker", on, who))
        found.publish()

    async def errd(self, module: str, on: bool, who: str) -> None:
        """`safekit errd on|off`: the process checker looks, or does not; until the opposite, or
        the next `config` (9.6)."""
        found = self._node.get(module)
        found.errd.suspend(not on)
        found.reporter.report("usersetting.errd", "on" if on else "off", who)
        found.post(SwitchSet("errd", on, who))
        found.publish()

    async def errd_class(self, module: str, checker_class: str, on: bool) -> None:
        """`safekit errd enable|disable CLASS`."""
        found = self._node.get(module)
        if on and found.snapshot.state is State.STOP:
            raise RequestRefused(
                f"module {module} is STOP: nothing is watched", "a start script enables a class"
            )
        if on and checker_class in CLASSES and checker_class not in found.state.watched:
            # Its processes are not there to be found: on a secondary it would restart what
            # nobody started.
            if found.snapshot.status is Status.TRANSIENT:
                return  # a start script that says it: the class begins when the scripts are over
            raise RequestRefused(
                f"the class {checker_class} is not watched in {found.snapshot.state}",
                "it begins by itself when its start script has run",
            )
        found.errd.enable_named(checker_class, on)

    async def errd_list(self, module: str) -> list[JsonObject]:
        """The watched processes, as `admin.watched.WatchedProcess`; those of the product first."""
        found = self._node.get(module)
        procs = found.plan.config.errd.procs
        loop = asyncio.get_running_loop()
        running: dict[str, int] = {}
        if any(not proc.service for proc in procs):
            processes = await self._node.view.processes(loop.time())
            running = {p.name: len(matching(p, processes)) for p in procs if not p.service}
        if any(proc.service for proc in procs):
            units = await self._node.view.services(loop.time())
            running |= {
                p.name: int(p.name in units and units[p.name].runs) for p in procs if p.service
            }
        return [
            *_own(found),
            *(
                {
                    "name": proc.name,
                    "checker_class": proc.checker_class,
                    "action": proc.action,
                    "atleast": proc.atleast,
                    "running": running[proc.name],
                    "enabled": found.errd.watches(proc.checker_class),
                    "atmax": proc.atmax,
                    "kind": "service" if proc.service else "process",
                }
                for proc in procs
            ),
        ]

    async def kill(self, name: str, argregex: str, level: str, caller: int) -> list[JsonObject]:
        """`safekit kill`: the processes that were meant, as `admin.watched.KilledProcess`; all but
        `test` signal them. `caller` is the pid of who asks: never he, nor what he runs in."""
        proc = Proc(name, "", argregex=argregex)
        return await asyncio.to_thread(_kill, proc, level, caller)


def _own(module: Module) -> list[JsonObject]:
    """The processes of the product: watched without pause, by the daemon itself."""
    rows = [{"name": "safeadmin", "action": "restarted by systemd"}]
    if module.worker is not None:
        rows.append({"name": "worker", "action": "stopstart"})
    worker_runs = module.worker is not None and module.worker.running
    return [
        {
            **row,
            "checker_class": "-",
            "atleast": 1,
            "running": 1 if row["name"] == "safeadmin" else int(worker_runs),
            "enabled": row["name"] == "safeadmin" or worker_runs,
            "atmax": -1,
            "kind": "safekit",
        }
        for row in rows
    ]


def _kill(proc: Proc, level: str, caller: int) -> list[JsonObject]:
    """Blocks. Raises LocalFault when a process cannot be ended."""
    processes = scan(named(proc))
    protected = killing.spared(caller, os.getpid(), processes)
    meant = [each for each in matching(proc, processes) if each.pid not in protected]
    left: list[Process] = []
    if level == "terminate":
        left = killing.terminate(meant)
    elif level in LEVELS:
        meant = [each for each in meant if killing.send(each, LEVELS[level])]
    if left:
        pids = ", ".join(str(each.pid) for each in left)
        raise LocalFault(f"these processes cannot be ended: {pids}", "they wait in the kernel")
    return [{"pid": p.pid, "name": p.name, "command": p.command, "parent": p.parent} for p in meant]
