"""docs/json.md names exactly the keys that `-o json` prints, command by command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_manager import READY, SYNCHRONISING, FakeManager

from safepy.cli.table import every
from safepy.model import Level, Snapshot, SyncPolicy
from safepy.storage.modulelog import CommandLog, ModuleLog
from safepy.storage.resources import Resources

PAGE = Path(__file__).resolve().parents[3] / "docs" / "json.md"
#: Everything that a state can have.
RICH: Snapshot = replace(
    SYNCHRONISING,
    peer_resources=(("rfs.uptodate", "up"),),
    dropped=(("replayed", 3),),
    notes=("a note",),
    story=((1_795_000_000.0, "it was decided"),),
    record=replace(READY.record, policy=SyncPolicy("full")),
)
Keys = set[tuple[str, ...]]


def documented() -> dict[str, Keys]:
    """By command as it is typed: the paths of its keys, those of other tables that it names too."""
    found: dict[str, Keys] = {}
    borrowed: list[tuple[str, tuple[str, ...], str]] = []
    for part in PAGE.read_text().split("\n## `")[1:]:
        heading, _, text = part.partition("`\n")
        rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
        found[heading] = {tuple(key.split(".")) for key, _ in rows if not key.endswith("[]")}
        for key, meaning in rows:
            for other in re.findall(r"as `(safekit [^`]+)`", meaning):
                borrowed.append((heading, tuple(key.split(".")), other))
        for other in re.findall(r"^Also everything of `([^`]+)`", text, re.MULTILINE):
            borrowed.append((heading, (), other))
    for _ in range(3):  # what is borrowed may borrow
        for heading, under, other in borrowed:
            found[heading] |= {(*under, *path) for path in found[other]}
    return found


def flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from flat(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from flat(inner, (*path[:-1], f"{path[-1]}[]"))


def told(path: tuple[str, ...], pages: Keys) -> tuple[str, ...] | None:
    """The documented path that means this one; a word in capitals stands for any key."""
    for page in pages:
        if len(page) == len(path) and all(
            (wanted.isupper() and not wanted.startswith("SAFE"))
            or wanted.removesuffix("[]") == found.removesuffix("[]")
            for wanted, found in zip(page, path, strict=True)
        ):
            return page
    return None


@pytest.fixture
def filled(safe: Path, daemon: FakeManager) -> FakeManager:
    """A module with a log, resources and scripts, whose state has everything."""
    daemon.states["demo"] = [RICH]
    daemon.verified = [{"path": "a", "kind": "content"}]
    log = ModuleLog(str(safe / "var/modules/demo/log.db"))
    log.write("heart", Level.EVENT, "Local state ALONE Ready")
    log.close()
    commands = CommandLog(str(safe / "var/log.db"))
    commands.start("demo", 7, "stop -m demo -u root")
    commands.close()
    resources = Resources(str(safe / "var/modules/demo/resource.db"))
    resources.set("rfs.uptodate", "up", "heart")
    resources.close()
    folder = safe / "safe/private/modules/demo/bin"
    folder.mkdir(parents=True)
    for name in ("state", "level"):
        (folder / name).write_text(f"#!/bin/sh\necho the script {name}\n")
        (folder / name).chmod(0o755)
    return daemon


DOCUMENTED = documented()


@pytest.mark.parametrize("typed", DOCUMENTED)
def test_the_documented_keys_are_the_printed_ones(
    run: Any, filled: FakeManager, safe: Path, typed: str
) -> None:
    document = safe / "cluster.xml"
    document.write_text("<cluster/>")
    words = typed.replace("AM", "demo").replace("FILE", str(document)).split()
    words = [str(safe / "json.zip") if word == "ZIP" else word for word in words]
    assert words[0] == "safekit"
    done = run(*words[1:], "-o", "json")
    assert done.exit_code in (0, 1), done.output
    printed = json.loads(done.stdout)
    paths = set(flat(printed))
    unknown = {path for path in paths if told(path, DOCUMENTED[typed]) is None}
    assert not unknown, "printed, and not documented"
    missing = DOCUMENTED[typed] - {told(path, DOCUMENTED[typed]) for path in paths}
    assert not missing, "documented, and not printed"
    again = run(*(word.replace("json.zip", "yaml.zip") for word in words[1:]), "-o", "yaml")
    assert set(flat(yaml.safe_load(again.stdout))) == paths


def test_every_command_that_prints_something_is_documented() -> None:
    with_output = {
        name for name, command in every() if any(p.name == "form" for p in command.params)
    }
    undocumented = {
        name
        for name in with_output - {"logview"}  # as `log`, line by line
        if not any(f"{heading} ".startswith(f"safekit {name} ") for heading in DOCUMENTED)
    }
    assert not undocumented


def test_following_prints_one_object_a_line(filled: FakeManager) -> None:

    root = Path(__file__).resolve().parents[3]

    with subprocess.Popen(
        [sys.executable, "-m", "safepy", "log", "-f", "-o", "json", "-m", "demo"],
        env=os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        try:
            assert follower.stdout is not None
            line = json.loads(follower.stdout.readline())
        finally:
            follower.kill()
    assert line["message"] == "Local state ALONE Ready" and line["date_unix_s"] <= time.time()
