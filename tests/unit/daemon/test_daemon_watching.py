"""What errd does about what it finds: lines, resources, and at most one action a look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from safepy.checkers import hostview
from safepy.checkers.hostview import HostView
from safepy.checkers.process import ProcessChecker
from safepy.config.schema import Errd, Proc
from safepy.core.events import ActionRequested, Event
from safepy.daemon.watching import Watching
from safepy.errors import RequestRefused, ScriptError
from safepy.host.processes import Process, Wanted
from safepy.host.systemd import Unit
from safepy.model import Level


class Here:
    """One module's surroundings; `running` are the names of processes, `units` those that run."""

    def __init__(self, folder: Path) -> None:
        self.running: set[str] = set()
        self.units: set[str] = set()
        self.lines: list[str] = []
        #: Of which resource a line was said, after how many actions.
        self.told: list[tuple[str, int]] = []
        self.resources: dict[str, str] = {}
        self.posted: list[ActionRequested] = []
        self.handled: list[str] = []
        self.handler_ends = asyncio.Event()
        self.handler_fails = False
        self.handlers_ended = 0
        self.may_act = True
        self.errdlist = folder / "errdlist"
        self.view = HostView(self._read, self._ask)

    def _read(self, _wanted: Wanted, _hidden: int) -> list[Process]:
        return [Process(n, 1, name, name) for n, name in enumerate(sorted(self.running))]

    async def _ask(self, services: Iterable[str]) -> dict[str, Unit]:
        names = list(services)
        on, off = Unit("loaded", "active", "running"), Unit("loaded", "failed", "failed")
        return {name: on if name in self.units else off for name in names}

    def say(self, _origin: str, _level: Level, text: str) -> None:
        self.lines.append(text)

    def report(self, resource: str, value: str, _who: str) -> None:
        self.resources[resource] = value

    def assign(self, resource: str, value: str, _who: str) -> Callable[[], None]:
        self.resources[resource] = value
        return lambda: self.told.append((resource, len(self.posted)))

    async def happened(self, event: Event) -> None:
        assert isinstance(event, ActionRequested)
        self.posted.append(event)

    async def handler(self, path: str) -> None:
        self.handled.append(path)
        try:
            await self.handler_ends.wait()
        except asyncio.CancelledError:
            self.handlers_ended += 1
            raise
        if self.handler_fails:
            raise ScriptError("exit code 3")

    @asynccontextmanager
    async def watching(self, *procs: Proc) -> AsyncIterator[Watching]:
        made = Watching(
            Errd(0.05, procs),
            self.view,
            self,
            self,
            self.happened,
            self.handler,
            lambda: self.may_act,
            self.errdlist,
        )
        task = asyncio.ensure_future(made.run())
        await asyncio.sleep(0)
        yield made
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline, (self.lines, self.posted, self.resources)
            await asyncio.sleep(0.005)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(hostview, "MAX_AGE_S", 0.005)
    monkeypatch.setattr(ProcessChecker.__init__, "__defaults__", (0.02,))
    return Here(tmp_path)


@pytest.mark.parametrize(
    ("procs", "action", "services"),
    [
        ([("a", "restart", ())], "restart", ""),
        ([("a", "restart", ()), ("b", "stop", ()), ("c", "stopstart", ())], "stop", ""),
        ([("a", "restart", ()), ("b", "stopstart", ())], "stopstart", ""),
        ([("a", "restart", ("x", "y")), ("b", "restart", ("y", "z"))], "restart", "x, y, z"),
        ([("a", "restart", ("x",)), ("b", "restart", ())], "restart", ""),
        ([("a", "restart", ("x",)), ("b", "stopstart", ())], "stopstart", ""),
    ],
)
async def test_one_look_is_one_action(
    here: Here, procs: list[tuple[str, str, tuple[str, ...]]], action: str, services: str
) -> None:
    watched = [
        Proc(name, "prim", act, service=bool(some), restart_services=some)
        for name, act, some in procs
    ]
    async with here.watching(*watched) as errd:
        errd.enable("prim", True)
        await here.until(lambda: here.posted)
        errd.enable("prim", False)
        posted = len(here.posted)
    looks = here.lines.count(here.lines[0])
    assert posted == looks
    said = ", ".join(
        f"{'Service' if proc.service else 'Process'} {proc.name} not running" for proc in watched
    )
    assert here.posted[0] == ActionRequested(
        action, "errd", "errd", services=services, because=said
    )
    # What is done about it is said before what the resources are (reference 15.5).
    assert here.told == [(proc.resource, 1) for proc in watched]
    kinds = {"Service" if proc.service else "Process" for proc in watched}
    assert {line.split()[0] for line in here.lines} == kinds
    assert {line.split()[1] for line in here.lines} == {proc.name for proc in watched}


