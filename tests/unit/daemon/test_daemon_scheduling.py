"""Scheduled synchronisation: due at its minute, once, whatever the clock does."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from safepy.daemon.scheduling import Scheduler, local_zone


class Clock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0.001)


async def test_due_once_at_each_minute_it_names() -> None:
    clock = Clock(datetime(2026, 11, 23, 23, 59, 30, tzinfo=UTC))
    due: list[datetime] = []
    scheduler = Scheduler("01 0 * * *", lambda: due.append(clock.moment), clock, look_every_s=0.001)
    task = asyncio.create_task(scheduler.run())
    await settle()
    assert due == []
    clock.moment += timedelta(seconds=91)
    await settle()
    assert len(due) == 1
    clock.moment += timedelta(hours=23)
    await settle()
    assert len(due) == 1
    clock.moment += timedelta(hours=1)
    await settle()
    assert len(due) == 2
    # Put forward over several dates: once. Put back: not before the next date of that time.
    clock.moment += timedelta(days=5)
    await settle()
    assert len(due) == 3
    clock.moment -= timedelta(days=30)
    await settle()
    assert len(due) == 3
    clock.moment += timedelta(days=1)
    await settle()
    assert len(due) == 4
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_without_a_schedule_nothing_is_due() -> None:
    due: list[int] = []
    clock = Clock(datetime(2026, 11, 23, tzinfo=UTC))
    task = asyncio.create_task(Scheduler("", lambda: due.append(1), clock, 0.001).run())
    await settle()
    clock.moment += timedelta(days=400)
    await settle()
    assert due == [] and not task.done()
    task.cancel()


def test_the_zone_of_this_host_and_none(tmp_path: Path) -> None:
    assert local_zone(str(tmp_path / "missing")) is UTC
    (tmp_path / "broken").write_bytes(b"no zone")
    assert local_zone(str(tmp_path / "broken")) is UTC
    assert datetime.now(local_zone()).utcoffset() is not None
