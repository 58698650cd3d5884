"""Commands about how the next synchronisation is done: rfssync, secondforce (13.1, 13.6)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

from safepy.cli.context import Command, app, identity_option
from safepy.cli.output import moment, output_option, structured
from safepy.model import Snapshot

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d))?(Z?)", re.ASCII)
_DATE_FORMS = 'YYYY-MM-DD[Z], "YYYY-MM-DD hh:mm:ss[Z]" or YYYY-MM-DDThh:mm:ss[Z]'


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
        raise click.BadParameter(f"{text!r} is no date; write {_DATE_FORMS}") from None


class _Date(click.ParamType[float]):
    name = "date"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        return value if isinstance(value, float) else parse_date(str(value))


@click.command(cls=Command)
@click.option(
    "-d", "since", type=_Date(), required=True, metavar="DATE", help=f"As {_DATE_FORMS}; Z: UTC."
)
@identity_option
def secondforce(since: float, identity: str) -> None:
    """Start as secondary; only files modified on the primary after DATE are copied, whole.

    Older files are taken as equal without a look at them: you answer for that.
    """
    if since > time.time():
        raise click.BadParameter("this date is in the future: nothing would be copied")
    here = app()
    click.echo(
        f"Warning: files that were modified before {moment(since)} are taken as equal on both "
        "nodes. Nothing checks that: safekit rfsverify will.",
        err=True,
    )
    here.call("action", here.module, action="secondforce", identity=identity, since=since)


@click.command(cls=Command)
@click.option(
    "-d", "blind", is_flag=True, help="External, without a look for changes before the start."
)
@click.argument("words", nargs=-1, metavar="[full | [external] prim|second UID]")
@output_option
def rfssync(blind: bool, words: tuple[str, ...], form: str) -> None:
    """Show, or set, how the next synchronisation is done.

    full: everything is compared. external: the second's directories were restored from a backup
    of the prim's, made after UID was named there. After a synchronisation it is the default again.
    """
    here = app()
    match words:
        case () if not blind:
            _show(form)
        case ("full",) if not blind:
            here.call("rfssync", here.module, mode="full")
        case ("external", ("prim" | "second") as role, uid):
            _external(role, uid, detect=not blind)
        case (("prim" | "second") as role, uid) if blind:
            _external(role, uid, detect=False)
        case _:
            raise click.UsageError(
                "write: rfssync, rfssync full, rfssync external prim|second UID, "
                "or rfssync -d prim|second UID"
            )


def _external(role: str, uid: str, detect: bool) -> None:
    here = app()
    here.call("rfssync", here.module, mode="external", role=role, uid=uid, detect=detect)


def _show(form: str) -> None:
    here = app()
    (found,) = _snapshots()
    policy = found.record.policy
    if form != "text":
        structured({"mode": policy.mode, "role": policy.role, "uid": policy.uid}, form)
        return
    click.echo(f"module {here.module}: {found.sync_policy or 'default'}")


def _snapshots() -> list[Snapshot]:
    here = app()
    found: list[Snapshot] = here.call("state", here.module)
    return found


COMMANDS: list[click.Command] = [secondforce, rfssync]
