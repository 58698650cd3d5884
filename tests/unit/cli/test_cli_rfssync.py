"""How dates are read, and what rfssync shows and refuses."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
import pytest
from fake_manager import READY, FakeManager

from safepy.cli.dates import parse_date
from safepy.model import SyncPolicy


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("1970-01-02Z", 86_400.0),
        ("2026-01-02 03:04:05Z", 1_767_323_045.0),
        ("2026-01-02T03:04:05Z", 1_767_323_045.0),
    ],
)
def test_a_date_with_z_is_in_utc(text: str, unix_s: float) -> None:
    assert parse_date(text) == unix_s


def test_a_date_without_z_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_date("2026-01-02T12:04:05") == 1_767_323_045.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-01-02T3:4:5",
        "2026-01-02Z Z",
        "2026-01-02\n03:04:05",
        "٢٠٢٦-01-02",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no date"):
        parse_date(text)


def test_the_policy_is_shown(run: Any, daemon: FakeManager) -> None:
    assert run("rfssync", "-m", "demo").stdout == "module demo: default\n"
    record = replace(READY.record, policy=SyncPolicy("external", "second", "b1"))
    daemon.states["demo"] = [replace(READY, record=record, sync_policy="external, second of b1")]
    assert run("rfssync", "-m", "demo").stdout == "module demo: external, second of b1\n"
    shown = run("rfssync", "-m", "demo", "-o", "json").stdout
    assert '"uid": "b1"' in shown and '"role": "second"' in shown


@pytest.mark.parametrize(
    "words",
    [
        ["-d"],
        ["half"],
        ["external", "prim"],
        ["external", "both", "u"],
        ["prim", "u"],
        ["-d", "full"],
    ],
    ids=" ".join,
)
def test_half_a_wish_is_refused(run: Any, daemon: FakeManager, words: list[str]) -> None:
    done = run("rfssync", *words, "-m", "demo")
    assert done.exit_code == 2 and "rfssync external prim|second UID" in done.stderr
    assert not daemon.asked


def test_secondforce_wants_consent_and_a_date_that_was(run: Any, daemon: FakeManager) -> None:
    done = run("secondforce", "-d", "2026-01-02", "-m", "demo")
    assert done.exit_code == 3 and "taken as equal" in done.stderr
    assert "type: safekit secondforce -d 2026-01-02 -m demo --yes" in done.stderr
    assert run("secondforce", "-d", "2026-01-02", "-m", "demo", "--yes").exit_code == 0
    assert run("secondforce", "-m", "demo").exit_code == 2
    refused = run("secondforce", "-d", "2999-01-01", "-m", "demo")
    assert refused.exit_code == 2 and "in the future" in refused.stderr
    assert len(daemon.asked) == 1
