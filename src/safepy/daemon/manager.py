"""What can be asked of the daemon: one async method for each verb of the admin socket.

`admin/server.py` calls these and nothing else of the daemon (`admin.manager.Manager` states the
same signatures, because layer 4 does not import layer 5). Arguments are typed and already
authenticated; results are plain data that become JSON. Whatever the operator should read is raised
as a `SafekitError` (refused, wrong configuration, unknown module ...); anything else is a bug.

Verbs that change a configuration come one after the other; what reads or controls a running
module never waits for them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from safepy.config import module as folders
from safepy.core.events import ActionRequested, FailoverSet, LoopChanged, PolicySet, SyncDue
from safepy.daemon import bootflag
from safepy.daemon.clustering import Clustering
from safepy.daemon.errding import Errding
from safepy.daemon.explaining import Explaining
from safepy.daemon.inspecting import Inspecting
from safepy.daemon.installing import Installing
from safepy.daemon.module import Module
from safepy.daemon.node import Node, active_config
from safepy.daemon.plan import heart_port, rfs_port
from safepy.daemon.reconfiguring import Reconfiguring
from safepy.daemon.refusals import require_possible
from safepy.daemon.repairing import Repairing
from safepy.daemon.reporting import SYNC_DUE, refuse_own
from safepy.errors import RequestRefused
from safepy.model import Level, Snapshot, State, SyncPolicy
from safepy.storage.modulelog import CommandLog, ModuleLog
from safepy.storage.record import show

JsonObject = dict[str, Any]

#: The marks since the backup are those of the source's time alone; the target was restored.
_EXTERNAL = {
    "prim": frozenset({State.STOP, State.ALONE}),
    "second": frozenset({State.STOP}),
}


class ModuleManager(
    Installing, Reconfiguring, Clustering, Inspecting, Errding, Explaining, Repairing
):
    """The modules of this node and what may be done with them."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._commands = CommandLog(str(node.paths.log_db))
        self._command_pids: dict[int, int] = {}
        self._command_number = 0

    # -- looking ---------------------------------------------------------------------------

    async def modules(self) -> list[JsonObject]:
        """Installed modules by name, as `admin.values.ModuleInfo`."""
        return [self._info(name) for name in folders.installed(self._node.paths)]

    async def snapshot(self, module: str) -> Snapshot:
        """The last published snapshot. Raises RequestRefused if unknown or not configured."""
        return self._node.snapshot(module)

    async def next_snapshot(
        self, module: str, version: int, timeout_s: float
    ) -> tuple[int, Snapshot]:
        """Wait until the snapshot is newer than `version` (start with 0), at most `timeout_s`;
        then (its version, snapshot). For waitstart, waitstop, waitstate and followers."""
        return await self._node.get(module).newer(version, timeout_s)

    async def resources(self, module: str) -> list[tuple[str, str, float]]:
        """(name, value, Unix seconds of the last assignment), by name."""
        found = self._node.find(module)
        if found is None:
            return []
        return [(each.name, each.value, each.time_s) for each in found.resources.all()]

    async def record(self, module: str) -> JsonObject:
        """The generation record as a dictionary, for support."""
        return show(self._node.get(module).record)

    async def ports(self, module: str) -> JsonObject:
        """{safeadmin, webconsole, heart, rfs}: port numbers; rfs None without `<rfs>`, heart None
        of a light module."""
        paths = self._node.paths.module(module)
        module_id = folders.module_id(paths)
        if module_id is None:
            raise RequestRefused(f"module {module} is not installed", "safekit module list")
        cluster = self._node.site.cluster
        config = active_config(paths) if folders.is_configured(paths) else None
        replicates = config is None or config.rfs is not None
        heart: int | None = heart_port(module_id)
        if config is not None:
            heart = None if config.mode == "light" else config.port or heart
        return {
            "safeadmin": 4800 if cluster is None else cluster.port,
            "webconsole": self._node.site.settings.probe_port,
            "heart": heart,
            "rfs": rfs_port(module_id) if replicates else None,
        }

    # -- control ---------------------------------------------------------------------------

    async def action(
        self,
        module: str,
        action: str,
        who: str,
        identity: str = "",
        fullsync: bool = False,
        since: float = 0.0,
    ) -> None:
        """Ask for start, stop, prim, primforce, second, secondforce, restart, stopstart or swap;
        returns at once (wait with `next_snapshot`). Raises RequestRefused at once for what can
        never be done now."""
        if module in self._node.faults:
            # What kept it down may be mended.
            await self._node.renew(module)
        found = self._node.get(module)
        if action == "forcestop":
            await self._force_stop(found, identity or who)
            return
        require_possible(found, action, fullsync)
        found.post(ActionRequested(action, identity or who, identity, fullsync, since))

    async def sync_policy(
        self, module: str, mode: str, role: str, uid: str, detect: bool, who: str
    ) -> None:
        """`safekit rfssync`: how the next synchronisation is done (reference 19.9)."""
        found = self._node.get(module)
        if found.plan.config.rfs is None:
            raise RequestRefused(f"module {module} has no replicated directories")
        state = found.snapshot.state
        if mode == "external" and state not in _EXTERNAL[role]:
            where = " or ".join(sorted(_EXTERNAL[role]))
            raise RequestRefused(
                f"rfssync external {role} is not possible: module {module} is {state}",
                f"it must be {where}",
            )
        why = "rfssync full" if mode == "full" else ""
        found.voice.say("safekit", Level.USER, f"Action rfssync {mode} called by {who}")
        found.post(PolicySet(SyncPolicy(mode, role, uid, detect, why)))

    async def failover(self, module: str, on: bool, who: str) -> None:
        """`safekit failover on|off`."""
        found = self._node.get(module)
        if found.plan.config.mode == "light":
            raise RequestRefused(f"module {module} is light: there is no failover")
        found.post(FailoverSet(on))
        found.reporter.report("usersetting.failover", "on" if on else "off", who)
        found.publish()

    async def shutdown(self, who: str) -> None:
        """Stop all running modules of this node; returns when they are STOP."""
        await self._node.stop_all(who, going_down=False)

    async def boot(self, module: str, on: bool | None) -> str:
        """Set (or with None only read) whether the module starts at boot: "on" or "off"."""
        paths = self._node.paths.module(module)
        self._require_installed(module)
        if on is not None:
            await asyncio.to_thread(bootflag.set_boot_flag, paths, on)
            found = self._node.find(module)
            if found is not None:
                found.resources.set("usersetting.boot", self._boots(module), "root")
        return self._boots(module)

    async def loop(self, module: str, change: str, identity: str) -> JsonObject:
        """`safekit incloop|resetloop|checkloop`: the counter of maxloop after `change`, as
        `admin.values.LoopState`."""
        found = self._node.get(module)
        if change != "check":
            await found.happened(LoopChanged(change, identity))
        count, reached = found.loop
        return {"count": count, "limit": found.plan.config.maxloop, "reached": reached}

    # -- messages and resources -------------------------------------------------------------

    async def print_line(self, module: str, level: Level, text: str, origin: str) -> None:
        """`safekit printi|printe|printw`: a line for the module log. `origin` is who prints."""
        found = self._node.find(module)
        if found is not None:
            found.voice.say(origin, level, text)
            return
        # Not configured yet: its `config` script may be speaking.
        self._require_installed(module)
        log = ModuleLog(str(self._node.paths.module(module).log_db))
        log.write(origin, level, text)
        await asyncio.to_thread(log.close)

    async def set_resource(
        self, module: str, name: str, value: str, who: str, log: bool | None = None
    ) -> None:
        """`safekit set`: `log` False suppresses (-n), True forces (-l) the history entry."""
        found = self._node.get(module)
        refuse_own(name)
        if name == SYNC_DUE:
            self._set_sync_due(found, value)
        found.reporter.report(name, value, who, log)
        found.publish()

    def _set_sync_due(self, module: Module, value: str) -> None:
        """The trigger of a scheduled synchronisation by hand (reference: userconfig 19.11)."""
        rfs, state = module.plan.config.rfs, module.look().state
        if rfs is None or not rfs.syncat:
            raise RequestRefused(
                f"module {module.name} has no scheduled synchronisation",
                "the attribute syncat of <rfs> in userconfig.xml",
            )
        if value not in ("up", "down"):
            raise RequestRefused("rfs.syncat is up or down")
        if state is State.STOP:
            raise RequestRefused(
                f"module {module.name} is STOP: nothing can be synchronised",
                f"safekit start -m {module.name}",
            )
        module.post(SyncDue(value == "up"))

    async def record_command(self, module: str, pid: int, arguments: list[str]) -> int:
        """A START line of the node's command log; returns a number for `record_command_end`."""
        self._command_number += 1
        self._command_pids[self._command_number] = pid
        self._commands.start(module, pid, " ".join(arguments))
        return self._command_number

    async def record_command_end(self, number: int, exit_code: int) -> None:
        """The END line."""
        pid = self._command_pids.pop(number, 0)
        self._commands.end(pid, exit_code)

    def close(self) -> None:
        """What was logged is on disk."""
        self._commands.close()

    # -- inside --------------------------------------------------------------------------------

    def _info(self, name: str) -> JsonObject:
        paths = self._node.paths.module(name)
        configured = folders.is_configured(paths)
        found = self._node.find(name)
        snapshot = self._node.snapshot(name) if configured and self._node.knows(name) else None
        return {
            "module": name,
            "id": folders.module_id(paths) or 0,
            "mode": "mirror" if found is None else found.plan.config.mode,
            "configured": configured,
            "digest": "" if found is None else found.plan.config.digest,
            "config_date": paths.safeconf.stat().st_mtime if configured else None,
            "boot": self._boots(name),
            "state": "" if snapshot is None else str(snapshot.state),
            "status": "" if snapshot is None else str(snapshot.status),
        }

    def _boots(self, name: str) -> str:
        found = self._node.find(name)
        attribute = "ignore" if found is None else found.plan.config.boot
        return bootflag.boots(attribute, self._node.paths.module(name))

    async def _force_stop(self, module: Module, who: str) -> None:
        """When `stop` has no effect: end whatever runs, without asking the automaton (reference
        13.1). The record stays as after a crash, so the next start is careful."""
        module.voice.say("safekit", Level.USER, f"Action forcestop called by {who}")
        name, config = module.name, module.plan.config
        limit_s = 300.0 if config.user is None else config.user.forcestoptimeout_s
        await self._node.renew(name)
        fresh = self._node.get(name)
        if fresh.worker is not None:
            await fresh.worker.end_old()
        await fresh.force_stop(limit_s)
        fresh.voice.say("heart", Level.EVENT, f"Forced stop ended at {time.strftime('%H:%M:%S')}")
