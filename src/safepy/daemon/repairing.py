"""The manager's verb after something was broken: `clean`."""

from __future__ import annotations

import asyncio
import contextlib

from safepy.config.paths import ModulePaths
from safepy.daemon.module import Module
from safepy.daemon.node import Node
from safepy.errors import RequestRefused
from safepy.model import State
from safepy.storage.modulelog import ModuleLog
from safepy.storage.resources import Resources


class Repairing:
    """Mixed into the manager; see there."""

    _node: Node

    def _require_installed(self, module: str) -> None:
        raise NotImplementedError

    async def _force_stop(self, module: Module, who: str) -> None:
        raise NotImplementedError

    async def clean(self, module: str, what: str, who: str) -> None:
        """`safekit clean`: forget the logs, begin the resources anew, end what is left of the
        module (reference 13.5). Resources only in STOP."""
        self._require_installed(module)
        if what in ("all", "process"):
            await self._clean_process(module, who)
        if what in ("all", "resource"):
            await self._clean_resources(module)
        if what in ("all", "log"):
            await self._clean_log(self._node.paths.module(module))

    async def _clean_process(self, module: str, who: str) -> None:
        found = self._node.find(module)
        if found is None:
            await self._node.renew(module)
        elif found.snapshot.state is not State.STOP:
            await self._force_stop(found, who)
        elif found.worker is not None:
            await found.worker.end_old()

    async def _clean_resources(self, module: str) -> None:
        found = self._node.find(module)
        if found is not None and found.snapshot.state is not State.STOP:
            raise RequestRefused(
                f"module {module} is {found.snapshot.state}: its resources are in use",
                f"safekit stop -m {module}",
            )
        await self._node.take_down(module)
        try:
            await asyncio.to_thread(_forget_resources, self._node.paths.module(module))
        finally:
            await self._node.renew(module)

    async def _clean_log(self, paths: ModulePaths) -> None:
        found = self._node.find(paths.name)
        if found is not None:
            found.voice.clear()
        else:
            await asyncio.to_thread(_clear_log, paths)
        await asyncio.to_thread(_remove_script_logs, paths)


def _forget_resources(paths: ModulePaths) -> None:
    resources = Resources(str(paths.resource_db))
    try:
        resources.clear()
    finally:
        resources.close()


def _clear_log(paths: ModulePaths) -> None:
    log = ModuleLog(str(paths.log_db))
    log.clear()
    log.close()


def _remove_script_logs(paths: ModulePaths) -> None:
    for path in paths.var.glob("userlog_*.ulog"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
