"""Commands that look: state, resources, environment, generation record (13.2, 13.3)."""

from __future__ import annotations

import os
import platform
import time

import click

from safepy import __version__
from safepy.admin.values import LoopState, ModuleInfo, WatchedProcess
from safepy.cli.context import Command, Group, app, identity_option, paths
from safepy.cli.output import (
    output_option,
    snapshot_lines,
    snapshot_object,
    structured,
    table,
)
from safepy.errors import RequestRefused
from safepy.model import STATE_CODES, Snapshot

#: Exit code of `state -q` when the state could not be had; 0 to 4 are states.
STATE_UNKNOWN_CODE = 10


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Resources, lanes and record too.")
@click.option("-l", "terse", is_flag=True, help="Only the state, on one line.")
@click.option(
    "-q", "code", is_flag=True, help="Exit with 0 STOP, 1 WAIT, 2 ALONE, 3 PRIM, 4 SECOND."
)
@output_option
def state(verbose: bool, terse: bool, code: bool, form: str) -> None:
    """Show the state of a module, or of all."""
    here = app()
    if code:
        here.quiet_code = STATE_UNKNOWN_CODE
    module = here.module if code or terse else here.module_or_all
    found: list[Snapshot] = here.call("state", module)
    if terse:
        click.echo(f"{found[0].state} {found[0].status}")
    elif form != "text":
        objects = [snapshot_object(snapshot) for snapshot in found]
        structured(objects[0] if module else {"modules": objects}, form)
    elif not code:
        _print_blocks(found, module, verbose)
    if code:
        click.get_current_context().exit(STATE_CODES[found[0].state])


def _print_blocks(found: list[Snapshot], module: str, verbose: bool) -> None:
    blocks = ["\n".join(snapshot_lines(one, verbose, time.time())) for one in found]
    if not module:
        rows: list[ModuleInfo] = app().call("modules")
        blocks += [
            f"Module {row.module}\n  state  NOT CONFIGURED (safekit config -m {row.module})"
            for row in rows
            if not row.configured
        ]
    click.echo("\n\n".join(blocks) if blocks else "no module is installed")


@click.command(cls=Command)
@click.option("-r", "resource", required=True, metavar="CLASS.ID")
def get(resource: str) -> None:
    """Print the value of a resource."""
    here = app()
    click.echo(here.call("resource.get", here.module, name=resource))


@click.command("set", cls=Command)
@click.option("-r", "resource", required=True, metavar="CLASS.ID")
@click.option("-v", "value", required=True)
@click.option("-n", "silent", is_flag=True, help="Not in the history.")
@click.option("-l", "always", is_flag=True, help="In the history even if unchanged.")
@identity_option
def set_(resource: str, value: str, silent: bool, always: bool, identity: str) -> None:
    """Give a resource a value."""
    if silent and always:
        raise click.UsageError("-n and -l exclude each other")
    log = False if silent else True if always else None
    here = app()
    here.call("resource.set", here.module, name=resource, value=value, identity=identity, log=log)


def _switch(verb: str, on: bool, text: str) -> click.Command:
    @click.command("on" if on else "off", cls=Command, help=text)
    def run() -> None:
        here = app()
        here.call(verb, here.module, on=on)

    return run


@click.group(cls=Group)
def failover() -> None:
    """Automatic take-over."""


failover.add_command(_switch("failover", True, "This node takes over when the primary is lost."))
failover.add_command(_switch("failover", False, "This node does not take over by itself."))


@click.group(cls=Group)
def boot() -> None:
    """Start of modules when the machine starts."""


boot.add_command(_switch("boot", True, "Start the module at boot."))
boot.add_command(_switch("boot", False, "Do not start the module at boot."))


@boot.command("status")
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
def errd() -> None:
    """The process checker."""


errd.add_command(_switch("errd", True, "Watch the processes of the application."))
errd.add_command(_switch("errd", False, "Do not watch them, for maintenance."))


@errd.command("list")
@output_option
def errd_list(form: str) -> None:
    """Show the watched processes."""
    here = app()
    rows: list[WatchedProcess] = here.call("errd.list", here.module)
    if form != "text":
        import msgspec

        structured({"processes": msgspec.to_builtins(rows)}, form)
        return
    cells = [("NAME", "CLASS", "ACTION", "ATLEAST", "RUNNING", "WATCHED")]
    cells += [
        (
            row.name,
            row.checker_class,
            row.action,
            str(row.atleast),
            str(row.running),
            "yes" if row.enabled else "no",
        )
        for row in rows
    ]
    for line in table(cells):
        click.echo(line)


@click.command(cls=Command)
def level() -> None:
    """Show host, system and version."""
    click.echo(f"Host: {platform.node()}")
    click.echo(f"OS: {platform.system()} {platform.release()}")
    click.echo(f"SafeKit: safepy {__version__}")
    click.echo("License: none needed (Apache-2.0)")


@click.command(cls=Command)
@output_option
def record(form: str) -> None:
    """Show the generation record: what this node remembers of its data across power loss."""
    import msgspec

    from safepy.storage.record import RecordFile

    found = RecordFile(str(app().files.record)).load()
    shown = msgspec.to_builtins(found)
    shown["history"] = [list(pair) for pair in found.history]
    if form != "text":
        structured(shown, form)
        return
    from safepy.core.syncmode import policy_in_words

    history = shown.pop("history")
    shown["policy"] = policy_in_words(found.policy) or "default"
    rows = [(name, _plain(value)) for name, value in shown.items()]
    rows.append(("history", ", ".join(f"{epoch}:{gen}" for epoch, gen in history) or "-"))
    for line in table(rows):
        click.echo(line)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "-"


def _loop(command: str, change: str, text: str) -> click.Command:
    @click.command(command, cls=Command, help=text)
    @identity_option
    def run(identity: str) -> None:
        here = app()
        counted: LoopState = here.call("loop", here.module, change=change, identity=identity)
        if change != "reset":
            click.echo(f"{counted.count} of {counted.limit}")
            click.get_current_context().exit(1 if counted.reached else 0)

    return run


def print_environment() -> None:
    """`safekit -p`: NAME="value" lines (reference 3.1, 3.2)."""
    here = app()
    node = paths()
    lines = {"SAFE": node.safe, "SAFEVAR": node.safevar, "SAFEBIN": node.safebin}
    if here.module_or_all:
        files = node.module(here.module_or_all)
        click.echo(f'SAFEMODULE="{files.name}"')
        lines |= {"SAFEUSERBIN": files.bin, "SAFEUSERCONF": files.conf, "SAFEUSERVAR": files.var}
    for name, value in lines.items():
        click.echo(f'{name}="{os.fspath(value)}"')


COMMANDS: list[click.Command] = [
    state,
    get,
    set_,
    failover,
    boot,
    errd,
    level,
    record,
    _loop("incloop", "inc", "Count one more restart; fails when the limit is reached."),
    _loop("resetloop", "reset", "Forget the counted restarts."),
    _loop("checkloop", "check", "Fail when the limit of restarts is reached."),
]
