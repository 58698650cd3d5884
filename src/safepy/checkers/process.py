"""errd: are the processes and services of the application there? (reference: userconfig 14)

A look takes place in a thread, so a slow /proc never delays a heartbeat. What it found counts only
for classes that were enabled before it began and still are: a process that a stop script has just
ended is no failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safepy.checkers import service
from safepy.checkers.hostview import HostView
from safepy.config.schema import Errd, Proc
from safepy.errors import SafekitError
from safepy.host.processes import Process, matching

#: Time for what a start script put into the background to become the process that is looked for.
FIRST_LOOK_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look says of one `<proc>`. `changed`: it was not known, or the opposite."""

    proc: Proc
    count: int
    up: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class _Enabling:
    """A class is watched since `at_s` (the loop's time)."""

    at_s: float


def is_up(proc: Proc, count: int) -> bool:
    """Whether so many are right: as many as `atmax` trigger, and with 0 any one does (14.1)."""
    too_few = count < proc.atleast
    too_many = proc.atmax >= 0 and count >= max(proc.atmax, 1)
    return not (too_few or too_many)


class ProcessChecker:
    """Counts processes each `polltimer` while a class is enabled.

    `on_found` gets what a look says, all of it at once. `on_trouble` gets a sentence when it
    cannot be looked, once until it can: then nobody is up or down. Both are called in the event
    loop.
    """

    def __init__(
        self,
        errd: Errd,
        view: HostView,
        on_found: Callable[[Sequence[Finding]], None],
        on_trouble: Callable[[str], None],
        first_look_delay_s: float = FIRST_LOOK_DELAY_S,
    ) -> None:
        self._errd = errd
        self._view = view
        self._on_found = on_found
        self._on_trouble = on_trouble
        self._first_look_delay_s = first_look_delay_s
        self._enabled: dict[str, _Enabling] = {}
        self._suspended = False
        self._up: dict[str, bool] = {}
        self._troubles: dict[str, str] = {}
        self._woken = asyncio.Event()

    def enable(self, checker_class: str, on: bool) -> None:
        """Begin or end watching a class; the first look comes soon after. May be repeated."""
        if not on:
            self._enabled.pop(checker_class, None)
            for proc in self._errd.procs:
                if proc.checker_class == checker_class:
                    self._up.pop(proc.name, None)
        elif checker_class not in self._enabled:
            self._enabled[checker_class] = _Enabling(asyncio.get_running_loop().time())
            self._woken.set()

    def suspend(self, on: bool) -> None:
        """`safekit errd off|on`: nothing is watched while suspended."""
        self._suspended = on
        if on:
            self._up.clear()  # what was known then is told anew
        self._woken.set()

    def watches(self, checker_class: str) -> bool:
        return checker_class in self._enabled and not self._suspended

    @property
    def classes(self) -> frozenset[str]:
        """Those that are enabled, also while suspended."""
        return frozenset(self._enabled)

    async def run(self) -> None:
        """Look until cancelled."""
        self._view.want(self, self._errd.procs)
        try:
            while True:
                if self._watched():
                    await self._pause()
                else:
                    await self._woken.wait()
                if self._woken.is_set():
                    self._woken.clear()
                    await asyncio.sleep(self._first_look_delay_s)
                await self._look()
        finally:
            self._view.forget(self)

    def _watched(self) -> list[Proc]:
        return [proc for proc in self._errd.procs if self.watches(proc.checker_class)]

    async def _pause(self) -> None:
        """To the next multiple of `polltimer` on a clock that all modules share, so that they
        look together; a look of a moment ago is none of them."""
        polltimer_s = self._errd.polltimer_s
        pause_s = polltimer_s - asyncio.get_running_loop().time() % polltimer_s
        if pause_s < polltimer_s / 2:
            pause_s += polltimer_s
        try:
            async with asyncio.timeout(pause_s):
                await self._woken.wait()
        except TimeoutError:
            return

    def _due(self, now_s: float) -> dict[str, _Enabling]:
        """By name: those whose first cycles are over (`start_after`), and whose class was not
        enabled just now, while this look was waited for on account of another one."""
        due = {}
        for proc in self._watched():
            enabling = self._enabled[proc.checker_class]
            cycles_s = (proc.start_after - 1) * self._errd.polltimer_s
            delay_s = max(self._first_look_delay_s, cycles_s)
            if now_s - enabling.at_s >= delay_s:
                due[proc.name] = enabling
        return due

    async def _look(self) -> None:
        due = self._due(asyncio.get_running_loop().time())
        if not due:
            return
        since_s = max(enabling.at_s for enabling in due.values())
        counts = await self._count([proc for proc in self._errd.procs if proc.name in due], since_s)
        findings = []
        for proc in self._errd.procs:
            if proc.name not in counts or self._suspended:
                continue
            if self._enabled.get(proc.checker_class) is not due[proc.name]:
                continue  # the class was disabled meanwhile
            up = is_up(proc, counts[proc.name])
            changed = self._up.get(proc.name) is not up
            self._up[proc.name] = up
            findings.append(Finding(proc, counts[proc.name], up, changed))
        if findings:
            self._on_found(findings)

    async def _count(self, procs: Sequence[Proc], since_s: float) -> dict[str, int]:
        """How many of each run; those that cannot be known are left out."""
        counts: dict[str, int] = {}
        plain = [proc for proc in procs if not proc.service]
        try:
            if plain:
                found = await self._view.processes(since_s)
                counts |= await asyncio.to_thread(_numbers, plain, found)
            self._troubles.pop("processes", None)
        except (SafekitError, OSError) as error:
            self._trouble("processes", str(error))
        try:
            told, untold = await service.count(procs, self._view, since_s)
            counts |= told
            if untold:
                self._trouble("services", f"systemctl says nothing about {', '.join(untold)}")
            else:
                self._troubles.pop("services", None)
        except SafekitError as error:
            self._trouble("services", str(error))
        return counts

    def _trouble(self, what: str, text: str) -> None:
        if self._troubles.get(what) != text:
            self._troubles[what] = text
            self._on_trouble(f"The {what} cannot be looked at: {text}")


def _numbers(procs: Sequence[Proc], processes: Sequence[Process]) -> dict[str, int]:
    return {proc.name: len(matching(proc, processes)) for proc in procs}
