"""What all modules of this daemon see of the host: its processes and its systemd units, looked at
once for everybody (see `shared`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from safepy.checkers.shared import Shared
from safepy.config.schema import Proc
from safepy.host import systemd
from safepy.host.processes import Process, Wanted, scan, wants_command
from safepy.host.systemd import Unit

#: Modules with the same polltimer look within the same moment (`ProcessChecker`).
MAX_AGE_S = 0.5
SCAN_LIMIT_S = 20.0
SYSTEMCTL_LIMIT_S = 10.0


async def show(services: Iterable[str]) -> dict[str, Unit]:
    return await systemd.show(services, SYSTEMCTL_LIMIT_S)


class HostView:
    """`read` and `ask` are /proc and systemd; other ones stand for them in tests."""

    def __init__(
        self,
        read: Callable[[Wanted, int], Sequence[Process]] = scan,
        ask: Callable[[Iterable[str]], Awaitable[Mapping[str, Unit]]] = show,
        scan_limit_s: float = SCAN_LIMIT_S,
    ) -> None:
        self._read = read
        self._ask = ask
        self._wanted: dict[object, tuple[Proc, ...]] = {}
        self._wanted_s = float("-inf")
        self._processes = Shared(self._scan, "/proc", MAX_AGE_S, scan_limit_s)
        limit_s = SYSTEMCTL_LIMIT_S + scan_limit_s
        self._services = Shared(self._show, "systemctl", MAX_AGE_S, limit_s)

    def want(self, owner: object, procs: Sequence[Proc]) -> None:
        """What `owner` is going to compare, in place of what it named before. Command lines and
        units that nobody names are not read."""
        self._wanted[owner] = tuple(procs)
        self._wanted_s = asyncio.get_running_loop().time()

    def forget(self, owner: object) -> None:
        self._wanted.pop(owner, None)

    async def processes(self, since_s: float) -> Sequence[Process]:
        """Those that ran at some moment after `since_s` (the loop's time). Raises LocalFault when
        /proc does not answer, OSError when there is none."""
        return await self._processes.since(max(since_s, self._wanted_s))

    async def services(self, since_s: float) -> Mapping[str, Unit]:
        """The units that somebody wants, by the names that were given. Raises LocalFault."""
        return await self._services.since(max(since_s, self._wanted_s))

    async def _scan(self) -> Sequence[Process]:
        wanted = wants_command([proc for procs in self._wanted.values() for proc in procs])
        return await asyncio.to_thread(self._read, wanted, os.getpid())

    async def _show(self) -> Mapping[str, Unit]:
        everything = [proc for procs in self._wanted.values() for proc in procs]
        return await self._ask(proc.name for proc in everything if proc.service)
