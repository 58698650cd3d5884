"""errd: are the processes of the application there? (reference: userconfig 14)

A scan runs in a thread, so a slow /proc never delays a heartbeat. What a scan found counts only
for classes that were enabled before it began and still are: a process that a stop script has just
ended is no failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from safepy.config.schema import Errd, Proc
from safepy.host.processes import Process, matching, scan

#: Time for what a start script put into the background to become the process that is looked for.
FIRST_SCAN_DELAY_S = 1.0


class ProcessChecker:
    """Counts processes each `polltimer` while a class is enabled.

    `on_state(name, up)` is called when the state of a `<proc>` becomes known or changes (resource
    `proc.NAME`). `on_down(proc, action)` is called at each scan that finds too few, so that an
    action which was refused is asked for again; for `noaction` only when the process goes down.
    Both are called in the event loop.
    """

    def __init__(
        self,
        errd: Errd,
        on_down: Callable[[Proc, str], None],
        on_state: Callable[[str, bool], None],
        scan_processes: Callable[[], Sequence[Process]] | None = None,
        first_scan_delay_s: float = FIRST_SCAN_DELAY_S,
    ) -> None:
        self._errd = errd
        self._on_down = on_down
        self._on_state = on_state
        commands = any(proc.argregex for proc in errd.procs)
        self._scan = scan_processes or (lambda: scan(commands=commands))
        self._first_scan_delay_s = first_scan_delay_s
        #: Class to the number of its enabling: a scan compares it before and after.
        self._enabled: dict[str, int] = {}
        self._enablings = 0
        self._suspended = False
        self._up: dict[str, bool] = {}
        self._woken = asyncio.Event()

    def enable(self, checker_class: str, on: bool) -> None:
        """Begin or end watching a class; the first scan comes soon after. May be repeated."""
        if not on:
            self._enabled.pop(checker_class, None)
            for proc in self._errd.procs:
                if proc.checker_class == checker_class:
                    self._up.pop(proc.name, None)
        elif checker_class not in self._enabled:
            self._enablings += 1
            self._enabled[checker_class] = self._enablings
            self._woken.set()

    def suspend(self, on: bool) -> None:
        """`safekit errd off|on`: nothing is watched while suspended."""
        self._suspended = on
        if on:
            self._up.clear()  # what was known then is told anew
        self._woken.set()

    async def run(self) -> None:
        """Scan until cancelled. An error of the scan itself is raised: it is no down process."""
        while True:
            if self._watched():
                await self._pause(self._errd.polltimer_s)
            else:
                await self._woken.wait()
            if self._woken.is_set():
                self._woken.clear()
                await asyncio.sleep(self._first_scan_delay_s)
            watched = self._watched()
            if watched:
                enabled = dict(self._enabled)
                counts = await asyncio.to_thread(self._count, watched)
                for proc in watched:
                    self._judge(proc, enabled[proc.checker_class], counts[proc.name])

    def _count(self, watched: Sequence[Proc]) -> dict[str, int]:
        """In a thread: reads no state of this object that changes."""
        processes = self._scan()
        return {proc.name: len(matching(proc, processes)) for proc in watched}

    async def _pause(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return

    def _watched(self) -> list[Proc]:
        if self._suspended:
            return []
        return [proc for proc in self._errd.procs if proc.checker_class in self._enabled]

    def _judge(self, proc: Proc, enabling: int, count: int) -> None:
        if self._suspended or self._enabled.get(proc.checker_class) != enabling:
            return
        up = count >= proc.atleast  # atleast -1 means: never down
        before = self._up.get(proc.name)
        self._up[proc.name] = up
        if up != before:
            self._on_state(proc.name, up)
        if not up and (proc.action != "noaction" or before is not False):
            self._on_down(proc, proc.action)
