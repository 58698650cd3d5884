"""Tasks: kept, named, heard; and the clocks."""

import asyncio
import gc
from typing import Any

from safepy.host.clock import Clock, SystemClock
from safepy.host.tasks import Tasks


async def test_a_failure_is_heard_with_the_name_of_the_task() -> None:
    heard: list[tuple[str, str]] = []
    tasks = Tasks(lambda name, error: heard.append((name, str(error))))

    async def fail() -> None:
        raise ValueError("broken")

    tasks.start("worker of db", fail())
    await asyncio.sleep(0.01)
    assert heard == [("worker of db", "broken")]
    assert len(tasks) == 0


async def test_without_a_listener_the_loop_hears_it() -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))

    async def fail() -> None:
        raise ValueError("broken")

    Tasks().start("x", fail())
    await asyncio.sleep(0.01)
    assert heard[0]["message"] == "task x failed"


async def test_a_task_is_kept_until_it_ends() -> None:
    tasks = Tasks()
    done: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append(1)

    tasks.start("x", work())
    gc.collect()
    await asyncio.sleep(0.05)
    assert done == [1]


async def test_close_cancels_and_waits_for_those_that_clean_up() -> None:
    heard: list[str] = []
    tasks = Tasks(lambda name, _error: heard.append(name))
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(1)

    async def fail_late() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("late") from None

    tasks.start("a", work())
    tasks.start("b", fail_late())
    await asyncio.sleep(0)
    await tasks.close()
    assert (cleaned, heard, len(tasks)) == ([1], ["b"], 0)


def test_the_clocks_run() -> None:
    clock: Clock = SystemClock()
    assert clock.boottime() >= clock.monotonic() - 1
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall() > 1_700_000_000
