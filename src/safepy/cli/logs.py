"""The module log, the command log, and lines of scripts (13.3, 15).

The log is read from its file, so it can be read when the daemon is down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from safepy.admin.values import check_path
from safepy.cli.context import Command, app, not_yet, paths
from safepy.errors import LocalFault, RequestRefused

if TYPE_CHECKING:
    from safepy.storage.modulelog import Line

T = TypeVar("T")

_DEFAULT_LINES = 300
_MANY_LINES = 10_000_000
_FOLLOW_S = 0.3


def _from_file(path: str, read: Callable[[], list[T]]) -> list[T]:
    """What `read` finds in a log; what SQLite says about the file becomes a sentence about it."""
    import sqlite3

    try:
        return read()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # being made at this moment: nothing is in it yet
            return []
        raise LocalFault(f"the log {path} cannot be read: {error}") from error


def _read(path: str, count: int, verbose: bool, after: int = 0) -> list[Line]:
    from safepy.storage import modulelog

    levels = None if verbose else modulelog.NORMAL_LEVELS
    return _from_file(path, lambda: modulelog.read(path, count, levels, after))


def _language(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value != "en":
        not_yet(f"-l {value}")
    return value


def _language_option() -> click.Option:
    return click.Option(
        ["-l", "language"],
        type=click.Choice(["en", "fr", "ja"]),
        default="en",
        callback=_language,
        expose_value=False,
        hidden=True,
    )


class _LogCommand(Command):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_language_option())


def _show(name: str, text: str) -> click.Command:
    @click.command(name, cls=_LogCommand, help=text)
    @click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
    @click.option(
        "-s",
        "count",
        type=click.IntRange(0),
        default=_DEFAULT_LINES,
        metavar="N",
        show_default=True,
        help="The last N lines.",
    )
    @click.option("-A", "verbose", is_flag=True, help="All levels (I, W and D too).")
    def run(follow: bool, count: int, verbose: bool) -> None:
        path = str(app().files.log_db)
        last = 0
        for line in _read(path, count or (1 if follow else 0), verbose):
            last = line.number
            if count:
                click.echo(str(line))
        while follow:
            time.sleep(_FOLLOW_S)
            for line in _read(path, _MANY_LINES, verbose, last):
                last = line.number
                click.echo(str(line))

    return run


@click.command(cls=_LogCommand)
@click.option("-A", "verbose", is_flag=True, help="All levels (I, W and D too).")
@click.argument("file", metavar="/ABS/FILE")
def logsave(verbose: bool, file: str) -> None:
    """Save the log in a new file."""
    check_path(file)
    path = str(app().files.log_db)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    lines = _read(path, _MANY_LINES, verbose)
    try:
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError:
        raise RequestRefused(f"{file} exists already", "name a new file") from None
    except OSError as error:
        raise RequestRefused(f"{file} cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as target:
        target.writelines(f"{line}\n" for line in lines)


@click.command(cls=Command)
@click.option(
    "-s",
    "count",
    type=click.IntRange(1),
    default=_DEFAULT_LINES,
    metavar="N",
    show_default=True,
    help="The last N lines.",
)
def cmdlog(count: int) -> None:
    """Show the log of commands of this node."""
    from safepy.storage import modulelog

    app().for_the_node()
    path = str(paths().log_db)
    for line in _from_file(path, lambda: modulelog.read_commands(path, count)):
        click.echo(line)


def _print(command: str, level: str, text: str) -> click.Command:
    @click.command(command, cls=Command, help=text)
    @click.argument("text")
    def run(text: str) -> None:
        # A script may quote a file's name that is no text; the line must not be lost for it.
        clean = text.encode("utf-8", "backslashreplace").decode()
        here = app()
        here.call("print", here.module, level=level, text=clean)

    return run


COMMANDS: list[click.Command] = [
    _show("log", "Show the module log."),
    _show("logview", "Show the module log; with -f follow it."),
    logsave,
    cmdlog,
    _print("printi", "I", "Write an information into the module log."),
    _print("printw", "W", "Write a trace into the module log."),
    _print("printe", "E", "Write an event into the module log."),
]
