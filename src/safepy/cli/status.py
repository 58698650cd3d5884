"""Commands that look: state, level, generation record (13.3)."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

import click

from safepy import __version__
from safepy.cli.context import Command, app
from safepy.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from safepy.admin.values import ModuleInfo
    from safepy.cli.modulescript import ScriptOutput
    from safepy.model import Snapshot

#: Exit code of `state -q` when the state could not be had; 0 to 4 are states.
STATE_UNKNOWN_CODE = 10


@click.command(cls=Command, example="safekit state -m AM -v")
@click.option("-v", "--verbose", is_flag=True, help="Resources, lanes and record too.")
@click.option("-l", "terse", is_flag=True, help="Only the state, on one line.")
@click.option(
    "-q", "code", is_flag=True, help="Exit with 0 STOP, 1 WAIT, 2 ALONE or UP, 3 PRIM, 4 SECOND."
)
@output_option
def state(verbose: bool, terse: bool, code: bool, form: str) -> None:
    """Show the state of a module, or of all; with -v also what its script `state` prints."""
    here = app()
    if code:
        here.quiet_code = STATE_UNKNOWN_CODE
    module = here.module if code or terse else here.module_or_all
    found: list[Snapshot] = here.call("state", module)
    if terse:
        _print_terse(found[0], form)
    elif form != "text" or not code:
        _print(found, module, verbose, form)
    if code:
        from safepy.model import STATE_CODES

        click.get_current_context().exit(STATE_CODES[found[0].state])


def _print_terse(found: Snapshot, form: str) -> None:
    if form == "text":
        click.echo(f"{found.state} {found.status}")
        return
    structured(
        {"module": found.module, "state": str(found.state), "status": str(found.status)}, form
    )


def _print(found: list[Snapshot], module: str, verbose: bool, form: str) -> None:
    from safepy.cli.snapshots import snapshot_lines, snapshot_object

    script = _script("state") if verbose and module else None
    if form != "text":
        objects = [snapshot_object(snapshot) for snapshot in found]
        if not module:
            structured({"modules": objects}, form)
            return
        structured(objects[0] | ({"script": _script_object(script)} if verbose else {}), form)
        return
    blocks = ["\n".join(snapshot_lines(one, verbose, time.time())) for one in found]
    if not module:
        rows: list[ModuleInfo] = app().call("modules")
        blocks += [
            f"Module {row.module}\n  state  NOT CONFIGURED (safekit config -m {row.module})"
            for row in rows
            if not row.configured
        ]
    click.echo("\n\n".join(blocks) if blocks else "no module is installed")
    _print_script(script)


def _script(name: str) -> ScriptOutput | None:
    """What the module's own script of that name prints; None without one."""
    here = app()
    if not (here.files.bin / name).exists():
        return None
    from safepy.cli.modulescript import run_module_script

    return run_module_script(here, name)


def _script_object(found: ScriptOutput | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"output": found.output, "exit_code": found.exit_code}


def _print_script(found: ScriptOutput | None) -> None:
    if found is None:
        return
    click.echo(found.output, nl=not found.output.endswith("\n"))
    if found.exit_code is None:
        click.echo("note: the script was ended: it took too long, or printed too much", err=True)


@click.command(cls=Command, example="safekit level -m AM")
@output_option
def level(form: str) -> None:
    """Show host, system and version; with -m also what the module's script `level` prints."""
    shown: dict[str, Any] = {
        "host": platform.node(),
        "os": f"{platform.system()} {platform.release()}",
        "safekit": f"safepy {__version__}",
        "license": "none needed (Apache-2.0)",
    }
    script = _script("level") if app().module_or_all else None
    if form != "text":
        structured({**shown, "script": _script_object(script)}, form)
        return
    for title, key in (("Host", "host"), ("OS", "os"), ("SafeKit", "safekit")):
        click.echo(f"{title}: {shown[key]}")
    click.echo(f"License: {shown['license']}")
    _print_script(script)


@click.command(cls=Command, example="safekit record -m AM")
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


COMMANDS: list[click.Command] = [state, level, record]
