"""errd: when it looks, what it reports, and when it keeps quiet."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from safepy.checkers.base import Checker
from safepy.checkers.process import ProcessChecker
from safepy.config.schema import Errd, Proc
from safepy.host.processes import Process

APP = Proc("app", "prim", "restart")


class Host:
    """Processes by name, and what the checker said about them."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.scans = 0
        self.threads: set[int] = set()
        self.said: list[tuple[str, object]] = []
        self.let_scan_end = threading.Event()
        self.let_scan_end.set()

    def scan(self) -> list[Process]:
        self.threads.add(threading.get_ident())
        self.scans += 1
        names = list(self.names)
        assert self.let_scan_end.wait(5)
        return [Process(n, 1.0, name, name) for n, name in enumerate(names)]

    @asynccontextmanager
    async def watched(
        self, *procs: Proc, polltimer_s: float = 0.02
    ) -> AsyncIterator[ProcessChecker]:
        checker = ProcessChecker(
            Errd(polltimer_s, procs),
            on_down=lambda proc, action: self.said.append((proc.name, action)),
            on_state=lambda name, up: self.said.append((name, up)),
            scan_processes=self.scan,
            first_scan_delay_s=0.01,
        )
        as_checker: Checker = checker
        task = asyncio.ensure_future(as_checker.run())
        yield checker
        self.let_scan_end.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < deadline, self.said
            await asyncio.sleep(0.005)

    async def scans_more(self, count: int) -> None:
        wanted = self.scans + count + 1
        await self.until(lambda: self.scans >= wanted)


async def test_nothing_is_scanned_before_a_class_is_enabled() -> None:
    host = Host()
    async with host.watched(APP) as checker:
        await asyncio.sleep(0.1)
        assert host.scans == 0
        checker.enable("second", True)
        await asyncio.sleep(0.1)
        assert host.scans == 0


async def test_first_scan_comes_soon_and_in_a_thread() -> None:
    host = Host("app")
    async with host.watched(APP, polltimer_s=3600) as checker:
        await asyncio.sleep(0.02)
        checker.enable("prim", True)
        await host.until(lambda: host.said == [("app", True)])
        assert threading.get_ident() not in host.threads


async def test_down_is_reported_with_the_action_until_it_is_up_again() -> None:
    host = Host("app")
    async with host.watched(APP) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.said == [("app", True)])
        host.names = []
        await host.scans_more(2)
        assert host.said[1:4] == [("app", False), ("app", "restart"), ("app", "restart")]
        host.names = ["app"]
        await host.scans_more(1)
        assert host.said[-1] == ("app", True)


async def test_noaction_is_said_once_for_each_failure() -> None:
    host = Host()
    async with host.watched(Proc("app", "prim", "noaction")) as checker:
        checker.enable("prim", True)
        await host.scans_more(4)
        assert host.said == [("app", False), ("app", "noaction")]


@pytest.mark.parametrize(
    ("atleast", "running", "up"),
    [(1, 1, True), (2, 1, False), (2, 2, True), (-1, 0, True), (0, 0, True)],
)
async def test_atleast(atleast: int, running: int, up: bool) -> None:
    host = Host(*["app"] * running)
    async with host.watched(Proc("app", "prim", "stop", atleast)) as checker:
        checker.enable("prim", True)
        await host.until(lambda: host.scans >= 2)
        assert host.said[0] == ("app", up)
        assert (("app", "stop") in host.said) is not up


async def test_a_scan_that_overlaps_a_stop_is_not_believed() -> None:
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
        await host.scans_more(2)
        assert {name for name, _ in host.said} == {"agent"}
        checker.enable("both", False)
        checker.enable("both", False)
        await asyncio.sleep(0.05)
        scans = host.scans
        await asyncio.sleep(0.1)
        assert host.scans == scans


async def test_suspended_means_silent() -> None:
    host = Host()
    async with host.watched(APP) as checker:
        checker.suspend(True)
        checker.enable("prim", True)
        await asyncio.sleep(0.1)
        assert host.said == []
        checker.suspend(False)
        await host.until(lambda: ("app", "restart") in host.said)


async def test_a_scan_that_fails_is_no_missing_process() -> None:
    def broken() -> list[Process]:
        raise OSError("no /proc")

    said: list[object] = []
    checker = ProcessChecker(
        Errd(1.0, (APP,)), lambda *a: said.append(a), lambda *a: said.append(a), broken, 0.0
    )
    checker.enable("prim", True)
    with pytest.raises(OSError, match="no /proc"):
        await asyncio.wait_for(checker.run(), 5)
    assert said == []
