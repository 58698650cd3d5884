"""Point 6: worker and daemon killed on either side, the primary frozen for too long.

Whatever happens: never two nodes that write, no acknowledged record missing, and the
directory never silently shows the bare files underneath.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.node import Node
from labkit.pair import Pair, kill_daemon, kill_worker

pytestmark = pytest.mark.lab


@contextmanager
def watched(lab: Lab, pair: Pair) -> Iterator[None]:
    """Fails if the directory of either node is ever open for writing on the bare disk."""
    found = lab.shared_path("watched.log")
    watchers = [
        node.popen(
            "/usr/bin/python3", "/lab/programs/watcher.py", pair.directory, "/data", output=found
        )
        for node in lab.nodes.values()
    ]
    try:
        yield
        for watcher in watchers:
            assert watcher.poll() is None, found.read_text()
    finally:
        for node in lab.nodes.values():
            if node.state == "running":
                node.run("pkill", "-KILL", "-f", "programs/[w]atcher.py", check=False)
        for watcher in watchers:
            try:
                watcher.wait(10)
            except subprocess.TimeoutExpired:
                watcher.kill()


def roles(lab: Lab, pair: Pair, at_most_s: float = 60.0) -> tuple[str, str]:
    """Wait for a healthy pair, whoever leads; (primary, secondary)."""
    order = ("n1", "n2")

    def settled() -> bool:
        nonlocal order
        now = {node: pair.state(node) for node in lab.nodes}
        order = ("n1", "n2") if now["n1"].startswith("PRIM") else ("n2", "n1")
        return now[order[0]] == "PRIM Ready" and now[order[1]] == "SECOND Ready"

    lab["n1"].wait_until("PRIM and SECOND Ready again", settled, at_most_s)
    return order


@pytest.mark.parametrize("kill", [kill_worker, kill_daemon])
def test_killed_on_the_primary(lab: Lab, kill: Callable[[Node], None]) -> None:
    pair = Pair(lab)
    pair.start()
    with watched(lab, pair):
        kill(lab["n1"])
        prim, _ = roles(lab, pair)
        pair.wait_work()
    pair.assert_whole(prim, ["n1"] if prim == "n1" else ["n1", "n2"])


@pytest.mark.parametrize("kill", [kill_worker, kill_daemon])
def test_killed_on_the_secondary(lab: Lab, kill: Callable[[Node], None]) -> None:
    pair = Pair(lab)
    pair.start()
    with watched(lab, pair):
        kill(lab["n2"])
        pair.wait_pair("n1", "n2", 60)
        pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def test_a_frozen_primary_wakes_up_to_find_itself_replaced(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    lab["n1"].freeze()
    pair.wait("n2", "ALONE Ready", at_most_s=TIMEOUT_MS / 1000 + 15)
    pair.wait_work()
    lab["n1"].thaw()
    pair.wait_pair("n2", "n1", 60)
    pair.wait_work()
    pair.assert_whole("n2", ["n1", "n2"])


def test_a_frozen_secondary_is_left_behind_and_returns(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    lab["n2"].freeze()
    pair.wait("n1", "ALONE Ready", at_most_s=TIMEOUT_MS / 1000 + 15)
    pair.wait_work()
    lab["n2"].thaw()
    pair.wait_pair("n1", "n2", 60)
    pair.assert_whole("n1", ["n1"])
