"""The split-brain checker with a witness that is a host of its own (the lab's client): when all
cables of a node are cut, only the side that reaches the witness leads."""

from __future__ import annotations

import pytest
from labkit.lab import Lab
from labkit.layout import CLIENT, CLIENT_NUMBER
from labkit.modules import TIMEOUT_MS
from labkit.network import Network
from labkit.pair import Pair
from labkit.safekit import safekit, state

pytestmark = pytest.mark.lab
#: The detection, the witness asked twice, and room for two busy cores.
PATIENCE_S = TIMEOUT_MS / 1000 + 10 + 20


def resource(pair: Pair, node: str, name: str) -> str:
    return pair(node, "get", "-r", name).strip()


def test_only_the_side_that_reaches_the_witness_leads(lab: Lab) -> None:
    witnesses = " ".join(lab.layout.address(lan, CLIENT_NUMBER) for lan in (1, 2))
    pair = Pair(lab, checks=f'<splitbrain ident="router" exec="ping" arg="{witnesses}"/>')
    pair.start()

    # The primary loses its cables: it stops the application, and the other one leads.
    lab["n1"].cut()
    pair.wait("n2", "ALONE Ready", at_most_s=PATIENCE_S)
    pair.wait("n1", "WAIT NotReady", at_most_s=PATIENCE_S)
    assert lab["n1"].shell("pgrep -f '[w]riter.py' || true") == ""
    assert "splitbrain_failure" in pair.log("n1")
    assert [resource(pair, node, "splitbrain.uptodate") for node in ("n1", "n2")] == ["down", "up"]
    assert [resource(pair, node, "splitbrain.router") for node in ("n1", "n2")] == ["down", "up"]
    told = pair("n1", "why")
    assert "witness" in told and "safekit prim" in told, told
    pair.wait_work()
    lab["n1"].heal()
    pair.wait_pair("n2", "n1")
    pair.assert_whole("n2", ["n1", "n2"])

    # The secondary loses its cables: nothing happens to the application.
    lab["n1"].cut()
    pair.wait("n1", "WAIT NotReady", at_most_s=PATIENCE_S)
    pair.wait("n2", "ALONE Ready", at_most_s=PATIENCE_S)
    pair.wait_work()
    lab["n1"].heal()
    pair.wait_pair("n2", "n1")

    # The witness is gone too: nobody leads, until an administrator says who.
    _witness(lab, there=False)
    lab["n1"].cut()
    for node in lab.nodes:
        pair.wait(node, "WAIT NotReady", at_most_s=PATIENCE_S)
    assert "safekit prim" in state(lab["n2"], pair.module)["remedy"]
    safekit(lab["n2"], "prim", "-m", pair.module, "--yes")
    pair.wait("n2", "ALONE Ready")
    _witness(lab, there=True)
    lab["n1"].heal()
    pair.wait_pair("n2", "n1")
    pair.wait_work()
    pair.assert_whole("n2", ["n1", "n2"])


def _witness(lab: Lab, *, there: bool) -> None:
    for lan in range(1, lab.lans + 1):
        Network(lab.layout).plug(CLIENT, lan, connected=there)
