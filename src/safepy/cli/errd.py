"""The process checker and the processes it looks for: `safekit errd`, `safekit kill` (13.5)."""

from __future__ import annotations

import os

import click

from safepy.admin.watched import KilledProcess, WatchedProcess
from safepy.cli.context import Command, Group, app
from safepy.cli.output import output_option, structured, table
from safepy.cli.switches import switch


@click.group(cls=Group)
def errd() -> None:
    """The process and service checker."""


errd.add_command(switch("errd", True, "Watch the processes of the application."))
errd.add_command(switch("errd", False, "Do not watch them, for maintenance; holds until `on`."))


def _old_name(name: str, on: bool) -> click.Command:
    """As SafeKit called it before 8.2."""
    command = switch("errd", on, f"As `errd {'on' if on else 'off'}`.")
    command.name, command.hidden = name, True
    return command


errd.add_command(_old_name("resume", True))
errd.add_command(_old_name("suspend", False))


def _class(word: str, on: bool, text: str) -> click.Command:
    @click.command(word, cls=Command, help=text, example=f'safekit errd {word} "agent" -m AM')
    @click.argument("checker_class", metavar="CLASS")
    def run(checker_class: str) -> None:
        here = app()
        here.call("errd.class", here.module, checker_class=checker_class, on=on)

    return run


errd.add_command(_class("enable", True, "Watch the processes of one class."))
errd.add_command(_class("disable", False, "Do not watch the processes of one class."))


@errd.command("list", example="safekit errd list -m AM")
@output_option
def errd_list(form: str) -> None:
    """Show the watched processes and services, those of the product too."""
    here = app()
    rows: list[WatchedProcess] = here.call("errd.list", here.module)
    if form != "text":
        import msgspec

        structured({"processes": msgspec.to_builtins(rows)}, form)
        return
    cells = [("NAME", "KIND", "CLASS", "ACTION", "ATLEAST", "ATMAX", "RUNNING", "WATCHED")]
    cells += [
        (
            row.name,
            row.kind,
            row.checker_class,
            row.action,
            str(row.atleast),
            str(row.atmax),
            str(row.running),
            "yes" if row.enabled else "no",
        )
        for row in rows
    ]
    for line in table(cells):
        click.echo(line)


@click.command(
    cls=Command, example='safekit kill -name="oracle" -argregex="db1" -level="terminate"'
)
@click.option("-name", "name", required=True, metavar="NAME", help="As <proc name>.")
@click.option(
    "-argregex", "argregex", default="", metavar="ERE", help="Found in the whole command line."
)
@click.option(
    "-level",
    "level",
    required=True,
    type=click.Choice(["test", "terminate", "9", "15"]),
    help="test: only list; terminate: signal 15, and 9 for what lives after 5 seconds; a signal.",
)
@output_option
def kill(name: str, argregex: str, level: str, form: str) -> None:
    """List or end processes by name and arguments; prints those that were meant.

    Never init, safeadmin and its own processes, nor the script that calls this. Exit code 0 also
    when there is none; 1 when one cannot be ended.
    """
    here = app()
    rows: list[KilledProcess] = here.call(
        "kill", here.module_or_all, name=name, argregex=argregex, level=level, caller=os.getpid()
    )
    if form != "text":
        import msgspec

        structured({"processes": msgspec.to_builtins(rows)}, form)
        return
    for row in rows:
        text = f"{row.pid} {row.name} {row.command} (parent={row.parent})"
        click.echo("".join(sign if sign.isprintable() else "?" for sign in text))


COMMANDS: list[click.Command] = [errd, kill]
