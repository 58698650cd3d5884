"""errd: when it looks, what it reports, and when it keeps quiet."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from safepy.checkers import hostview
from safepy.checkers.hostview import HostView
from safepy.checkers.process import Finding, ProcessChecker, is_up
from safepy.config.schema import Errd, Proc
from safepy.errors import LocalFault
from safepy.host.processes import Process, Wanted
from safepy.host.systemd import Unit

APP = Proc("app", "prim", "restart")
WEB = Proc("web", "prim", "restart", service=True)
RUNS = Unit("loaded", "active", "running")


class Host:
    """Processes by name, units by name, and what the checker said about them."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.units: dict[str, Unit] | LocalFault = {}
        self.scans = 0
        self.threads: set[int] = set()
        self.said: list[tuple[str, bool | str]] = []
        self.troubles: list[str] = []
        self.looks: list[list[Finding]] = []
        self.let_scan_end = threading.Event()
        self.let_scan_end.set()
        self.broken: OSError | None = None
        self.view = HostView(self.scan, self.ask, scan_limit_s=0.3)

    def scan(self, _wanted: Wanted, _hidden: int) -> list[Process]:
        self.threads.add(threading.get_ident())
        self.scans += 1
        names = list(self.names)
        assert self.let_scan_end.wait(5)
        if self.broken is not None:
            raise self.broken
        return [Process(n, 1, name, name) for n, name in enumerate(names)]

    async def ask(self, services: Iterable[str]) -> dict[str, Unit]:
        if isinstance(self.units, LocalFault):
            raise self.units
        return {name: unit for name, unit in self.units.items() if name in set(services)}

    def found(self, findings: Sequence[Finding]) -> None:
        self.looks.append(list(findings))
        for each in findings:
            if each.changed:
                self.said.append((each.proc.name, each.up))

    @asynccontextmanager
    async def watched(
        self, *procs: Proc, polltimer_s: float = 0.02
    ) -> AsyncIterator[ProcessChecker]:
        checker = ProcessChecker(
            Errd(polltimer_s, procs), self.view, self.found, self.troubles.append, 0.01
        )
        task = asyncio.ensure_future(checker.run())
        await asyncio.sleep(0)
        yield checker
        self.let_scan_end.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline, (self.said, self.troubles, self.looks[-3:])
            await asyncio.sleep(0.005)

    async def looks_more(self, count: int) -> None:
        wanted = len(self.looks) + count
        await self.until(lambda: len(self.looks) >= wanted)


