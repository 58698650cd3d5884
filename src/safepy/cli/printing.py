"""Lines that scripts write into the module log (13.3)."""

from __future__ import annotations

import click

from safepy.cli.context import Command, app


def _print(command: str, level: str, text: str) -> click.Command:
    @click.command(command, cls=Command, help=text, example=f'safekit {command} -m AM "a line"')
    @click.argument("text")
    def run(text: str) -> None:
        # A script may quote a file's name that is no text; the line must not be lost for it.
        clean = text.encode("utf-8", "backslashreplace").decode()
        here = app()
        here.call("print", here.module, level=level, text=clean)

    return run


COMMANDS: list[click.Command] = [
    _print("printi", "I", "Write an information into the module log."),
    _print("printw", "W", "Write a trace into the module log."),
    _print("printe", "E", "Write an event into the module log."),
]
