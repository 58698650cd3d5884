"""The scripts `state` and `level` of a module cannot hold the command that asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from safepy.cli import modulescript
from safepy.cli.context import App
from safepy.cli.modulescript import run_module_script
from safepy.errors import ScriptError


@pytest.fixture
def here(safe: Path) -> App:
    (safe / "safe/private/modules/demo/bin").mkdir(parents=True)
    app = App()
    app.name_module("demo")
    return app


def script(safe: Path, text: str, mode: int = 0o755) -> None:
    path = safe / "safe/private/modules/demo/bin/state"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


def test_without_a_script_nothing_is_said(here: App) -> None:
    assert run_module_script(here, "state") is None


def test_output_and_exit_code(here: App, safe: Path) -> None:
    script(safe, 'echo "$SAFEMODULE"; echo wrong >&2; exit 4')
    found = run_module_script(here, "state")
    assert found is not None and (found.output, found.exit_code) == ("demo\nwrong\n", 4)


@pytest.mark.parametrize(
    "text",
    ["echo begun; sleep 60", "echo begun; sleep 60 & exec 1>&- 2>&-; sleep 60"],
    ids=["hangs", "closes its output"],
)
def test_a_script_that_hangs_is_ended_with_what_it_started(
    here: App, safe: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(modulescript, "LIMIT_S", 0.5)
    script(safe, text)
    found = run_module_script(here, "state")
    assert found is not None and (found.output, found.exit_code) == ("begun\n", None)


def test_endless_output_is_cut(here: App, safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modulescript, "OUTPUT_BYTES_MAX", 10_000)
    script(safe, "exec yes")
    found = run_module_script(here, "state")
    assert found is not None and (len(found.output), found.exit_code) == (10_000, None)


def test_a_script_that_others_may_write_is_not_run(here: App, safe: Path) -> None:
    script(safe, "echo bad", 0o777)
    with pytest.raises(ScriptError):
        run_module_script(here, "state")
