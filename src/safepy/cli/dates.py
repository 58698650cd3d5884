"""Moments as people type them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d))?(Z?)", re.ASCII)
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DATE_FORMS = 'YYYY-MM-DD[Z], "YYYY-MM-DD hh:mm:ss[Z]" or YYYY-MM-DDThh:mm:ss[Z]'


def parse_date(text: str) -> float:
    """Unix seconds of a date of the reference 6.4: with Z in UTC, else in local time."""
    found = _DATE.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        day, clock, utc = found.groups()
        when = datetime.fromisoformat(f"{day} {clock or '00:00:00'}")
        return (when.replace(tzinfo=UTC) if utc else when).timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no date; write {DATE_FORMS}") from None


class Date(click.ParamType[float]):
    name = "date"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        return value if isinstance(value, float) else parse_date(str(value))


class Moment(Date):
    """A date, or how long ago: 90s, 10m, 2h, 3d."""

    name = "moment"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        ago = _AGO.fullmatch(str(value).strip())
        if ago is not None:
            return time.time() - int(ago[1]) * _UNITS_S[ago[2]]
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}; or how long ago: 90s, 10m, 2h, 3d", param, ctx)
