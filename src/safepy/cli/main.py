"""The command `safekit`: its subcommands, its exit codes, and one clear line for any error.

Exit codes: 0 success; 1 refused or failed; 2 wrong usage; 3 data would be lost, and nobody
agreed to it (`cli.consent`); 130 interrupted; `state -q` ends with 0 to 4 for the state and 10
when there is none to tell; `checkloop` and `incloop` end with 1 when the limit is reached.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from safepy import __version__
from safepy.cli.context import App, Group
from safepy.cli.output import output_option
from safepy.cli.table import WHERE, load
from safepy.errors import SafekitError

_INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


class Root(Group):
    """Loads one command only, and turns every way to fail into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What each command does in a whole sentence, not cut off."""
        rows = [(name, load(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(400)) for name, command in rows if command]
            )

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
        code: Any
        try:
            if words[:1] == ("-r",):
                from safepy.cli.special import run

                run(words[1:])
            name = prog_name or "safekit"
            code = super().main(list(words), name, complete_var, False, **extra)
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
        from safepy.cli.unsupported import OPTIONS, not_yet

        flag = param.opts[0]
        not_yet(f"safekit {flag}", OPTIONS[flag])


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
@output_option
@click.option(
    "-r",
    "special",
    is_flag=True,
    help="Run a program of SAFEBIN: safekit -r NAME [ARGUMENTS]; stands first.",
)
@_unsupported("-H", metavar="HOSTS")
@_unsupported("-E", metavar="AM")
@_unsupported("-G", is_flag=True)
@click.version_option(__version__, prog_name="safekit")
@click.pass_context
def safekit(ctx: click.Context, environment: bool, form: str, special: bool) -> None:
    """High availability of an application on two Linux servers."""
    if special:
        raise click.UsageError("-r stands first: safekit -r NAME [ARGUMENTS]")
    if environment:
        from safepy.cli.special import print_environment

        print_environment(form)
        ctx.exit(0)
    if form != "text":
        raise click.UsageError("-o belongs behind the command")
    if ctx.invoked_subcommand is None:
        raise click.exceptions.NoArgsIsHelpError(ctx)


def main() -> NoReturn:
    """Entry point of the command."""
    safekit()
    raise AssertionError("the root group ends the process")
