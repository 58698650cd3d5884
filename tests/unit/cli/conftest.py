"""A `safekit` whose daemon is a fake one, in this process and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "admin"))

from fake_manager import FakeManager, serving  # noqa: E402

from safepy.cli.main import safekit  # noqa: E402

Run = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds SAFE and SAFEVAR of this test."""
    monkeypatch.setenv("SAFE", str(tmp_path / "safe"))
    monkeypatch.setenv("SAFEVAR", str(tmp_path / "var"))
    monkeypatch.setenv("SAFEKIT_WAIT_S", "0.1")
    monkeypatch.delenv("SAFEMODULE", raising=False)
    monkeypatch.delenv("SSH_CLIENT", raising=False)
    (tmp_path / "var").mkdir()
    for module in ("demo", "other"):
        (tmp_path / "safe" / "modules" / module).mkdir(parents=True)
        (tmp_path / "var" / "modules" / module).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager()


@pytest.fixture
def daemon(safe: Path, manager: FakeManager) -> Iterator[FakeManager]:
    with serving(manager, str(safe / "var" / "run" / "safeadmin.sock")):
        yield manager


@pytest.fixture
def run(safe: Path) -> Run:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(safekit, list(words))

    return invoke


@pytest.fixture
def process(safe: Path) -> Process:
    source = str(TESTS.parents[1] / "src")

    def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "safepy", *words],
            env=os.environ | {"PYTHONPATH": source} | environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return start
