"""Which file of this package holds which command, so that only that one is loaded.

A command that is added gets its line here; a test compares the table with the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click

#: Name of the command -> module of this package, in whose COMMANDS it stands.
WHERE: dict[str, str] = {
    "boot": "switches",
    "checker": "switches",
    "checkloop": "switches",
    "clean": "control",
    "cluster": "cluster",
    "cmdlog": "logs",
    "confcheck": "configure",
    "config": "configure",
    "confinfo": "configure",
    "deconfig": "configure",
    "dump": "support",
    "errd": "errd",
    "failover": "switches",
    "forcestop": "control",
    "get": "resources",
    "incloop": "switches",
    "kill": "errd",
    "level": "status",
    "log": "logs",
    "logsave": "logs",
    "logview": "logs",
    "maintenance": "maintain",
    "module": "configure",
    "plan": "explain",
    "prim": "control",
    "primforce": "control",
    "printe": "printing",
    "printi": "printing",
    "printw": "printing",
    "record": "status",
    "resetloop": "switches",
    "resource": "resources",
    "restart": "control",
    "rfsdiff": "inspect",
    "rfssync": "rfssync",
    "rfsverify": "inspect",
    "second": "control",
    "secondforce": "rfssync",
    "set": "resources",
    "shutdown": "control",
    "snapshot": "support",
    "start": "control",
    "state": "status",
    "stop": "control",
    "stopstart": "control",
    "swap": "control",
    "update": "maintain",
    "waitstart": "waiting",
    "waitstate": "waiting",
    "waitstop": "waiting",
    "why": "explain",
}


def load(name: str) -> click.Command | None:
    """The command of that name, or None."""
    from safepy.cli.unsupported import REASONS, refused

    if name in REASONS:
        return refused(name)
    where = WHERE.get(name)
    if where is None:
        return None
    part = import_module(f"safepy.cli.{where}")
    commands: list[click.Command] = part.COMMANDS
    return next(command for command in commands if command.name == name)


def every() -> Iterator[tuple[str, click.Command]]:
    """All commands that are carried out, with their names as they are typed ("boot on")."""
    for name in sorted(WHERE):
        command = load(name)
        assert command is not None, name
        yield from _below(name, command)


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for word in sorted(command.commands):
        if not command.commands[word].hidden:
            yield from _below(f"{name} {word}", command.commands[word])
