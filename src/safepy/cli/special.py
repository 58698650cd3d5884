"""`safekit -p` and `safekit -r`: the environment, and programs of SAFEBIN with it (11.2, 13.3)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

import click

from safepy.cli.context import App, app, paths
from safepy.cli.output import structured
from safepy.errors import RequestRefused

_USAGE = "safekit -r NAME [ARGUMENTS]"


def environment(here: App) -> dict[str, str]:
    """The variables of the reference 3.1 and 3.2; those of a module if one is named."""
    node = paths()
    found = {"SAFE": node.safe, "SAFEVAR": node.safevar, "SAFEBIN": node.safebin}
    name = here.module_or_all
    if not name:
        return {key: os.fspath(value) for key, value in found.items()}
    files = node.module(name)
    found |= {"SAFEUSERBIN": files.bin, "SAFEUSERCONF": files.conf, "SAFEUSERVAR": files.var}
    return {"SAFEMODULE": name} | {key: os.fspath(value) for key, value in found.items()}


def print_environment(form: str) -> None:
    """NAME="value" lines."""
    shown = environment(app())
    if form != "text":
        structured(shown, form)
        return
    for name, value in shown.items():
        click.echo(f'{name}="{value}"')


def run(words: Sequence[str]) -> NoReturn:
    """Become the program SAFEBIN/NAME, with the environment set. Raises RequestRefused."""
    if not words:
        raise click.UsageError(f"-r needs a program: {_USAGE}")
    name, folder = words[0], paths().safebin
    program = folder / name
    if "/" in name or name.startswith(".") or not os.access(program, os.X_OK):
        known = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        raise RequestRefused(
            f"safekit -r {name} is not supported: there is no such program in {folder}",
            f"there are: {', '.join(known) or 'none'}",
        )
    os.execve(program, [os.fspath(program), *words[1:]], {**os.environ, **environment(App())})
