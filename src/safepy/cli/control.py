"""Commands that ask a module to do something; they return at once (13.1)."""

from __future__ import annotations

import click

from safepy.cli.consent import confirm, consent, consent_for_all
from safepy.cli.context import Command, app, identity_option, notes, yes_option

_ACTIONS = {
    "start": "Start the module; returns at once.",
    "restart": "Stop and start the application only, on the same node.",
}
#: A primary leaves its place: somebody should take it.
_LEAVING = {
    "stop": "Stop the module; returns at once.",
    "stopstart": "Stop the module and start it again; a primary hands over.",
}


def _act(action: str, identity: str, fullsync: bool = False) -> None:
    here = app()
    here.call("action", here.module, action=action, identity=identity, fullsync=fullsync)


def _simple(action: str, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text, example=f"safekit {action} -m AM")
    @identity_option
    def run(identity: str) -> None:
        _act(action, identity)

    return run


def _leaving(action: str, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text, example=f"safekit {action} -m AM")
    @identity_option
    @yes_option
    def run(identity: str, yes: bool) -> None:
        # A script or a detector does not ask for the fun of it, and nobody would answer.
        consent(action, yes or bool(identity))
        _act(action, identity)

    return run


def _forced(action: str, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text, example=f"safekit {action} -m AM")
    @click.argument("fullsync", required=False, type=click.Choice(["fullsync"]))
    @identity_option
    @yes_option
    def run(fullsync: str | None, identity: str, yes: bool) -> None:
        consent(action, yes)
        _act(action, identity, fullsync is not None)

    return run


@click.command(cls=Command, example="safekit primforce -m AM")
@identity_option
@yes_option
def primforce(identity: str, yes: bool) -> None:
    """As prim, also with data that a broken synchronisation left inconsistent.

    The other node is compared whole afterwards.
    """
    consent("primforce", yes)
    _act("primforce", identity)


@click.command(cls=Command, example="safekit swap -m AM")
@click.argument("nosync", required=False, type=click.Choice(["nosync"]))
@identity_option
def swap(nosync: str | None, identity: str) -> None:
    """Exchange the roles of the two nodes."""
    _act("swap", identity)
    if nosync:
        # Nothing is left to leave out: both copies are equal and flushed when the roles change.
        said = "nosync: a swap copies only what changes after the roles were exchanged, anyway"
        notes([said], "text")


@click.command(cls=Command, example="safekit forcestop -m AM")
@identity_option
@yes_option
def forcestop(identity: str, yes: bool) -> None:
    """End whatever runs of the module when stop has no effect; returns when it is done."""
    consent("forcestop", yes)
    here = app()
    here.call("forcestop", here.module, identity=identity)


@click.command(cls=Command, example="safekit shutdown")
@yes_option
def shutdown(yes: bool) -> None:
    """Stop all modules of this node and wait until they are."""
    here = app()
    here.for_the_node()
    consent_for_all("shutdown", yes)
    here.call("shutdown")


@click.command(cls=Command, example="safekit clean log -m AM")
@click.argument(
    "what", type=click.Choice(["all", "log", "process", "resource"]), default="all", required=False
)
@yes_option
def clean(what: str, yes: bool) -> None:
    """Repair: forget the logs, begin the resources anew, end what is left of the module."""
    here = app()
    if what in ("all", "process"):
        consent("forcestop", yes)
    if what in ("all", "log"):
        confirm(f"The log and the script logs of {here.module} are deleted", yes)
    here.call("clean", here.module, what=what)


COMMANDS: list[click.Command] = [
    *(_simple(action, text) for action, text in _ACTIONS.items()),
    *(_leaving(action, text) for action, text in _LEAVING.items()),
    _forced("prim", "Start as primary, whatever this node knows of its data."),
    _forced("second", "Start as secondary of a node that is primary."),
    primforce,
    swap,
    forcestop,
    clean,
    shutdown,
]
