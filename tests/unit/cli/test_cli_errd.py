"""`safekit errd list` and `safekit kill`: what they print, and what they refuse."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from fake_manager import FakeManager


def test_kill_prints_who_was_meant_and_names_its_caller(run: Any, daemon: FakeManager) -> None:
    done = run("kill", "-name=app", "-argregex=^/bin", "-level=test")
    assert (done.exit_code, done.stdout) == (0, "77 app /bin/app ?-x (parent=1)\n")
    assert daemon.caller == os.getpid()
    shown = json.loads(run("kill", "-name=app", "-level=15", "-o", "json").stdout)
    assert shown["processes"][0]["pid"] == 77


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-level=9"], "Missing option '-name'"),
        (["-name=app"], "Missing option '-level'"),
        (["-name=app", "-level=11"], "'11' is not one of 'test', 'terminate', '9', '15'"),
    ],
)
def test_kill_used_wrongly(run: Any, daemon: FakeManager, words: list[str], said: str) -> None:
    done = run("kill", *words)
    assert done.exit_code == 2 and said in done.stderr
    assert daemon.asked == []


@pytest.mark.parametrize("words", [["-name=", "-level=9"], ["-name=a", "-level=9", "-argregex=("]])
def test_kill_refuses_what_means_nothing(run: Any, daemon: FakeManager, words: list[str]) -> None:
    assert run("kill", *words).exit_code == 1
    assert daemon.asked == []


def test_errd_list_has_a_stable_table_and_stable_keys(run: Any, daemon: FakeManager) -> None:
    head, row = run("errd", "list", "-m", "demo").stdout.splitlines()
    assert head.split() == [
        *("NAME", "KIND", "CLASS", "ACTION", "ATLEAST", "ATMAX", "RUNNING", "WATCHED")
    ]
    assert row.split() == ["postgres", "process", "prim", "restart", "1", "-1", "7", "yes"]
    (shown,) = json.loads(run("errd", "list", "-m", "demo", "-o", "json").stdout)["processes"]
    assert set(shown) == {
        *("name", "checker_class", "action", "atleast", "running", "enabled", "atmax", "kind")
    }


def test_a_class_has_a_name(run: Any, daemon: FakeManager) -> None:
    done = run("errd", "enable", "a b", "-m", "demo")
    assert done.exit_code == 1 and "cannot be the name of a class" in done.stderr
