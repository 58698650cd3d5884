"""Nobody's data are given up without a word: the question, the refusal, `--yes`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_manager import READY, FakeManager

ROOT = Path(__file__).resolve().parents[3]
COST = "n2 has newer data: what it wrote is given up"
COSTLY = {
    "prim": ["prim"],
    "primforce": ["primforce"],
    "second": ["second"],
    "stop": ["stop"],
    "stopstart": ["stopstart"],
    "forcestop": ["forcestop"],
    "deconfig": ["deconfig"],
    "uninstall": ["module", "uninstall"],
}


def done_things(daemon: FakeManager) -> list[Any]:
    return [asked for asked in daemon.asked if asked[0] != "cost"]


@pytest.mark.parametrize(("action", "words"), COSTLY.items())
def test_a_script_that_says_nothing_is_refused_and_told_what_to_type(
    run: Any, daemon: FakeManager, action: str, words: list[str]
) -> None:
    daemon.costs[action] = COST
    refused = run(*words, "-m", "demo")
    assert refused.exit_code == 3 and refused.stdout == ""
    typed = " ".join(["safekit", *words, "-m", "demo", "--yes"])
    assert refused.stderr == (
        f"safekit: error: {COST}; nothing was done (if this is wanted, type: {typed})\n"
    )
    assert daemon.asked == [("cost", "demo", action)]
    assert run(*words, "-m", "demo", "--yes").exit_code == 0
    assert len(done_things(daemon)) == 1


@pytest.mark.parametrize(("action", "words"), COSTLY.items())
def test_where_nothing_would_be_lost_nobody_is_asked(
    run: Any, daemon: FakeManager, action: str, words: list[str]
) -> None:
    assert run(*words, "-m", "demo").exit_code == 0
    assert daemon.asked[0] == ("cost", "demo", action) and len(done_things(daemon)) == 1


def test_a_script_or_a_detector_that_stops_is_not_asked(run: Any, daemon: FakeManager) -> None:
    daemon.costs["stop"] = COST
    assert run("stop", "-i", "start_prim", "-m", "demo").exit_code == 0
    assert [asked[0] for asked in daemon.asked] == ["action"]


def test_shutdown_asks_once_for_all_modules_of_the_node(run: Any, daemon: FakeManager) -> None:
    daemon.states["other"] = [replace(READY, module="other")]
    assert run("shutdown").exit_code == 0
    daemon.costs["shutdown"] = COST
    before = daemon.asked.count(("shutdown", "root"))
    refused = run("shutdown")
    assert refused.exit_code == 3
    assert refused.stderr == (
        f"safekit: error: demo: {COST}; other: {COST}; nothing was done "
        "(if this is wanted, type: safekit shutdown --yes)\n"
    )
    assert daemon.asked.count(("shutdown", "root")) == before == 1
    assert run("shutdown", "--yes").exit_code == 0
    assert daemon.asked[-1] == ("shutdown", "root")


def test_clean_asks_for_what_it_kills(run: Any, daemon: FakeManager) -> None:
    daemon.costs["forcestop"] = COST
    assert run("clean", "-m", "demo").exit_code == 3
    assert run("clean", "log", "-m", "demo").exit_code == 0
    assert [asked[:3] for asked in done_things(daemon)] == [("clean", "demo", "log")]


def test_rfssync_without_a_look_wants_consent_on_the_second_only(
    run: Any, daemon: FakeManager
) -> None:
    assert run("rfssync", "-d", "second", "u", "-m", "demo").exit_code == 3
    assert not daemon.asked
    assert run("rfssync", "-d", "prim", "u", "-m", "demo").exit_code == 0


@pytest.mark.parametrize(("answer", "code", "things"), [("y", 0, 1), ("n", 130, 0), ("", 130, 0)])
def test_a_person_at_a_terminal_is_asked(
    safe: Path, daemon: FakeManager, answer: str, code: int, things: int
) -> None:
    daemon.costs["prim"] = COST
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "safepy", "prim", "-m", "demo"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        said = ""
        while "[y/N]" not in said:
            assert select.select([ours], [], [], 20)[0], said
            said += os.read(ours, 1024).decode()
        assert said.startswith(f"{COST}. Continue?")
        os.write(ours, f"{answer}\n".encode())
        assert process.wait(20) == code
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert len(done_things(daemon)) == things
