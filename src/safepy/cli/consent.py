"""The question before a command that would lose data.

The daemon says what would be lost (verb `cost`, computed by `core.cost` from what this node knows
at this moment). Where nothing would be, nobody is asked. `--yes` agrees; a person at a terminal is
asked; a script that says nothing is refused with a code of its own and told what to type.
"""

from __future__ import annotations

import shlex
import sys

import click

from safepy.cli.context import app
from safepy.errors import RequestRefused

REFUSED_CODE = 3


class ConsentMissing(RequestRefused):
    """Data would be lost, and nobody agreed to it."""

    exit_code = REFUSED_CODE


def consent(action: str, yes: bool) -> None:
    """Return if nothing would be lost by `action`, or somebody agrees. Raises ConsentMissing
    without a terminal, click.Abort when the person says no."""
    if yes:
        return
    here = app()
    cost: str = here.call("cost", here.module, action=action)
    if cost:
        agree(cost)


def consent_for_all(action: str, yes: bool) -> None:
    """As `consent`, for every module of this node, with one question."""
    if yes:
        return
    here = app()
    names = [found.module for found in here.call("state")]
    costs = {name: here.call("cost", name, action=action) for name in names}
    lost = [f"{name}: {cost}" for name, cost in costs.items() if cost]
    if lost:
        agree("; ".join(lost))


def agree(cost: str) -> None:
    """Have `cost` accepted. Raises as `consent`."""
    if not person():
        typed = shlex.join(["safekit", *app().argv, "--yes"])
        raise ConsentMissing(f"{cost}; nothing was done", f"if this is wanted, type: {typed}")
    _ask(cost)


def confirm(what: str, yes: bool) -> None:
    """Ask a person at a terminal; where no data are at stake scripts are taken at their word."""
    if not yes and person():
        _ask(what)


def person() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(text: str) -> None:
    if not click.confirm(f"{text}. Continue?", err=True):
        raise click.Abort
