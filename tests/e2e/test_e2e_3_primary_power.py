"""Point 3: power cut of the primary under load."""

from __future__ import annotations

import time

import pytest
from labkit import modules
from labkit.lab import Lab
from labkit.load import PostgresLoad, equal_trees
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair
from labkit.safekit import safekit, wait_pair, wait_state

pytestmark = pytest.mark.lab
#: Detection + one pulse + a start script, with room for a busy machine of two cores.
OUTAGE_S = TIMEOUT_MS / 1000 + 10


def test_postgresql_loses_no_acknowledged_commit(lab: Lab) -> None:
    modules.install_postgres(lab)
    modules.create_database(lab, "n1")
    safekit(lab["n2"], "start", "-m", "pg")
    safekit(lab["n1"], "prim", "-m", "pg")
    wait_pair(lab, "pg", "n1", "n2")
    load = PostgresLoad(lab)
    load.start()
    try:
        load.wait_for_commits(300)
        lab["n1"].power_cut()
        took = wait_state(lab["n2"], "pg", "ALONE Ready", at_most_s=60)
        assert TIMEOUT_MS / 1000 - 1 < took < OUTAGE_S
        load.wait_for_commits(100)
        lab["n1"].power_on()
        lab["n1"].wait_booted()
        wait_pair(lab, "pg", "n2", "n1", 90)
        load.wait_for_commits(100)
    finally:
        load.stop()
    assert load.missing() == []
    assert load.accounts_balance()
    lab["n2"].run("pkill", "-STOP", "-u", "postgres", "-x", "postgres")
    assert equal_trees(lab, modules.PG_DIRECTORY) == []


@pytest.mark.parametrize("acknowledge", ["second", "none"])
def test_records_survive_and_the_node_returns_by_itself(lab: Lab, acknowledge: str) -> None:
    pair = Pair(lab, acknowledge=acknowledge)
    pair.start()
    cut = time.monotonic()
    lab["n1"].power_cut()
    pair.wait("n2", "ALONE Ready", at_most_s=60)
    pair.wait_work()
    assert pair.pause_since(cut) < OUTAGE_S
    lab["n1"].power_on()
    lab["n1"].wait_booted()
    pair.wait_pair("n2", "n1", 90)
    pair.wait_work()
    pair.assert_whole("n2", ["n1", "n2"])
