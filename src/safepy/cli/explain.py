"""Commands that explain and change nothing: why, plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from safepy.admin.values import PLANNED
from safepy.cli.context import Command, app
from safepy.cli.output import iso, moment, output_option, structured, table

if TYPE_CHECKING:
    from safepy.core.why import Why


@click.command(cls=Command, example="safekit why -m AM")
@output_option
def why(form: str) -> None:
    """Say why the module is in its state, what it waits for, and what to type.

    What was decided last is shown with its evidence; what the command would cost is said with it.
    """
    from safepy.core.why import sentences

    here = app()
    found: Why = here.call("why", here.module)
    if form != "text":
        import msgspec

        shown = msgspec.to_builtins(found)
        shown["since"] = iso(found.since)
        shown["story"] = [{"date": iso(at), "text": text} for at, text in found.story]
        structured(shown, form)
        return
    click.echo(f"Module {here.module}: {found.state} since {moment(found.since)}: {found.reason}")
    if found.story:
        click.echo("  what led to it")
        for line in table([(moment(at), text) for at, text in found.story], "    "):
            click.echo(line)
    parts = [("maintenance", text) for text in found.maintenance]
    parts += sentences(found) or (("waits for", "nothing"),)
    for line in table([*parts, *(("note", note) for note in found.notes)], "  "):
        click.echo(line)


@click.command(cls=Command, example="safekit plan swap -m AM")
@click.argument("action", type=click.Choice(PLANNED), metavar="ACTION")
@output_option
def plan(action: str, form: str) -> None:
    """Print what ACTION would do on this node now, script by script, and do nothing.

    ACTION is start, stop, stopstart, shutdown, restart, swap, prim, primforce or second.
    Every step is taken to go well; scripts are named with the arguments they would get.
    """
    here = app()
    steps: list[str] = here.call("plan", here.module, action=action)
    if form != "text":
        structured({"module": here.module, "action": action, "steps": steps}, form)
        return
    for number, sentence in enumerate(steps, 1):
        click.echo(f"{number:3d}  {sentence}")


COMMANDS: list[click.Command] = [why, plan]
