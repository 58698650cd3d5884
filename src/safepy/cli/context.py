"""What every command of `safekit` shares: `-m` anywhere, the folders, the daemon, confirmation.

Nothing here imports what a plain command can do without, and nothing in the command files
imports aiohttp, lxml, psutil or asyncio at its head: a command must answer within 150 ms
(dependencies 4.1). A test holds the list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from safepy.admin.limits import limit_s as limit_of
from safepy.admin.names import check_name
from safepy.config.paths import ModulePaths, Paths
from safepy.errors import RequestRefused

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def paths() -> Paths:
    """The folders of this node, from `SAFE` and `SAFEVAR`."""
    return Paths.from_environment(os.environ)


def _seconds(variable: str) -> float | None:
    text = os.environ.get(variable, "")
    return float(text) if re.fullmatch(r"\d{1,4}(\.\d+)?", text) else None


class App:
    """One run of the command. `named` is what `-m` said, empty when it was not given.

    `quiet_code` replaces the exit code of an error where 1 and 2 mean something else.
    """

    def __init__(self, argv: tuple[str, ...] = ()) -> None:
        self.argv = argv
        self.named = ""
        self.quiet_code: int | None = None

    def name_module(self, name: str) -> None:
        check_name(name)
        if self.named and self.named != name:
            raise click.UsageError(f"two modules are named: {self.named} and {name}")
        self.named = name

    @property
    def module_or_all(self) -> str:
        """What `-m` or `SAFEMODULE` names, or empty."""
        name = self.named or os.environ.get("SAFEMODULE", "")
        return check_name(name) if name else ""

    @property
    def module(self) -> str:
        name = self.module_or_all
        if not name:
            raise click.UsageError("no module is named: add -m AM or set SAFEMODULE")
        return name

    def for_the_node(self) -> None:
        """Refuse `-m` on a command that concerns the whole node: it would be ignored."""
        if self.named:
            raise click.UsageError("this command concerns the whole node: leave out -m")

    @property
    def files(self) -> ModulePaths:
        """The module's files, which can be read while the daemon is down.

        Raises RequestRefused if no such module is or was installed here.
        """
        files = paths().module(self.module)
        if not files.var.is_dir() and not files.source.is_dir():
            raise RequestRefused(
                f"no module is called {self.module}", "safekit module list shows the names"
            )
        return files

    def call(self, verb: str, module: str = "", **args: Any) -> Any:
        """Ask the daemon; the answer's type is in `admin.api.VERBS`."""
        return self.call_within(None, verb, module, **args)

    def call_within(self, limit_s: float | None, verb: str, module: str = "", **args: Any) -> Any:
        """The same; neither for the daemon nor for its answer is waited longer than `limit_s`.

        Raises DaemonAbsent then."""
        from safepy.admin.client import WAIT_S, Client

        wait_s, answer_s = _seconds("SAFEKIT_WAIT_S"), _seconds("SAFEKIT_ANSWER_S")
        wait_s = WAIT_S if wait_s is None else wait_s
        if limit_s is not None:
            wait_s = min(wait_s, limit_s)
            answer_s = min(answer_s or limit_of(verb), limit_s)
        client = Client(str(paths().control_socket), self.argv, wait_s, answer_s)
        return client.call(verb, module, **args)


def app() -> App:
    """Of the command that is running."""
    found = click.get_current_context().find_object(App)
    assert found is not None, "the root group makes it"
    return found


def _remember_module(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    if not ctx.resilient_parsing:
        for name in value:
            ctx.ensure_object(App).name_module(name)


def _complete_module(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of installed modules, from the folder: completion must not wait for a daemon."""
    from click.shell_completion import CompletionItem

    try:
        names = sorted(entry.name for entry in paths().modules.iterdir())
    except OSError:
        return []
    return [
        CompletionItem(name)
        for name in names
        if name.startswith(incomplete) and name != "lastconfig"
    ]


def _module_option() -> click.Option:
    return click.Option(
        ["-m", "--module", "named_module"],
        metavar="AM",
        multiple=True,  # only to notice a second, different name
        help="Name of the module (default: $SAFEMODULE).",
        expose_value=False,
        callback=_remember_module,
        shell_complete=_complete_module,
    )


class Command(click.Command):
    """A command that takes `-m AM` among its arguments, wherever it stands.

    `example` is one line as it is typed; its help ends with it.
    """

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.append(_module_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write(f"Example: {self.example}\n")


class Group(click.Group):
    """A group that takes `-m AM` too, and whose commands do."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_module_option())


Group.group_class = Group


def identity_option(function: F) -> F:
    """`-i NAME`: who asks; counts against maxloop (reference 13.1)."""
    return click.option(
        "-i",
        "--identity",
        default="",
        metavar="NAME",
        help="Who asks, for the log; counts as an automatic restart (maxloop).",
    )(function)


def yes_option(function: F) -> F:
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def notes(lines: list[str], form: str) -> None:
    """Remarks of the daemon that are no errors: beside the data, or as the answer itself."""
    if form != "text":
        from safepy.cli.output import structured

        structured({"notes": lines}, form)
        return
    for line in lines:
        click.echo(f"note: {line}", err=True)
