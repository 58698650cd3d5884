"""Who leads after a start: outdated data first, failover off, the preferred primary, `prim` on a
half-synchronised node (reference 6.3, 6.4, 7.2, 7.4)."""

from __future__ import annotations

import os

import pytest
from labkit.lab import Lab
from labkit.pair import Pair
from labkit.safekit import state

pytestmark = pytest.mark.lab


def test_outdated_first_failover_off_preferred_and_half_synchronised(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    _outdated_first(pair)
    _failover_off(pair)
    _stop_that_leaves_nobody(pair)
    pair("n1", "stop")
    pair("n2", "stop")
    _preferred(lab)
    _half_synchronised(lab)


def _outdated_first(pair: Pair) -> None:
    """A went on alone; B alone waits for it, and gets what it missed."""
    pair("n2", "stop")
    pair.wait("n1", "ALONE Ready")
    pair.wait_work()
    pair("n1", "stop")
    pair.wait("n1", "STOP NotReady")
    pair("n2", "start")
    pair.wait("n2", "WAIT NotReady")
    assert "wait for the start of the remote server" in pair.log("n2")
    assert pair("n2", "get", "-r", "rfs.uptodate").strip() == "down"
    told = state(pair.lab["n2"], pair.module)
    assert "safekit start -m app on n1" in told["remedy"], told
    pair("n1", "start")
    pair.wait_pair("n1", "n2")
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def _failover_off(pair: Pair) -> None:
    """The application always runs on the same node."""
    for node in pair.lab.nodes:
        pair(node, "failover", "off")
    pair("n1", "stop")
    pair.wait("n1", "STOP NotReady")
    pair.wait("n2", "WAIT NotReady")
    assert "Failover-off configured" in pair.log("n2")
    told = pair("n2", "why")
    assert "automatic failover is off" in told, told
    pair("n1", "start")
    pair.wait_pair("n1", "n2")
    for node in pair.lab.nodes:
        pair(node, "failover", "on")
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])


def _stop_that_leaves_nobody(pair: Pair) -> None:
    """The secondary is in maintenance: a script that stops the primary is told, and refused."""
    n1 = pair.lab["n1"]
    pair("n2", "maintenance", "on", "--for", "1h")
    n1.wait_until("n1 knows", lambda: "maintenance of n2" in pair("n1", "why"), 10)
    refused = n1.run("safekit", "stop", "-m", pair.module, check=False)
    assert refused.returncode == 3, refused
    assert "the application is down until that ends" in refused.stderr
    assert "safekit stop -m app --yes" in refused.stderr
    assert "n2 does not take over" in pair("n1", "plan", "stop")
    assert pair.state("n1") == "PRIM Ready"
    pair("n2", "maintenance", "off")


def _preferred(lab: Lab) -> None:
    """Whenever both run it is the primary, by a swap after the synchronisation."""
    pair = Pair(lab, "pref", defaultprim="n1")
    pair("n2", "prim")
    pair.wait("n2", "ALONE Ready")
    pair("n1", "start")
    pair.wait_pair("n1", "n2")
    assert "Begin of Swap" in pair.log("n1") + pair.log("n2")
    pair.wait_work()
    pair.assert_whole("n1", ["n2", "n1"])
    pair("n1", "stop")
    pair("n2", "stop")


def _half_synchronised(lab: Lab) -> None:
    """The secondary is stopped while it is filled, then the primary: its data are a mixture."""
    pair = Pair(lab, "half", rfs='reiallowedbw="4000"')
    (pair.files("n1") / "ballast").write_bytes(os.urandom(16 << 20))
    pair("n1", "prim")
    pair.wait("n1", "ALONE Ready")
    pair("n2", "start")
    lab["n2"].wait_until(
        "its data are a mixture",
        lambda: state(lab["n2"], "half").get("record", {}).get("disk") == "INCONSISTENT",
        20,
    )
    assert pair.state("n2") == "SECOND Transient"
    pair("n2", "stop")
    pair.wait("n2", "STOP NotReady")
    pair("n1", "stop")
    pair.wait("n1", "STOP NotReady")
    pair("n2", "prim")
    pair.wait_log("n2", "Requested prim start aborted")
    pair.wait("n2", "STOP NotReady")
    log = pair.log("n2")
    assert "Data may be inconsistent for replicated directories" in log
    assert "safekit primforce" in log
    pair("n1", "start")
    pair("n2", "start")
    pair.wait_pair("n1", "n2")
    pair.wait_work()
    pair.assert_whole("n1", ["n1"])
