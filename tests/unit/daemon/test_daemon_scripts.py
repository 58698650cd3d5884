"""Scripts that do not do what they should harm neither the daemon nor the other node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair import MODULE, Daemon, config, until
from test_daemon_pair import MODULE_ID, PULSE_MS, TIMEOUT_MS, Pair

#: Hangs, with a child in a session of its own, and would start the application in the end.
HANGS = """#!/bin/sh
echo "$(basename "$0") $*" >>"$SAFEUSERVAR/calls"
setsid sleep 4711 &
sleep 4712
echo late >>"$SAFEUSERVAR/calls"
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.n1.end()
        made.n2.end()


def left(node: Daemon) -> list[str]:
    """Commands of the processes that a script of this node left behind."""
    mark = f"SAFEUSERVAR={node.var}/modules/{MODULE}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_start_script_that_hangs_does_not_outlive_the_stop(pair: Pair) -> None:
    pair.n1.start()
    pair.n1.install(
        config(PULSE_MS, TIMEOUT_MS).replace('stoptimeout="5"', 'stoptimeout="1"'), MODULE_ID
    )
    script = pair.n1.safe / "modules" / MODULE / "bin" / "start_prim"
    script.write_text(HANGS)
    pair.n1.configure()
    pair.n1.act("prim")
    until(lambda: len(left(pair.n1)) >= 3, lambda: pair.story("start_prim hangs"))
    pair.n1.act("stop")
    until(lambda: pair.n1.shown == "STOP NotReady", lambda: pair.story("n1 stops"))
    assert left(pair.n1) == []
    assert any(call.startswith("stop_prim ALONE WAIT") for call in pair.n1.calls)
    assert "late" not in pair.n1.calls
    assert [line for line in pair.n1.lines() if "start_prim: still running, killed" in line]
    # And the next start finds everything in order.
    script.write_text("#!/bin/sh\n")
    pair.n1.configure()
    pair.n1.act("prim")
    until(lambda: pair.n1.shown == "ALONE Ready", lambda: pair.story("n1 starts again"))
