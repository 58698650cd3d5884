"""A row of the failure table (protocol 10) that needs a real network: F27."""

from __future__ import annotations

import pytest
from labkit.lab import Lab
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair

pytestmark = pytest.mark.lab

NO_DATAGRAMS = """
table inet torment {
  chain in { type filter hook input priority 0; meta l4proto udp drop; }
  chain out { type filter hook output priority 0; meta l4proto udp drop; }
}
"""


def test_f27_all_heartbeats_lost_and_the_stream_lives(lab: Lab) -> None:
    """Not a loss: authentic traffic arrives. Said once, and nobody changes its role."""
    pair = Pair(lab)
    pair.start()
    lab["n2"].run("nft", "-f", "-", stdin=NO_DATAGRAMS)
    try:
        pair.wait_log(
            "n1", "All heartbeats are down, the replication stream lives", TIMEOUT_MS / 1000 + 15
        )
        pair.wait_work(200, 2 * TIMEOUT_MS / 1000 + 20)
        assert pair.state("n1") == "PRIM Ready"
        assert pair.state("n2") == "SECOND Ready"
    finally:
        lab["n2"].run("nft", "delete", "table", "inet", "torment")
    pair.assert_whole("n1", ["n1"])
