"""What is switched on and off, and the counter of restarts (13.5)."""

from __future__ import annotations

import click

from safepy.admin.values import LoopState, ModuleInfo
from safepy.cli.context import Command, Group, app, identity_option
from safepy.cli.output import output_option, structured, table
from safepy.cli.unsupported import refused
from safepy.errors import RequestRefused


def switch(verb: str, on: bool, text: str) -> click.Command:
    word = "on" if on else "off"

    @click.command(word, cls=Command, help=text, example=f"safekit {verb} {word} -m AM")
    def run() -> None:
        here = app()
        here.call(verb, here.module, on=on)

    return run


@click.group(cls=Group)
def failover() -> None:
    """Automatic take-over."""


failover.add_command(switch("failover", True, "This node takes over when the primary is lost."))
failover.add_command(switch("failover", False, "This node does not take over by itself."))


@click.group(cls=Group)
def boot() -> None:
    """Start of modules when the machine starts."""


boot.add_command(switch("boot", True, "Start the module at boot."))
boot.add_command(switch("boot", False, "Do not start the module at boot."))
for _form in ("webon", "weboff", "webstatus", "snmpon", "snmpoff", "snmpstatus"):
    boot.add_command(refused(f"boot {_form}"))


@boot.command("status", example="safekit boot status")
@output_option
def boot_status(form: str) -> None:
    """Show on or off for each module."""
    here = app()
    wanted = here.module_or_all
    rows: list[ModuleInfo] = here.call("modules")
    if wanted and all(row.module != wanted for row in rows):
        raise RequestRefused(f"no module is called {wanted}", "safekit module list")
    found = {row.module: row.boot for row in rows if wanted in ("", row.module)}
    if form != "text":
        structured(found, form)
        return
    for line in table(list(found.items())):
        click.echo(line)


@click.group(cls=Group)
def checker() -> None:
    """The checks of the module: tcp, ping, custom and so on."""


checker.add_command(switch("checker", True, "Test what the module depends on."))
checker.add_command(switch("checker", False, "Test nothing, for maintenance."))


def _loop(command: str, change: str, text: str) -> click.Command:
    @click.command(command, cls=Command, help=text, example=f"safekit {command} -m AM -i errd")
    @identity_option
    @output_option
    def run(identity: str, form: str) -> None:
        here = app()
        counted: LoopState = here.call("loop", here.module, change=change, identity=identity)
        if form != "text":
            structured(
                {"count": counted.count, "limit": counted.limit, "reached": counted.reached}, form
            )
        elif change != "reset":
            click.echo(f"{counted.count} of {counted.limit}")
        if change != "reset":
            click.get_current_context().exit(1 if counted.reached else 0)

    return run


COMMANDS: list[click.Command] = [
    failover,
    boot,
    checker,
    _loop("incloop", "inc", "Count one more restart; fails when the limit is reached."),
    _loop("resetloop", "reset", "Forget the counted restarts."),
    _loop("checkloop", "check", "Fail when the limit of restarts is reached."),
]
