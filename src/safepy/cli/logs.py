"""The module log and the command log (13.3, 15).

Both are read from their files, so they can be read when the daemon is down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from safepy.admin.names import check_path
from safepy.cli.context import Command, app, paths
from safepy.cli.dates import Moment
from safepy.cli.output import iso, output_option, structured
from safepy.cli.unsupported import not_yet
from safepy.errors import LocalFault, RequestRefused

if TYPE_CHECKING:
    from safepy.storage.modulelog import CommandLine, Filter, Line

T = TypeVar("T")

_DEFAULT_LINES = 300
_MANY_LINES = 10_000_000
_FOLLOW_S = 0.3
LEVELS = "UCESIWD"


def _from_file(path: str, read: Callable[[], list[T]]) -> list[T]:
    """What `read` finds in a log; what SQLite says about the file becomes a sentence about it."""
    import sqlite3

    try:
        return read()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # being made at this moment: nothing is in it yet
            return []
        raise LocalFault(f"the log {path} cannot be read: {error}") from error


def _read(path: str, count: int, wanted: Filter, after: int = 0) -> list[Line]:
    from safepy.storage import modulelog

    return _from_file(path, lambda: modulelog.read(path, count, wanted, after))


def _levels(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if set(value.upper()) - set(LEVELS):
        raise click.BadParameter(f"levels are letters of {LEVELS}")
    return value.upper()


def _language(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value != "en":
        not_yet(f"-l {value}", "the log is in English")
    return value


def _time_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--since"],
            type=Moment(),
            metavar="WHEN",
            help="Not before: a date, or how long ago (90s, 10m, 2h, 3d).",
        ),
        click.Option(["--until"], type=Moment(), metavar="WHEN", help="Not after."),
        click.Option(
            ["--grep", "text"],
            default="",
            metavar="TEXT",
            help="Only lines with this text, in capitals or not.",
        ),
    ]


class _LogCommand(Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-A", "verbose"], is_flag=True, help="All levels (I, W and D too)."),
            click.Option(
                ["--level", "levels"],
                default="",
                metavar="LETTERS",
                callback=_levels,
                help="Only these levels, such as CE.",
            ),
            *_time_options(),
            click.Option(
                ["-l", "language"],
                type=click.Choice(["en", "fr", "ja"]),
                default="en",
                callback=_language,
                expose_value=False,
                hidden=True,
            ),
        ]


def _wanted(
    verbose: bool, levels: str, since: float | None, until: float | None, text: str
) -> Filter:
    from safepy.storage.modulelog import NORMAL_LEVELS, Filter

    chosen = tuple(levels) or (None if verbose else tuple(str(each) for each in NORMAL_LEVELS))
    return Filter(chosen, since, until, text)


def _line_object(line: Line) -> dict[str, object]:
    return {
        "number": line.number,
        "date": iso(line.time_s),
        "date_unix_s": line.time_s,
        "origin": line.origin,
        "level": line.level,
        "message": line.text,
    }


def _show(name: str, text: str, example: str, always: bool = False) -> click.Command:
    @click.command(name, cls=_LogCommand, help=text, example=example)
    @click.option(
        "-f",
        "--follow",
        is_flag=True,
        default=always,
        hidden=always,
        help="Go on as lines come, until Ctrl-C.",
    )
    @click.option(
        "-s",
        "count",
        type=click.IntRange(0),
        default=_DEFAULT_LINES,
        metavar="N",
        show_default=True,
        help="The last N lines.",
    )
    @output_option
    def run(follow: bool, count: int, form: str, **choice: Any) -> None:
        path = str(app().files.log_db)
        wanted = _wanted(**choice)
        found = _read(path, count or (1 if follow else 0), wanted)
        last = found[-1].number if found else 0
        shown = found if count else []
        if form != "text" and not follow:
            structured({"lines": [_line_object(line) for line in shown]}, form)
            return
        _print_lines(shown, form)
        while follow:
            time.sleep(_FOLLOW_S)
            new = _read(path, _MANY_LINES, wanted, last)
            _print_lines(new, form)
            last = new[-1].number if new else last

    return run


def _print_lines(lines: list[Line], form: str) -> None:
    """As they come: with `-o json` one object a line."""
    for line in lines:
        if form == "text":
            click.echo(str(line))
        elif form == "json":
            import json

            click.echo(json.dumps(_line_object(line), ensure_ascii=False))
        else:
            click.echo("---")
            structured(_line_object(line), form)


@click.command(cls=_LogCommand, example="safekit logsave -m AM -A /root/AM.log")
@click.argument("file", metavar="/ABS/FILE")
def logsave(file: str, **choice: Any) -> None:
    """Save the log in a new file."""
    check_path(file)
    path = str(app().files.log_db)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    lines = _read(path, _MANY_LINES, _wanted(**choice))
    try:
        descriptor = os.open(file, flags, 0o600)
    except FileExistsError:
        raise RequestRefused(f"{file} exists already", "name a new file") from None
    except OSError as error:
        raise RequestRefused(f"{file} cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as target:
        target.writelines(f"{line}\n" for line in lines)


class _CommandLogCommand(Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _time_options()


@click.command(cls=_CommandLogCommand, example="safekit cmdlog --since 1d --grep prim")
@click.option(
    "-s",
    "count",
    type=click.IntRange(1),
    default=_DEFAULT_LINES,
    metavar="N",
    show_default=True,
    help="The last N lines.",
)
@output_option
def cmdlog(count: int, form: str, since: float | None, until: float | None, text: str) -> None:
    """Show the log of commands of this node: who changed what, from where, and how it ended."""
    from safepy.storage import modulelog

    app().for_the_node()
    path = str(paths().log_db)
    wanted = modulelog.Filter(None, since, until, text)
    lines = _from_file(path, lambda: modulelog.read_commands(path, count, wanted))
    if form != "text":
        structured({"lines": [_command_object(line) for line in lines]}, form)
        return
    for line in lines:
        click.echo(str(line))


def _command_object(line: CommandLine) -> dict[str, object]:
    return {
        "date": iso(line.time_s),
        "date_unix_s": line.time_s,
        "type": line.origin,
        "module": line.module,
        "pid": line.pid,
        "mark": line.mark,
        "message": line.text,
    }


COMMANDS: list[click.Command] = [
    _show("log", "Show the module log.", "safekit log -m AM --since 2h --level CE"),
    _show("logview", "Follow the module log, until Ctrl-C.", "safekit logview -m AM -A", True),
    logsave,
    cmdlog,
]
