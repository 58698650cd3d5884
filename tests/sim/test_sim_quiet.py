"""Beats that say nothing new cost no whole step, and nothing is noticed later for it.

That such a step would have changed nothing else is compared at every one of them, on every day of
the simulator (`checks.nothing_new_was_left_out`).
"""

from __future__ import annotations

from cluster import PULSE_S, TIMEOUT_S, Cluster

from safepy.model import State

LANES = ("lan1", "lan2")


def settled() -> Cluster:
    cluster = Cluster(1, LANES, write_every_s=0)
    cluster.form_pair()
    cluster.run(5)
    return cluster


def test_nearly_all_beats_of_an_idle_pair_are_taken_in_quietly() -> None:
    cluster = settled()
    before = cluster.checks.taken_quietly
    cluster.beats = []
    cluster.run(60)
    assert len(cluster.beats) >= 2 * len(LANES) * 60 / PULSE_S * 0.9
    assert cluster.checks.taken_quietly - before >= 0.95 * len(cluster.beats)


def test_the_silence_counts_from_the_last_beat() -> None:
    """Between `timeout` less a pulse and `timeout`, as with whole steps."""
    cluster = settled()
    cluster.nodes["n1"].power_off()
    begun = cluster.clock.now
    assert cluster.until(lambda: cluster.nodes["n2"].shown is not State.SECOND, 2 * TIMEOUT_S)
    assert TIMEOUT_S - PULSE_S - 0.1 <= cluster.clock.now - begun <= TIMEOUT_S + 0.6


def test_one_silent_lane_is_seen() -> None:
    cluster = settled()
    cluster.network.lanes["lan1"].cut = {"n1", "n2"}
    cluster.run(TIMEOUT_S + 0.1)
    state = cluster.nodes["n1"].state
    assert state is not None and not state.at_rest
    assert state.told_resources["heartbeat.lan1"] == "down"
    assert state.told_resources["heartbeat.lan2"] == "up"
    cluster.network.heal()
    cluster.run(2)
    state = cluster.nodes["n1"].state
    assert state is not None and state.told_resources["heartbeat.lan1"] == "up"
