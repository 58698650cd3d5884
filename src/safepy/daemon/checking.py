"""The checkers of one module: which of them work, what they report, and what becomes of one that
dies (reference: userconfig 15.1, 20; modules-states-commands 9.2).

Each check is a task of its own. From its enabling to its end it has a number, and what comes with
an older one is dropped: a result that was on its way when the check was switched off tells nothing
about what is there after it was switched on again. The core has set the resources to `init` by
then.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, assert_never

from safepy.checkers.base import Tell, Test, repeat
from safepy.checkers.custom import Programs
from safepy.checkers.delay import DelayMeter
from safepy.checkers.disk import DiskTest
from safepy.checkers.intf import IntfTest
from safepy.checkers.ip import IpTest
from safepy.checkers.module import ModuleTest
from safepy.checkers.ping import PingTest
from safepy.checkers.splitbrain import Witnesses
from safepy.checkers.tcp import TcpTest
from safepy.config import schema
from safepy.config.schema import Check, Checks
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.daemon.trees import Trees
from safepy.host.tasks import Tasks
from safepy.model import Level

#: Before a checker that died is started again; doubled each time, up to the longest.
AGAIN_S = 1.0
AGAIN_MAX_S = 60.0
#: Who lived so long starts with the shortest again.
STEADY_S = 120.0
#: What a start script put into the background is given this time before the first test. In WAIT
#: nothing was started, and the start waits for the result.
FIRST_TEST_S = 1.0

Report = Callable[[str, str, str], None]
Say = Callable[[str, Level, str], None]
#: Work without end of one life of a check; what it returns or raises is why it died.
Work = Callable[[Tell], Coroutine[Any, Any, str | None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks of a module need. `report` is `Reporter.report`; `on_restarted(name)`: the
    module that a `<module>` watches was restarted; `changed`: the notes are other ones; `real`:
    where the file system of a replicated directory is looked at."""

    report: Report
    say: Say
    on_restarted: Callable[[str], None]
    changed: Callable[[], None]
    programs: Programs
    probe_port: int
    #: Of `<splitbrain>`: asked by the core, and only kept ready here.
    witnesses: Witnesses | None = None
    real: Callable[[str], str] = lambda path: path


def who(check: Check) -> str:
    """As the log names the checker: tcpcheck, pingcheck and so on."""
    return "delaycheck" if isinstance(check, schema.DelayCheck) else f"{check.KIND}check"


@dataclass(slots=True, eq=False)
class _Watched:
    check: Check
    work: Work
    #: Called at each enabling, for a test that remembers what it saw.
    begin: Callable[[], None] = lambda: None
    on: bool = False
    life: int = 0
    #: That of this life, and those of earlier ones that have not ended yet.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    value: str = ""
    #: Why the value is down; who else has the address; how the checker died.
    reason: str = ""
    conflict: str = ""
    trouble: str = ""


def tested(checks: Checks) -> tuple[tuple[str, str], ...]:
    """For the core: the resources that belong to a class. The witnesses are asked in any state."""
    return tuple(
        (check.resource, check.when)
        for check in checks
        if not isinstance(check, schema.SplitbrainCheck)
    )


def arbitration_of(checks: Checks) -> Arbitration:
    """Who must agree before this node serves alone: the witnesses of `<splitbrain>`, or nobody."""
    for check in checks:
        if isinstance(check, schema.SplitbrainCheck):
            # Asked twice, then the node gives way: the other one may serve by now.
            return Arbitration((Arbiter.PING,), freeze_limit_s=2 * check.timeout_s)
    return Arbitration()


def witnesses_of(checks: Checks, report: Report) -> Witnesses | None:
    """None: no `<splitbrain>`."""
    for check in checks:
        if isinstance(check, schema.SplitbrainCheck):
            return Witnesses(check, report)
    return None


def door_of(trees: Trees | None, path: str) -> str:
    """Where the file system of `path` is looked at: behind the mounts of a replicated directory.
    Blocks."""
    for tree in () if trees is None else trees.trees:
        if PurePosixPath(path).is_relative_to(tree.directory) and os.path.ismount(tree.door):
            return str(PurePosixPath(tree.door, PurePosixPath(path).relative_to(tree.directory)))
    return path


