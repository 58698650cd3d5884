"""errd of one module: what the process checker finds becomes resources, lines and actions
(reference: userconfig 14.3, modules-states-commands 9.3).

Of all that one look finds missing, at most one action comes: two processes of one application that
die together are one detection for maxloop, and the strongest action includes the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from safepy.checkers.hostview import HostView
from safepy.checkers.process import Finding, ProcessChecker
from safepy.config.errd import ACTIONS, CLASSES
from safepy.config.schema import Errd, Proc
from safepy.core.events import ActionRequested, Event
from safepy.daemon.logs import Voice
from safepy.daemon.reporting import Reporter
from safepy.errors import RequestRefused, SafekitError
from safepy.model import Level
from safepy.storage.private import private_opener

WHO = "errd"
#: `stop_sec` is none of them: it is called when a primary gets its secondary, and what a handler
#: is about to start again goes on running.
ENDS_THE_APPLICATION = ("stop_prim", "stop_both", "stop_second")
#: The stronger one includes the weaker one.
_DIRECT = ("restart", "stopstart", "stop")

#: Runs a handler to its end; raises a SafekitError if it failed. Cancelled, it is killed.
RunHandler = Callable[[str], Awaitable[None]]


class Watching:
    """Resource `proc.NAME` is `init` while nobody looks for the process."""

    def __init__(
        self,
        errd: Errd,
        view: HostView,
        reporter: Reporter,
        voice: Voice,
        happened: Callable[[Event], Awaitable[None]],
        run_handler: RunHandler,
        may_act: Callable[[], bool],
        errdlist: Path,
    ) -> None:
        """`happened` gets what is asked for, and returns when the core has dealt with it.
        `may_act`: whether anything may happen by itself (maintenance); of what the core carries
        out, the core knows."""
        self._errd = errd
        self._reporter = reporter
        self._voice = voice
        self._happened = happened
        self._run_handler = run_handler
        self._may_act = may_act
        self._errdlist = errdlist
        self._checker = ProcessChecker(errd, view, self._found, self._trouble)
        self._suspended = False
        #: By the name of the `<proc>`.
        self._handlers: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled; then no handler runs."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._checker.run())
            self._tasks.create_task(self._keep_list())

    # -- what is watched -----------------------------------------------------------------------

    def enable(self, checker_class: str, on: bool) -> None:
        """Watch, or do not watch any more, the processes of a class."""
        self._checker.enable(checker_class, on)
        if not on:
            self._forget(checker_class)
        self._changed.set()

    def enable_named(self, checker_class: str, on: bool) -> None:
        """`safekit errd enable|disable CLASS`. Raises RequestRefused for a class that no `<proc>`
        has."""
        known = sorted({proc.checker_class for proc in self._errd.procs})
        if checker_class not in known:
            shown = ", ".join(known) or "none"
            raise RequestRefused(
                f"no <proc> of this module has the class {checker_class}", f"classes: {shown}"
            )
        self.enable(checker_class, on)

    def end_own_classes(self) -> None:
        """What the module's scripts enabled is watched no more: it is STOP, or starts anew."""
        for checker_class in self._checker.classes - set(CLASSES):
            self.enable(checker_class, False)

    def suspend(self, on: bool) -> None:
        """`safekit errd off|on`."""
        self._suspended = on
        self._checker.suspend(on)
        if on:
            for checker_class in {proc.checker_class for proc in self._errd.procs}:
                self._forget(checker_class)
        self._changed.set()

    def watches(self, checker_class: str) -> bool:
        """Whether somebody looks for the processes of this class now."""
        return self._checker.watches(checker_class)

    def _forget(self, checker_class: str) -> None:
        for proc in self._errd.procs:
            if proc.checker_class == checker_class:
                self._reporter.report(proc.resource, "init", WHO)

    # -- what is found -------------------------------------------------------------------------

    def _found(self, findings: Sequence[Finding]) -> None:
        """The lines come in the order of the reference (15.5): what was seen, what is done about
        it, and what the resources are."""
        failed: dict[Proc, str] = {}
        for each in findings:
            handled = each.proc.name in self._handlers
            if not each.up and not handled and (each.changed or each.proc.action != "noaction"):
                failed[each.proc] = sentence(each)
                self._voice.say(WHO, Level.EVENT, failed[each.proc])
        lines = [
            self._reporter.assign(each.proc.resource, "up" if each.up else "down", WHO)
            for each in findings
            if each.changed
        ]
        self._act(failed, lines)

    def _trouble(self, text: str) -> None:
        self._voice.say(WHO, Level.CRITICAL, text)

    def _act(self, failed: Mapping[Proc, str], lines: Sequence[Callable[[], None]]) -> None:
        assert self._tasks is not None, "what is found, is found by `run`"
        direct = [proc for proc in failed if proc.action in _DIRECT]
        if direct:
            action = max((proc.action for proc in direct), key=_DIRECT.index)
            found = ", ".join(failed[proc] for proc in direct)
            services = _services(action, direct)
            event = ActionRequested(action, WHO, WHO, services=services, because=found)
            self._tasks.create_task(self._request(event, lines), name="errd action")
            return
        for say in lines:
            say()
        for proc in failed:
            if proc.action not in ACTIONS and self._may_act():
                task = self._tasks.create_task(self._handle(proc), name=f"handler {proc.name}")
                self._handlers[proc.name] = task

    async def _request(self, event: Event, lines: Sequence[Callable[[], None]]) -> None:
        """Ask for an action; once it has been decided, say what follows."""
        await self._happened(event)
        for say in lines:
            say()

    async def _handle(self, proc: Proc) -> None:
        """Anything but success is a stopstart. The loop counter is the handler's own affair."""
        try:
            await self._run_handler(proc.action)
        except SafekitError as error:
            text = f"Handler {proc.action} of {proc.name} failed: {error}"
            self._voice.say(WHO, Level.CRITICAL, text)
            await self._happened(ActionRequested("stopstart", WHO, WHO, because=text))
        finally:
            del self._handlers[proc.name]

    async def before_script(self, name: str) -> None:
        """A script of the module is about to run."""
        if name in ENDS_THE_APPLICATION:
            await self.end_handlers()
        elif name == "prestart":
            self.end_own_classes()  # a new life of the module

    async def end_handlers(self) -> None:
        """No handler runs any more, so none starts the application behind the stop scripts."""
        running = list(self._handlers.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    # -- the list for people -------------------------------------------------------------------

    async def _keep_list(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            text = "".join(f"{line}\n" for line in self._lines())
            try:
                await asyncio.to_thread(self._write_list, text)
            except OSError as error:
                self._trouble(f"{self._errdlist} cannot be written: {error.strerror}")

    def _write_list(self, text: str) -> None:
        with open(self._errdlist, "w", encoding="utf-8", opener=private_opener) as file:
            file.write(text)

    def _lines(self) -> list[str]:
        switch = "off" if self._suspended else "on"
        lines = [f"# errd {switch}, polltimer {self._errd.polltimer_s:g} s"]
        for proc in self._errd.procs:
            kind = "service" if proc.service else "process"
            watched = "watched" if self.watches(proc.checker_class) else "not watched"
            lines.append(
                f"{kind} {proc.name} class={proc.checker_class} action={proc.action}"
                f" atleast={proc.atleast} atmax={proc.atmax} start_after={proc.start_after}"
                f" {watched}"
            )
        return lines


def sentence(found: Finding) -> str:
    """The words of the reference (15.4) where it has them."""
    proc = found.proc
    if proc.service:
        return f"Service {proc.name} not running"
    if found.count < proc.atleast:
        return f"Process {proc.name} not running"
    return f"Process {proc.name} running {found.count} times, atmax is {proc.atmax}"


def _services(action: str, failed: Sequence[Proc]) -> str:
    """What a restart has to touch; "": everything, as soon as one of them says no less."""
    if action != "restart" or not all(proc.restart_services for proc in failed):
        return ""
    names = [name for proc in failed for name in proc.restart_services]
    return ", ".join(dict.fromkeys(names))
