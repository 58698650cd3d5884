"""Commands about how the next synchronisation is done: rfssync, secondforce (13.1, 13.6)."""

from __future__ import annotations

import time

import click

from safepy.cli.consent import agree
from safepy.cli.context import Command, app, identity_option, yes_option
from safepy.cli.dates import DATE_FORMS, Date
from safepy.cli.output import moment, output_option, structured
from safepy.model import Snapshot


@click.command(cls=Command, example='safekit secondforce -d "2026-11-23 08:00:00" -m AM')
@click.option(
    "-d", "since", type=Date(), required=True, metavar="DATE", help=f"As {DATE_FORMS}; Z: UTC."
)
@identity_option
@yes_option
def secondforce(since: float, identity: str, yes: bool) -> None:
    """Start as secondary; only files modified on the primary after DATE are copied, whole.

    Older files are taken as equal without a look at them: you answer for that.
    """
    if since > time.time():
        raise click.BadParameter("this date is in the future: nothing would be copied")
    here = app()
    if not yes:
        agree(
            f"files that were modified before {moment(since)} are taken as equal on both nodes: "
            "what differs in them stays different, and nothing checks that (safekit rfsverify will)"
        )
    here.call("action", here.module, action="secondforce", identity=identity, since=since)


#: What `-d` gives up on the second.
_UNSEEN = (
    "the directories here are taken as the restored backup and nothing else: what is different in "
    "them stays different, and nothing checks that (safekit rfsverify will)"
)


@click.command(cls=Command, example="safekit rfssync full -m AM")
@click.option(
    "-d", "blind", is_flag=True, help="External, without a look for changes before the start."
)
@click.argument("words", nargs=-1, metavar="[full | [external] prim|second UID]")
@yes_option
@output_option
def rfssync(blind: bool, words: tuple[str, ...], yes: bool, form: str) -> None:
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
            if role == "second" and not yes:
                agree(_UNSEEN)
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
