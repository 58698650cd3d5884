"""Maintenance of a module, and `update` (13.1, 13.5)."""

from __future__ import annotations

import re
import time

import click

from safepy.cli.context import Command, Group, app
from safepy.cli.output import iso, moment, output_option, structured
from safepy.core.words import span
from safepy.model import Snapshot

_LENGTH = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Length(click.ParamType[float]):
    """90s, 45m, 2h, 1d, in seconds."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = _LENGTH.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time; write 90s, 45m, 2h or 1d", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


@click.group(cls=Group)
def maintenance() -> None:
    """Nothing happens by itself on this node until it ends.

    No take-over, no failover rule, no action of errd or a checker, no swap to the preferred node.
    Commands work, and data stay safe.
    """


@maintenance.command(
    "on", example='safekit maintenance on -m AM --for 2h --reason "new version of the database"'
)
@click.option(
    "--for",
    "for_s",
    type=Length(),
    required=True,
    metavar="TIME",
    help="90s, 45m, 2h, 1d: then it ends.",
)
@click.option("--reason", default="", help="Shown wherever the state is.")
def maintenance_on(for_s: float, reason: str) -> None:
    """Begin, or begin anew with another end."""
    here = app()
    here.call("maintenance", here.module, on=True, for_s=for_s, reason=reason)
    (found,) = here.call("state", here.module)
    if found.peer:
        text = f"note: on this node only; say it on {found.peer} too if it shall not take over"
        click.echo(text, err=True)


@maintenance.command("off", example="safekit maintenance off -m AM")
def maintenance_off() -> None:
    """End it now."""
    here = app()
    here.call("maintenance", here.module, on=False)


@maintenance.command("status", example="safekit maintenance status -m AM")
@output_option
def maintenance_status(form: str) -> None:
    """Show whether, until when, why, and who said so."""
    here = app()
    found: Snapshot
    (found,) = here.call("state", here.module)
    if form != "text":
        structured(
            {
                "maintenance": found.maintenance_until > 0,
                "until": iso(found.maintenance_until),
                "until_unix_s": found.maintenance_until,
                "reason": found.maintenance_reason,
                "by": found.maintenance_by,
                "peer_until": iso(found.peer_maintenance_until),
            },
            form,
        )
        return
    for line in maintenance_lines(found, time.time()) or ["off"]:
        click.echo(line)


def maintenance_lines(snapshot: Snapshot, now: float) -> list[str]:
    """Of this node and of the other one; nothing if there is none."""
    lines = []
    if until := snapshot.maintenance_until:
        line = f"until {moment(until)} (for {span(until - now)} more), by {snapshot.maintenance_by}"
        if snapshot.maintenance_reason:
            line += f": {snapshot.maintenance_reason}"
        lines.append(line)
    if until := snapshot.peer_maintenance_until:
        why = dict(snapshot.peer_resources).get("maintenance.reason", "")
        lines.append(f"{snapshot.peer}: until {moment(until)}" + (f": {why}" if why else ""))
    return lines


@click.command(cls=Command, example="safekit update -m AM")
def update() -> None:
    """Look the addresses of the cluster up again and call the script `update`; in ALONE or UP."""
    here = app()
    here.call("update", here.module)


COMMANDS: list[click.Command] = [maintenance, update]
