"""Every command has its help, an example that parses, a place in the manual, and is completed."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from safepy.cli.context import App
from safepy.cli.main import safekit
from safepy.cli.table import WHERE, every

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = dict(every())


def parsed(typed: str) -> tuple[str, click.Context]:
    """The name of the command that `typed` means, and its arguments. Raises click.UsageError."""
    program, *words = shlex.split(typed)
    assert program == "safekit"
    command: click.Command = safekit
    context = safekit.make_context("safekit", words, obj=App(tuple(words)))
    names: list[str] = []
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert name is not None and found is not None
        names.append(name)
        context = found.make_context(name, rest, parent=context)
        command = found
    return " ".join(names), context


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_with_an_example_that_parses(
    run: Any, safe: Path, name: str
) -> None:
    command = COMMANDS[name]
    assert command.help and len(command.help) > 10
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            plain = option.help or option.opts[0] in ("-r", "-v")
            assert plain, f"{name} {option.opts[0]} is not explained"
    shown = run(*name.split(), "--help")
    example = command.example  # type: ignore[attr-defined]
    assert shown.exit_code == 0 and shown.stdout.rstrip().endswith(f"Example: {example}")
    meant, context = parsed(example)
    assert meant == name
    assert context.find_object(App) is not None


def test_the_table_and_the_files_agree() -> None:
    found = {}
    for part in sorted(set(WHERE.values())):
        for command in import_module(f"safepy.cli.{part}").COMMANDS:
            found[command.name] = part
    assert found == WHERE


def test_the_general_help_lists_all_commands(run: Any) -> None:
    shown = run("--help").stdout
    for name in WHERE:
        assert f"\n  {name} " in shown, name
    assert "...\n" not in shown.partition("Commands:")[2], "no sentence is cut off"


def manual() -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "man-page")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout


def test_the_manual_has_every_command_and_is_well_formed() -> None:
    page = manual()
    assert page.startswith(".TH SAFEKIT 1 ")
    for name, command in COMMANDS.items():
        assert f'.SS "safekit {name}'.replace("-", "\\-") in page
        assert command.example.replace("-", "\\-") in page  # type: ignore[attr-defined]
    macros = {line.split()[0] for line in page.splitlines() if line.startswith(".")}
    assert macros <= {
        ".TH", ".SH", ".SS", ".TP", ".PP", ".RS", ".RE", ".B", ".I", ".BI", ".BR", ".RB", ".RI",
        ".IR",
    }  # fmt: skip
    assert not [line for line in page.splitlines() if line.startswith("'")]


def completed(process: Any, words: str, count: int) -> list[str]:
    done = process(_SAFEKIT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count))
    return [line.split(",", 1)[1] for line in done.stdout.split()]


def test_commands_modules_states_and_options_are_completed(process: Any) -> None:
    assert completed(process, "safekit wait", 1) == ["waitstart", "waitstate", "waitstop"]
    assert completed(process, "safekit boot ", 2) == ["off", "on", "status"]
    assert completed(process, "safekit stop -m ", 3) == ["demo", "other"]
    assert completed(process, "safekit -m o", 2) == ["other"]
    assert completed(process, "safekit waitstate P", 2) == ["PRIM"]
    assert completed(process, "safekit waitstate ", 2)[:2] == ["STOP", "WAIT"]
    assert completed(process, "safekit state -o ", 3) == ["text", "json", "yaml"]
    assert "--yes" in completed(process, "safekit prim -", 2)


def test_bash_completes_with_what_is_installed(process: Any, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(process(_SAFEKIT_COMPLETE="bash_source").stdout)
    program = tmp_path / "safekit"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT / "src"} exec {sys.executable} -m safepy "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            f". {script}; COMP_WORDS=(safekit start -m d); COMP_CWORD=3; "
            '_safekit_completion safekit; echo "${COMPREPLY[@]}"',
        ],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "demo\n", done.stderr


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef safekit"), ("fish", "complete --no-files --command")]
)
def test_other_shells_have_their_script(process: Any, shell: str, mark: str) -> None:
    done = process(_SAFEKIT_COMPLETE=f"{shell}_source")
    assert done.returncode == 0 and mark in done.stdout
    # And what that script asks for is answered.
    asked = {"COMP_WORDS": "safekit stop -m d", "COMP_CWORD": "3" if shell == "zsh" else "d"}
    asked |= {"COMP_WORDS": "safekit stop -m"} if shell == "fish" else {}
    done = process(_SAFEKIT_COMPLETE=f"{shell}_complete", **asked)
    assert "demo" in done.stdout and "other" not in done.stdout, done
