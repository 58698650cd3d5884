"""When a scheduled synchronisation is due: crontab(5) expressions (reference: userconfig 19.11)."""

from __future__ import annotations

from datetime import datetime

from cronsim import CronSim, CronSimError

FIELDS = 5


def check(expression: str) -> None:
    """Raises ValueError with a sentence if this is no crontab expression, or never comes."""
    next_after(expression, datetime(2024, 1, 1))  # a leap year


def next_after(expression: str, moment: datetime) -> datetime:
    """The first due minute after `moment`, in the same time zone. A moment with a zone gets what
    Debian's cron does when clocks are put forward or back. Raises ValueError."""
    if len(expression.split()) != FIELDS:
        raise ValueError(f"found {len(expression.split())} fields, {FIELDS} are needed")
    try:
        return next(CronSim(expression, moment))
    except StopIteration:
        raise ValueError("no such date ever comes") from None
    except CronSimError as error:
        raise ValueError(str(error)) from error
