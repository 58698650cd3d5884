"""The command `safekit`: its subcommands, its exit codes, and one clear line for any error.

Exit codes: 0 success; 1 refused or failed; 2 wrong usage; 130 interrupted; `state -q` ends
with 0 to 4 for the state and 10 when there is none to tell; `checkloop` and `incloop` end
with 1 when the limit is reached.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from safepy import __version__
from safepy.cli import cluster, configure, control, inspect, logs, rfssync, status, unsupported
from safepy.cli.context import App, Group, not_yet
from safepy.errors import SafekitError

_INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


class Root(Group):
    """Turns every way to fail into one line on standard error and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = tuple(sys.argv[1:] if args is None else args)
        here = App(argv=words)
        extra.setdefault("obj", here)
        try:
            code = super().main(list(words), prog_name or "safekit", complete_var, False, **extra)
        except BrokenPipeError:
            _silence_output()
            code = 1
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last border
            code = _explain(error)
            if here.quiet_code is not None and code != _INTERRUPTED:
                code = here.quiet_code
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: BaseException) -> int:
    """Say it in one line; the exit code."""
    match error:
        case click.Abort() | KeyboardInterrupt():
            return _INTERRUPTED
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "safekit"
            _complain(error.format_message().rstrip("."), f"{path} --help")
            return error.exit_code
        case click.ClickException():
            _complain(error.format_message())
            return error.exit_code
        case SafekitError():
            _complain(error.message, error.hint)
            return error.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            _complain(f"{where}{error.strerror or error}")
            return 1
        case _:
            if os.environ.get("SAFEKIT_DEBUG"):
                import traceback

                traceback.print_exception(error)
            _complain(
                f"internal error: {type(error).__name__}: {error}",
                "SAFEKIT_DEBUG=1 shows where; please report it",
            )
            return 1


def _complain(message: str, hint: str = "") -> None:
    text = f"safekit: error: {message} ({hint})" if hint else f"safekit: error: {message}"
    line = "".join(char if char.isprintable() else " " for char in text.replace("\n", " "))
    click.echo(line, err=True)


def _silence_output() -> None:
    """The reader of our output is gone; let the interpreter end without a second complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse_option(_ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value:
        not_yet(f"safekit {param.opts[0]}")


def _unsupported(flag: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(
        flag,
        f"option_{flag[1:]}",
        hidden=True,
        expose_value=False,
        callback=_refuse_option,
        is_eager=True,
        **attributes,
    )


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-p", "environment", is_flag=True, help="Print the environment and end.")
@_unsupported("-H", metavar="HOSTS")
@_unsupported("-E", metavar="AM")
@_unsupported("-G", is_flag=True)
@_unsupported("-r", metavar="COMMAND")
@click.version_option(__version__, prog_name="safekit")
@click.pass_context
def safekit(ctx: click.Context, environment: bool) -> None:
    """High availability of an application on two Linux servers."""
    if environment:
        status.print_environment()
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        raise click.exceptions.NoArgsIsHelpError(ctx)


for _part in (control, status, inspect, configure, cluster, logs, rfssync, unsupported):
    for _command in _part.COMMANDS:
        safekit.add_command(_command)


def main() -> NoReturn:
    """Entry point of the command."""
    safekit()
    raise AssertionError("the root group ends the process")