@pytest.fixture(autouse=True)
def fresh_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look of these fast polls is one of its own."""
    monkeypatch.setattr(hostview, "MAX_AGE_S", 0.005)


async def test_nothing_is_scanned_before_a_class_is_enabled() -> None:
    host = Host()
    async with host.watched(APP) as checker:
        await asyncio.sleep(0.1)
        assert host.scans == 0
        checker.enable("second", True)
        await asyncio.sleep(0.1)
        assert host.scans == 0


async def test_first_look_comes_soon_and_in_a_thread() -> None:
    host = Host("app")
    async with host.watched(APP, polltimer_s=3600) as checker:
        await asyncio.sleep(0.02)
        checker.enable("prim", True)
        await host.until(lambda: host.said == [("app", True)])
        assert threading.get_ident() not in host.threads


async def test_each_look_tells_what_is_down_and_whether_that_is_news() -> None:
    host = Host("app")
    async with host.watched(APP) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.said == [("app", True)])
        host.names = []
        await host.until(lambda: host.said[-1] == ("app", False))
        await host.looks_more(2)
        assert host.looks[-1] == [Finding(APP, 0, up=False, changed=False)]
        host.names = ["app"]
        await host.until(lambda: host.said[-1] == ("app", True))


@pytest.mark.parametrize(
    ("atleast", "atmax", "running", "up"),
    [
        (1, -1, 0, False),
        (1, -1, 1, True),
        (2, -1, 1, False),
        (2, -1, 2, True),
        (-1, -1, 0, True),
        (0, -1, 0, True),
        (-1, 0, 0, True),
        (-1, 0, 1, False),
        (-1, 1, 1, False),
        (1, 3, 2, True),
        (1, 3, 3, False),
        (1, 3, 0, False),
    ],
)
def test_how_many_are_right(atleast: int, atmax: int, running: int, up: bool) -> None:
    assert is_up(Proc("app", "prim", atleast=atleast, atmax=atmax), running) is up


async def test_a_look_that_overlaps_a_stop_is_not_believed() -> None:
    host = Host()
    host.let_scan_end.clear()
    async with host.watched(APP) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.scans == 1)
        # The stop script ended the application, and by now the application runs again.
        checker.enable("prim", False)
        checker.enable("prim", True)
        host.names = ["app"]
        host.let_scan_end.set()
        await host.until(lambda: bool(host.said))
        assert host.said == [("app", True)]


async def test_classes_are_independent_and_enabling_twice_is_harmless() -> None:
    host = Host()
    async with host.watched(APP, Proc("agent", "both", "stop")) as checker:
        checker.enable("both", True)
        checker.enable("both", True)
        await host.looks_more(2)
        assert {name for name, _ in host.said} == {"agent"}
        assert checker.classes == {"both"}
        checker.enable("both", False)
        checker.enable("both", False)
        await asyncio.sleep(0.05)
        scans = host.scans
        await asyncio.sleep(0.1)
        assert host.scans == scans


async def test_a_class_enabled_while_another_waits_for_its_first_look_gets_its_own_time() -> None:
    host = Host("app")
    late = Proc("late", "both")
    checker = ProcessChecker(
        Errd(3600, (APP, late)), host.view, host.found, host.troubles.append, 0.3
    )
    task = asyncio.ensure_future(checker.run())
    await asyncio.sleep(0)
    checker.enable("prim", True)
    await asyncio.sleep(0.2)
    checker.enable("both", True)
    enabled_s = time.monotonic()
    await host.until(lambda: ("app", True) in host.said)
    assert host.said == [("app", True)]  # 0.1 s after its start `late` may not be there yet
    await host.until(lambda: ("late", False) in host.said)
    assert time.monotonic() - enabled_s >= 0.29
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_suspended_means_silent() -> None:
    host = Host()
    async with host.watched(APP) as checker:
        checker.suspend(True)
        checker.enable("prim", True)
        await asyncio.sleep(0.1)
        assert host.said == []
        assert not checker.watches("prim")
        checker.suspend(False)
        await host.until(lambda: host.said == [("app", False)])


async def test_start_after_leaves_out_the_first_cycles() -> None:
    host = Host()
    late = Proc("late", "prim", start_after=4)
    async with host.watched(APP, late, polltimer_s=0.1) as checker:
        began = time.monotonic()
        checker.enable("prim", True)
        await host.until(lambda: ("app", False) in host.said)
        assert ("late", False) not in host.said
        await host.until(lambda: ("late", False) in host.said)
        assert time.monotonic() - began >= 0.3
        # Disabled and enabled again, it begins anew.
        checker.enable("prim", False)
        checker.enable("prim", True)
        host.said.clear()
        await host.until(lambda: ("app", False) in host.said)
        assert ("late", False) not in host.said


async def test_a_look_that_fails_is_no_missing_process_and_said_once() -> None:
    host = Host("app")
    host.broken = OSError(2, "no /proc")
    async with host.watched(APP) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.scans >= 3)
        assert (host.said, len(host.troubles)) == ([], 1)
        assert "no /proc" in host.troubles[0]
        host.broken = None
        await host.until(lambda: host.said == [("app", True)])


async def test_a_proc_that_does_not_answer_costs_one_thread_and_is_said_once() -> None:
    host = Host("app")
    host.let_scan_end.clear()
    async with host.watched(APP) as checker:
        checker.enable("prim", True)
        await host.until(lambda: bool(host.troubles))
        await asyncio.sleep(0.5)  # longer than one more limit
        assert (host.scans, host.said, len(host.troubles)) == (1, [], 1)
        host.let_scan_end.set()
        await host.until(lambda: host.said == [("app", True)])


async def test_services_are_asked_for_by_name_and_their_states_count() -> None:
    host = Host("app")
    host.units = {"web": RUNS}
    async with host.watched(APP, WEB) as checker:
        checker.enable("prim", True)
        await host.until(lambda: sorted(host.said) == [("app", True), ("web", True)])
        host.units = {"web": Unit("loaded", "failed", "failed")}
        await host.until(lambda: host.said[-1] == ("web", False))
        host.units = {}  # an answer that leaves it out
        await host.until(lambda: bool(host.troubles))
        assert host.troubles == [
            "The services cannot be looked at: systemctl says nothing about web"
        ]
        await host.looks_more(2)
        assert [each.proc for each in host.looks[-1]] == [APP]


async def test_systemd_that_cannot_be_asked_says_nothing_about_a_service() -> None:
    host = Host("app")
    host.units = LocalFault("no bus")
    async with host.watched(APP, WEB) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.said == [("app", True)])
        await host.looks_more(3)
        assert host.troubles == ["The services cannot be looked at: no bus"]
        assert [each.proc for each in host.looks[-1]] == [APP]
        host.units = {"web": RUNS}
        await host.until(lambda: ("web", True) in host.said)


async def test_one_look_serves_all_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("app")
    monkeypatch.setattr(hostview, "MAX_AGE_S", 0.5)
    host.view = HostView(host.scan, host.ask)
    async with AsyncExitStack() as stack:
        checkers = [
            await stack.enter_async_context(host.watched(APP, polltimer_s=0.4)) for _ in range(32)
        ]
        for checker in checkers:
            checker.enable("prim", True)
        await host.until(lambda: len(host.looks) >= 32)
        assert host.scans <= 2
        await host.until(lambda: len(host.looks) >= 5 * 32)
        assert host.scans <= 8
