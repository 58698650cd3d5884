"""The messages of the reference (15.4): tools and habits are built on their words.

Each is looked for in the program's own text: an f-string matches with anything in its gaps. What
does not apply here stands in a table of its own, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from safepy.daemon.reporting import level_of
from safepy.model import Level

SOURCE = Path(__file__).resolve().parents[3] / "src" / "safepy"

#: Where lines of a module come from.
FOLDERS = ("core", "core/*", "daemon", "worker", "checkers", "dataplane")

#: A message as it would stand in the log, and its level where it is written in one place.
SAID = {
    "Action start called by root": "",
    "Action stop called by root": "",
    "Action restart called by root": "",
    "Action swap called by root": "",
    "Action stopstart called by root": "",
    "Action prim called by root": "",
    "Action second called by root": "",
    "Action primforce called by root": "",
    "Action shutdown called by root": "",
    "Action forcestop called by root": "U",
    "Action start called at boot time": "",
    "Action start called automatically": "",
    "Action stop called by maxloop": "C",
    "Action stop called by heart : local fault": "C",
    "Action restart called by errd": "",
    "Action stopstart called by failover-off": "C",
    "Action stopstart called by modulecheck": "",
    "Action restart called by mychecker": "",
    "Action stop from failover rule mine": "",
    "Action restart from failover rule t_sql": "",
    "Action wait from failover rule notuptodate_server": "C",
    "Action wakeup from failover rule Implicit_wakeup": "I",
    "Action alone called by heart: remote stop": "C",
    "Action alone called by heart: no heartbeat": "C",
    "Begin of Swap": "E",
    "Transition SWAP from defaultprim": "E",
    "Local state ALONE Ready": "E",
    "Remote state SECOND Ready": "E",
    "Resource tcp.sql set to down by tcpcheck": "",
    "Resource heartbeat.flow set to up by heart": "",
    "Resource rfs.degraded set to up by nfsadmin": "",
    "Remote state UNKNOWN": "E",
    "Script stop_prim": "",
    "Script stop_prim \"force\"": "",
    "5MB copied": "E",
    "Process postgres not running": "",
    "Service postgresql not running": "",
    "Data may be not uptodate for replicated directories (wait for the start of the remote server)":
        "C",
    "If you are sure that this server has valid data, run safekit prim to force start as primary":
        "C",
    "Data may be inconsistent for replicated directories (stopped during reintegration)": "C",
    "If you are sure that this server has valid data, run safekit primforce to force start as "
    "primary": "C",
    "Requested prim start aborted": "C",
    "Updating directory tree from /data": "E",
    "Copied 3 files of 9, 1.0 KiB in 2.0 s": "E",
    "Reintegration ended (synchronize)": "E",
    "Uptodate replicated file system": "E",
    "Automatic synchronization cannot be applied due to an abnormal delta between the dates of the "
    "last synchronization": "E",
    "Failover-off configured": "E",
    "Split brain recovery: staying alone": "E",
    "Split brain recovery: exiting alone": "E",
    "Virtual IP 10.0.0.9 set": "I",
}  # fmt: skip

#: Of the reference, and never said here.
NOT_HERE = {
    "farm membership: <nodes> (group <g>)": "no farm modules",
    "farm load: <bits>/256 (group <g>)": "no farm modules",
    "Unable to load vip kernel extension": "no farm modules",
    "Lost contact from peer=<ip>": "no farm modules",
    "Kernel filter configuration failed for <dir>": "Windows",
    "WARNING : Process <pid> access may interfer with replication": "Windows",
    "XXX clnttcp_create: socket=7 TLS handshake failed": "NFS of SafeKit",
    "License : NO license : Demo 3 days": "no licence",
    "Local internal state <X>": "trace of another automaton",
    "Action <x> terminated (-> CMD_OK)": "trace of another automaton",
    "Reintegration ended (default)": "one word for every synchronisation",
    "Transition RESTART|STOPSTART from failover rule <r>": "older wording of Action ... from",
}


def _pattern(node: ast.expr) -> str | None:
    """A regular expression for what this text may become; None if too little of it is fixed."""
    parts: list[str] = []
    fixed = 0
    for value in node.values if isinstance(node, ast.JoinedStr) else [node]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            parts.append(re.escape(value.value))
            fixed += len(value.value.strip())
        else:
            parts.append(".+")
    return "".join(parts) if fixed >= 6 else None


def _docstrings(tree: ast.AST) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            found |= {each.value for each in body if isinstance(each, ast.Expr)}
    return found


def _level(node: ast.AST) -> str:
    """What a call says as Level.X beside its text."""
    if not isinstance(node, ast.Call):
        return ""
    named = [
        argument.attr
        for argument in node.args
        if isinstance(argument, ast.Attribute)
        and isinstance(argument.value, ast.Name)
        and argument.value.id == "Level"
    ]
    return str(Level[named[0]]) if named else ""


@cache
def texts() -> list[tuple[re.Pattern[str], str]]:
    """Every text of the program as a pattern, with the level that stands beside it."""
    return [(re.compile(pattern), level) for pattern, level in _texts()]


def _texts() -> Iterator[tuple[str, str]]:
    for path in sorted(path for folder in FOLDERS for path in SOURCE.glob(f"{folder}/*.py")):
        tree = ast.parse(path.read_bytes())
        passed = _docstrings(tree)
        levels: dict[ast.AST, str] = {}
        for node in ast.walk(tree):
            for argument in getattr(node, "args", []) if isinstance(node, ast.Call) else []:
                levels[argument] = _level(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and node not in passed:
                pattern = _pattern(node)
                if pattern is not None:
                    yield pattern, levels.get(node, "")


@pytest.mark.parametrize(("message", "level"), SAID.items())
def test_a_message_of_the_reference_is_said_in_its_words(message: str, level: str) -> None:
    found = [said for pattern, said in texts() if pattern.fullmatch(message)]
    begun = [said for pattern, said in texts() if pattern.match(message)]
    assert found or begun, "nothing in the program says this"
    beside = {said for said in found if said}
    assert not level or not beside or level in beside


def test_what_is_not_said_is_really_not() -> None:
    for message, reason in NOT_HERE.items():
        assert reason and message not in SAID
        example = re.sub(r"<[^>]+>", "x", message.split("|")[0])
        assert not [p for p, _ in texts() if p.fullmatch(example)], message


def test_the_level_of_a_resource_that_goes_down() -> None:
    assert level_of("tcp.sql", "down") is Level.CRITICAL
    assert level_of("heartbeat.default", "down") is Level.EVENT
    assert level_of("proc.postgres", "down") is Level.EVENT
    assert level_of("tcp.sql", "up") is Level.INFO
    assert (level_of("rfs.degraded", "up"), level_of("rfs.uptodate", "up")) == ("C", "I")


def test_the_search_finds_and_misses() -> None:
    assert not [p for p, _ in texts() if p.fullmatch("Nobody has ever said this sentence")]
