"""Commands of SafeKit that this version has not: refused by name, so nobody is surprised."""

from __future__ import annotations

import click

from safepy.cli.context import not_yet

_NAMES = (
    "update",
    "webserver",
    "webservercfg",
    "safeagent",
    "notification",
    "checker",
    "kill",
    "clean",
    "uninstall",
    "dump",
    "snapshot",
)


def _refused(name: str) -> click.Command:
    @click.command(
        name,
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def run() -> None:
        not_yet(f"safekit {name}")

    return run


COMMANDS: list[click.Command] = [_refused(name) for name in _NAMES]
