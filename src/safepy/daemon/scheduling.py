"""`syncat`: when a scheduled synchronisation is due (reference: userconfig 19.11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from safepy.config.schedule import next_after

#: The clock may be set, so it is looked at again after this long at the latest.
LOOK_EVERY_S = 20.0
LOCAL_TIME = "/etc/localtime"


def local_zone(path: str = LOCAL_TIME) -> tzinfo:
    """The time zone of this host with its rules for summer time; UTC if there is none."""
    try:
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


class Scheduler:
    """Calls `due` at each minute that the crontab expression names, once, late rather than never:
    a clock that is put forward over one of them makes it due at once."""

    def __init__(
        self,
        expression: str,
        due: Callable[[], None],
        now: Callable[[], datetime] = lambda: datetime.now(local_zone()),
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._expression = expression
        self._due = due
        self._now = now
        self._look_every_s = look_every_s

    async def run(self) -> None:
        """Until cancelled; with an empty expression nothing is ever due."""
        if not self._expression:
            await asyncio.Event().wait()
        seen = self._now()
        while True:
            moment = next_after(self._expression, seen)
            left_s = (moment - self._now()).total_seconds()
            await asyncio.sleep(min(max(left_s, 0.0), self._look_every_s))
            now = self._now()
            if now >= moment:
                self._due()
            if now >= moment or now < seen - timedelta(minutes=1):
                seen = now
