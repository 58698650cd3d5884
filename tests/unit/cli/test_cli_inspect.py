"""rfsverify and rfsdiff: what they print, and their exit codes."""

import json
from typing import Any

from fake_manager import FakeManager

DIFFERENCES = [
    {"path": "/srv/a/one", "kind": "content", "mended": False},
    {"path": "/srv/a/two", "kind": "missing on second", "mended": False},
    {"path": "/srv/b/three", "kind": "attributes", "mended": True},
]


def test_equal_copies(run: Any, daemon: FakeManager) -> None:
    result = run("rfsverify", "-m", "demo")
    assert result.exit_code == 0
    assert result.stdout == "12 files, 5.0 MiB compared, no difference\n"


def test_differing_files_are_named_all_and_once(run: Any, daemon: FakeManager) -> None:
    daemon.verified = DIFFERENCES
    result = run("rfsverify", "-m", "demo")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "/srv/a/one: content",
        "/srv/a/two: missing on second",
        "/srv/b/three: attributes, mended",
        "12 files, 5.0 MiB compared, 3 differ",
    ]


def test_the_same_for_programs(run: Any, daemon: FakeManager) -> None:
    daemon.verified = DIFFERENCES
    result = run("rfsverify", "-m", "demo", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "files": 12,
        "bytes": 5 << 20,
        "found": 3,
        "mended": 0,
        "problem": "",
        "differences": DIFFERENCES,
    }


def test_a_comparison_that_broke_off_is_no_success(run: Any, daemon: FakeManager) -> None:
    daemon.verify_problem = "the other node went away"
    result = run("rfsverify", "-m", "demo")
    assert result.exit_code == 1
    assert result.stderr == (
        "safekit: error: the verification did not come to its end: the other node went away\n"
    )


def test_what_a_synchronisation_would_do(run: Any, daemon: FakeManager) -> None:
    result = run("rfsdiff", "-m", "demo")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "marked zones only: every change since then is marked",
        "10 files to look into, 3.0 GiB to copy at most",
        "about 51 min 12 s at 1.0 MiB/s, as the last time",
    ]
    shown = json.loads(run("rfsdiff", "-m", "demo", "-o", "json").stdout)
    assert shown == {**daemon.estimated, "duration_s": 3072.0}


def test_a_first_estimate_has_no_duration(run: Any, daemon: FakeManager) -> None:
    daemon.estimated |= {"rate_bytes_s": 0.0, "names": 9, "mode": "walk", "reason": "a crash"}
    result = run("rfsdiff", "-m", "demo")
    assert result.stdout.splitlines() == [
        "names and attributes of all, content where they ask for it: a crash",
        "9 names to compare, 10 files to look into, 3.0 GiB to copy at most",
        "how long it takes is not known: no synchronisation was measured here yet",
    ]
    assert json.loads(run("rfsdiff", "-m", "demo", "-o", "json").stdout)["duration_s"] is None