async def test_noaction_is_said_once_and_an_action_until_it_helps(here: Here) -> None:
    async with here.watching(
        Proc("quiet", "prim", "noaction"), Proc("loud", "both", "restart")
    ) as errd:
        errd.enable("prim", True)
        await here.until(lambda: here.resources.get("proc.quiet") == "down")
        await asyncio.sleep(0.2)
        assert (here.lines, here.posted) == (["Process quiet not running"], [])
        errd.enable("both", True)
        # What was refused the first time is asked for again.
        await here.until(lambda: len(here.posted) >= 3)
        here.running.add("loud")
        await here.until(lambda: here.resources.get("proc.loud") == "up")


async def test_a_handler_never_runs_twice_at_once_and_a_failure_is_a_stopstart(here: Here) -> None:
    async with here.watching(Proc("a", "mine", "repair")) as errd:
        errd.enable_named("mine", True)
        await here.until(lambda: here.handled)
        await asyncio.sleep(0.3)
        assert (here.handled, here.lines) == (["repair"], ["Process a not running"])
        here.handler_fails = True
        here.handler_ends.set()
        await here.until(lambda: here.posted)
        why = "Handler repair of a failed: exit code 3"
        assert here.posted[0] == ActionRequested("stopstart", "errd", "errd", because=why)
        assert why in here.lines


async def test_no_handler_runs_beside_a_direct_action_or_in_maintenance(here: Here) -> None:
    async with here.watching(Proc("a", "mine", "repair"), Proc("b", "prim", "restart")) as errd:
        errd.enable("prim", True)
        errd.enable("mine", True)
        await here.until(lambda: len(here.posted) >= 2)
        assert here.handled == []
        errd.enable("prim", False)
        here.may_act = False
        seen = len(here.lines)
        await here.until(lambda: len(here.lines) >= seen + 2)
        assert here.handled == []
        here.may_act = True
        await here.until(lambda: here.handled == ["repair"])


@pytest.mark.parametrize(
    ("script", "ended"),
    [("stop_prim", 1), ("stop_both", 1), ("stop_second", 1), ("stop_sec", 0), ("start_sec", 0)],
)
async def test_a_handler_ends_before_the_application_is_stopped(
    here: Here, script: str, ended: int
) -> None:
    async with here.watching(Proc("a", "mine", "repair")) as errd:
        errd.enable("mine", True)
        await here.until(lambda: here.handled)
        await errd.before_script(script)
        assert here.handlers_ended == ended
    assert here.handlers_ended == 1  # at the latest with the daemon


async def test_classes_of_ones_own_end_with_a_life_of_the_module(here: Here) -> None:
    async with here.watching(Proc("a", "mine"), Proc("b", "pre")) as errd:
        errd.enable("mine", True)
        errd.enable("pre", True)
        await errd.before_script("prestart")
        assert (errd.watches("mine"), errd.watches("pre")) == (False, True)
        with pytest.raises(RequestRefused, match="the class other"):
            errd.enable_named("other", True)
        await here.until(
            lambda: here.errdlist.exists() and "class=pre" in here.errdlist.read_text()
        )
        mine, pre = here.errdlist.read_text().splitlines()[1:]
        assert mine.endswith(" not watched") and pre.endswith(" watched")


async def test_a_list_that_cannot_be_written_is_said(here: Here, tmp_path: Path) -> None:
    here.errdlist = tmp_path / "gone" / "errdlist"
    async with here.watching(Proc("a", "pre")) as errd:
        errd.enable("pre", True)
        await here.until(lambda: any("cannot be written" in line for line in here.lines))
