"""The runtime around a core that only counts: order, timer, pauses, bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from safepy.core.commands import Command, Publish
from safepy.core.events import ActionRequested, BeatReceived, Event, Paused, Tick
from safepy.daemon import runtime
from safepy.daemon.runtime import INBOX_MAX, Runtime

LIMIT_S = 5.0


class Core:
    """Stands for `core.machine`: remembers events, wants a Tick when told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deadline_s: float | None = None
        self.fail = False

    def step(self, state: Any, event: Event, now: float) -> tuple[Any, tuple[Command, ...]]:
        assert not self.fail, "a bug"
        self.events.append(event)
        if isinstance(event, Tick):
            self.deadline_s = None
        return state + 1, (Publish(),)

    def next_deadline(self, state: Any) -> float | None:
        return self.deadline_s


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core()
    monkeypatch.setattr(runtime, "machine", made)
    return made


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - until this holds, at most that long
            await asyncio.sleep(0.005)


def action(name: str) -> ActionRequested:
    return ActionRequested(name, "test")


async def test_events_in_order_each_with_its_commands(core: Core) -> None:
    done: list[Command] = []
    one = Runtime(0, lambda command, now: done.append(command), time.monotonic, 5.0)
    task = asyncio.create_task(one.run())
    wanted = [action(str(number)) for number in range(200)]
    for event in wanted:
        one.post(event)
    await until(lambda: len(core.events) == 200)
    task.cancel()
    assert core.events == wanted
    assert one.state == 200
    assert len(done) == 200


async def test_the_timer_fires_at_the_deadline_and_does_not_spin(core: Core) -> None:
    one = Runtime(0, lambda command, now: None, time.monotonic, 5.0)
    core.deadline_s = time.monotonic() + 0.1
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0.03)
    assert core.events == []
    await until(lambda: core.events == [Tick()])
    await asyncio.sleep(0.1)
    assert core.events == [Tick()]
    task.cancel()


async def test_a_pause_comes_before_everything_that_waited(core: Core) -> None:
    one = Runtime(0, lambda command, now: None, time.monotonic, 0.2)
    core.deadline_s = time.monotonic() + 0.1
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0.02)
    one.post(action("waits"))
    time.sleep(0.5)  # noqa: ASYNC251 - the loop itself stands still, as under SIGSTOP
    await until(lambda: len(core.events) >= 2)
    task.cancel()
    assert isinstance(core.events[0], Paused)
    assert core.events[0].gap_s >= 0.4
    assert core.events[1] == action("waits")
    assert one.pauses == 1


async def test_a_suspended_host_is_a_pause(core: Core) -> None:
    """CLOCK_BOOTTIME jumps while the loop's own clock stood still."""
    jump = {"s": 0.0}
    one = Runtime(0, lambda command, now: None, lambda: time.monotonic() + jump["s"], 1.0)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0.05)
    jump["s"] = 3600.0
    await until(lambda: core.events)
    task.cancel()
    assert isinstance(core.events[0], Paused)
    assert core.events[0].gap_s > 3599


async def test_a_bug_in_the_core_is_not_swallowed(core: Core) -> None:
    one = Runtime(0, lambda command, now: None, time.monotonic, 5.0)
    core.fail = True
    one.post(action("x"))
    with pytest.raises(AssertionError, match="a bug"):
        await asyncio.wait_for(one.run(), LIMIT_S)


async def test_the_inbox_is_bounded_for_what_the_network_sends(core: Core) -> None:
    one = Runtime(0, lambda command, now: None, time.monotonic, 5.0)
    beat: Any = object()
    for _ in range(INBOX_MAX + 10):
        one.post(BeatReceived("default", beat))
    one.post(action("still heard"))
    assert one.dropped == 10
    task = asyncio.create_task(one.run())
    await until(lambda: len(core.events) == INBOX_MAX + 1)
    task.cancel()
    assert core.events[-1] == action("still heard")
