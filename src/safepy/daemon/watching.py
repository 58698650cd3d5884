"""errd of one module: what the process checker finds becomes resources, lines and actions."""

from __future__ import annotations

from collections.abc import Callable

from safepy.checkers.process import ProcessChecker
from safepy.config.schema import Errd, Proc
from safepy.core.events import ActionRequested, Event
from safepy.daemon.logs import Voice
from safepy.daemon.reporting import Reporter
from safepy.model import Level


class Watching:
    """Resource `proc.NAME` is `init` while nobody looks for the process."""

    def __init__(
        self, errd: Errd, reporter: Reporter, voice: Voice, post: Callable[[Event], None]
    ) -> None:
        self._procs = errd.procs
        self._reporter = reporter
        self._voice = voice
        self._post = post
        self._checker = ProcessChecker(errd, self._down, self._state)
        self._enabled: set[str] = set()
        self._suspended = False

    async def run(self) -> None:
        """Look until cancelled."""
        await self._checker.run()

    def enable(self, checker_class: str, on: bool) -> None:
        """Watch, or do not watch any more, the processes of a class."""
        self._checker.enable(checker_class, on)
        if on:
            self._enabled.add(checker_class)
        else:
            self._enabled.discard(checker_class)
            self._forget(checker_class)

    def suspend(self, on: bool) -> None:
        """`safekit errd off|on`."""
        self._suspended = on
        self._checker.suspend(on)
        if on:
            for checker_class in {proc.checker_class for proc in self._procs}:
                self._forget(checker_class)

    def watches(self, checker_class: str) -> bool:
        """Whether somebody looks for the processes of this class now."""
        return checker_class in self._enabled and not self._suspended

    def _forget(self, checker_class: str) -> None:
        for proc in self._procs:
            if proc.checker_class == checker_class:
                self._reporter.report(f"proc.{proc.name}", "init", "errd")

    def _state(self, name: str, up: bool) -> None:
        self._reporter.report(f"proc.{name}", "up" if up else "down", "errd")

    def _down(self, proc: Proc, action: str) -> None:
        self._voice.say("errd", Level.CRITICAL, f"Process {proc.name} not running")
        if action != "noaction":
            self._post(ActionRequested(action, who="errd", identity="errd"))
