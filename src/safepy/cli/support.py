"""What support asks for: `safekit dump` and `safekit snapshot` (13.9, 16)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safepy.admin.names import check_path
from safepy.cli.context import Command, app, paths
from safepy.cli.output import output_option, structured
from safepy.errors import RequestRefused

if TYPE_CHECKING:
    from safepy.cli.dumps import Dump

Missing = list[tuple[str, str]]


def _folder(module: str) -> Path:
    return paths().safevar / "snapshot" / "modules" / module


def _collect() -> Dump:
    from safepy.cli.dumps import collect

    return collect(paths(), app().files)


def _tell_missing(missing: Missing) -> None:
    for name, reason in missing:
        click.echo(f"note: not in it: {name}: {reason}", err=True)


def _missing_object(missing: Missing) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in missing]


@click.command(cls=Command, example="safekit dump -m AM")
@output_option
def dump(form: str) -> None:
    """Save logs, resources, states and facts of this node for support.

    In a folder below SAFEVAR/snapshot, of which the last three stay; at most 16 MiB, within about a
    minute, without keys and passwords. Needs no daemon.
    """
    from safepy.cli.dumpfiles import keep, require_room

    module = app().files.name
    require_room(_folder(module))
    made = _collect()
    folder = keep(_folder(module), made)
    if form == "text":
        _tell_missing(made.missing)
        click.echo(folder)
        return
    structured(
        {
            "module": module,
            "folder": str(folder),
            "files": len(made.files),
            "bytes": made.size_bytes,
            "missing": _missing_object(made.missing),
        },
        form,
    )


@click.command(cls=Command, example="safekit snapshot -m AM /root/AM.zip")
@click.argument("file", metavar="/ABS/FILE.zip")
@output_option
def snapshot(file: str, form: str) -> None:
    """Make a dump, and a zip of the last three dumps and configurations.

    A new file, readable by root only and not encrypted; keys and passwords are taken out.
    """
    from safepy.cli import dumpfiles

    check_path(file)
    here = app().files
    dumpfiles.check_target(file)  # before a minute is spent
    made = _collect()
    missing: Missing = list(made.missing)
    try:
        dumpfiles.keep(_folder(here.name), made)
        written = dict[str, bytes]()
    except RequestRefused as refusal:  # the zip may lie on another disk
        missing.append(("the same in SAFEVAR", refusal.message))
        written = {f"dump_now/{name}": data for name, data in made.files.items()}
    dumps = dumpfiles.kept(_folder(here.name))[-dumpfiles.KEPT :]
    root = f"snapshot_{_node()}_{here.name}/{here.name}"

    def files() -> dumpfiles.Files:
        yield from written.items()
        for each in reversed(dumps):
            yield from dumpfiles.kept_files(each)
        yield from dumpfiles.configurations(paths(), here, missing)
        lines = [f"{name}: {reason}\n" for name, reason in missing]
        yield "missing.txt", ("".join(lines) or "nothing\n").encode("utf-8", "replace")

    size_bytes = dumpfiles.write_zip(file, root, files())
    if form == "text":
        _tell_missing(missing)
        click.echo(f"{file} ({max(1, size_bytes >> 10)} KiB): read it before you give it away")
        return
    structured(
        {
            "module": here.name,
            "file": file,
            "bytes": size_bytes,
            "dumps": [each.name for each in dumps],
            "missing": _missing_object(missing),
        },
        form,
    )


def _node() -> str:
    """The node's name as far as a file tells it, else the host's."""
    import platform

    from safepy.errors import SafekitError
    from safepy.storage.record import RecordFile

    try:
        name = RecordFile(str(app().files.record)).load().node
    except (SafekitError, OSError):
        name = ""
    return re.sub(r"[^\w.-]", "_", name or platform.node(), flags=re.ASCII)


COMMANDS: list[click.Command] = [dump, snapshot]
