"""Databases check themselves after a power cut of the primary under load."""

from __future__ import annotations

import pytest
from labkit import databases, modules
from labkit.lab import Lab
from labkit.load import PostgresLoad
from labkit.need import postgres_bin
from labkit.safekit import safekit, wait_pair, wait_state

pytestmark = pytest.mark.lab


def test_postgresql_finds_its_indexes_and_checksums_right(lab: Lab) -> None:
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
        wait_state(lab["n2"], "pg", "ALONE Ready", at_most_s=60)
        load.wait_for_commits(100)
    finally:
        load.stop()
    assert load.missing() == []
    binaries = postgres_bin()
    as_postgres = f"runuser -u postgres -- {binaries}"
    lab["n2"].shell(
        f"{as_postgres}/pg_amcheck -h /tmp --all --install-missing --heapallindexed --rootdescend"
    )
    safekit(lab["n2"], "stop", "-m", "pg")
    wait_state(lab["n2"], "pg", "STOP NotReady")
    said = lab["n2"].shell(f"{as_postgres}/pg_checksums --check -D {modules.PG_DATA}")
    assert "Bad checksums:  0" in said and "Data checksum version: 1" in said


def test_mariadb_and_sqlite_find_nothing_wrong(lab: Lab) -> None:
    databases.install_databases(lab)
    databases.create_databases(lab, "n1")
    safekit(lab["n2"], "start", "-m", "db")
    safekit(lab["n1"], "prim", "-m", "db")
    wait_pair(lab, "db", "n1", "n2")
    databases.wait_for_commits(lab, 50)
    lab["n1"].power_cut()
    wait_state(lab["n2"], "db", "ALONE Ready", at_most_s=90)
    databases.wait_for_commits(lab, 20)
    databases.stop_loads(lab["n2"])
    assert databases.complaints(lab, lab["n2"]) == []