class Checking:
    """Not for other threads. `run` has to be there before anything is enabled."""

    def __init__(
        self,
        checks: Checks,
        around: Surroundings,
        first_test_s: float = FIRST_TEST_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._around = around
        self._first_test_s = first_test_s
        self._again_s = again_s
        self._tasks = Tasks()
        self._enabled: set[str] = set()
        self._suspended = False
        self._watched: list[_Watched] = []
        for check in checks:
            made = self._made(check)
            self._watched += [made] if made is not None else []

    def enable(self, when: str, on: bool) -> None:
        """Begin or end what belongs to `pre`, `prim`, `second` or `both`. May be repeated."""
        if on:
            self._enabled.add(when)
        else:
            self._enabled.discard(when)
        self._settle()

    def suspend(self, on: bool) -> None:
        """`safekit checker off|on`: nothing is tested while suspended."""
        self._suspended = on
        self._settle()

    def notes(self) -> tuple[str, ...]:
        """What somebody who looks at the module should know: what is down and why, as far as a
        checker said so; what is dead, what is in conflict."""
        return tuple(
            note
            for each in self._watched
            for note in (
                each.reason and f"{each.check.resource} is down: {each.reason}",
                each.conflict,
                each.trouble,
            )
            if note
        )

    async def run(self) -> None:
        """Keep the checkers until cancelled; then none of them runs, and no program of theirs."""
        try:
            await asyncio.Event().wait()
        finally:
            for each in self._watched:
                each.on = False
                each.life += 1
                self._end(each)
            ending = {task for each in self._watched for task in each.tasks}
            if ending:
                await asyncio.wait(ending)

    def _settle(self) -> None:
        for each in self._watched:
            wanted = each.check.when in self._enabled and not self._suspended
            if wanted != each.on:
                each.on = wanted
                each.life += 1
                self._end(each)
                if wanted:
                    self._begin(each)

    def _end(self, each: _Watched) -> None:
        each.value = each.reason = each.conflict = each.trouble = ""
        each.tasks = {task for task in each.tasks if not task.done()}
        for task in each.tasks:
            if not task.cancelling():  # told twice, it would not wait for what it kills
                task.cancel()

    def _begin(self, each: _Watched) -> None:
        each.begin()
        name = f"{self._around.programs.module} {each.check.resource}"
        each.tasks.add(self._tasks.start(name, self._live(each, each.life, each.tasks.copy())))

    async def _live(self, each: _Watched, life: int, before: set[asyncio.Task[None]]) -> None:
        """One life of a check: what runs for it is started again whenever it dies."""
        if before:
            await asyncio.wait(before)  # a program of the life before is being killed

        def tell(why: str) -> None:
            if each.life == life:
                self._told(each, why)

        pause_s = self._again_s
        while True:
            work = asyncio.ensure_future(each.work(tell))
            try:
                done, _ = await asyncio.wait([work], timeout=STEADY_S)
                if not done:
                    pause_s = self._again_s
                    self._show(each, trouble="")
                    await asyncio.wait([work])
            finally:
                if not work.done():
                    work.cancel()
                    await asyncio.wait([work])
            self._died(each, _cause(work), pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)

    def _died(self, each: _Watched, cause: str, pause_s: float) -> None:
        """Its resource keeps the value that it had: nobody knows better."""
        text = f"The checker of {each.check.resource} died: {cause}"
        self._around.say(who(each.check), Level.CRITICAL, f"{text}; again in {pause_s:g} s")
        self._show(each, trouble=text)

    def _told(self, each: _Watched, why: str) -> None:
        """Reported are the first result and each change."""
        value = "down" if why else "up"
        each.reason = why
        if value == each.value:
            return
        each.value = value
        check = each.check
        if why:
            self._around.say(who(check), Level.EVENT, f"{check.resource}: {why}")
        self._around.report(check.resource, value, who(check))

    def _show(
        self, each: _Watched, *, trouble: str | None = None, conflict: str | None = None
    ) -> None:
        before = (each.trouble, each.conflict)
        each.trouble = each.trouble if trouble is None else trouble
        each.conflict = each.conflict if conflict is None else conflict
        if before != (each.trouble, each.conflict):
            self._around.changed()

    def _conflict(self, check: schema.IpCheck, text: str) -> None:
        over = f"Nobody else answers for {check.addr} any more"
        level = Level.CRITICAL if text else Level.EVENT
        self._around.say(who(check), level, text or over)
        for each in self._watched:
            if each.check is check:
                self._show(each, conflict=text)

    def _made(self, check: Check) -> _Watched | None:
        """None: a check of which nothing is kept ready."""
        around = self._around
        match check:
            case schema.TcpCheck():
                return self._tested(check, TcpTest(check))
            case schema.PingCheck():
                return self._tested(check, PingTest(check))
            case schema.IntfCheck():
                return self._tested(check, IntfTest(check))
            case schema.IpCheck():
                return self._tested(check, IpTest(check, lambda text: self._conflict(check, text)))
            case schema.ModuleCheck():
                test = ModuleTest(check, around.probe_port, lambda: around.on_restarted(check.name))
                return self._tested(check, test)
            case schema.DiskCheck():
                return self._tested(check, DiskTest(check, around.real))
            case schema.DelayCheck():
                return _Watched(check, DelayMeter(check).run)
            case schema.CustomCheck():
                return _Watched(check, lambda _: around.programs.run(check))
            case schema.SplitbrainCheck():
                witnesses = around.witnesses
                if witnesses is None:
                    return None
                return _Watched(check, lambda _: witnesses.keep_names())
            case _:
                assert_never(check)

    def _tested(self, check: Check, test: Test) -> _Watched:
        first_s = 0.0 if check.when == "pre" else self._first_test_s
        return _Watched(
            check,
            lambda tell: repeat(test, check.interval_s, check.timeout_s, tell, first_s),
            test.begin,
        )


def _cause(work: asyncio.Future[str | None]) -> str:
    """Why work that never ends has ended."""
    error = None if work.cancelled() else work.exception()
    if error is not None:
        log.error("a checker failed", exc_info=error)
        return f"{type(error).__name__}: {error}"
    return (not work.cancelled() and work.result()) or "it ended"
