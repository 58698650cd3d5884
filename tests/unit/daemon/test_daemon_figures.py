"""Figures of the replication as resources: means over three seconds, written now and then."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from safepy.daemon.figures import WRITE_EVERY_S, Figures, Meter
from safepy.model import Progress
from safepy.storage import resources
from safepy.storage.resources import Resources
from safepy.worker.messages import Alive

PROGRESS = Progress(
    "round 1",
    *(120, 20_000, 3 << 20, 5 << 30),
    bytes_copied=10 << 20,
    files_copied=7,
    trees_done=1,
    trees_total=2,
    scan_s=2.4,
    copy_s=1.6,
    mode="walk",
    reason="the secondary crashed",
)


class Counted(Resources):
    """Counts what is written."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.writes = 0

    def set(self, name: str, value: str, who: str, log: bool | None = None) -> bool:
        self.writes += 1
        return super().set(name, value, who, log)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(str(tmp_path / "resource.db"))
    yield made
    made.close()


def alive(net_in: int = 0, net_out: int = 0, replicated: int = 0) -> Alive:
    return Alive(True, 0, 0, replicated, None, net_in, net_out)


def test_a_rate_is_the_mean_of_the_last_three_seconds() -> None:
    meter = Meter()
    totals = [0, 1000, 2000, 3000, 9000, 9000, 9000, 9000]
    rates = [meter.rate(total, float(second)) for second, total in enumerate(totals)]
    assert rates == [0.0, 1000.0, 1000.0, 1000.0, 8000 / 3, 7000 / 3, 2000.0, 0.0]
    # A new worker counts from zero.
    assert meter.rate(500, 8.0) == 0.0
    assert meter.rate(1500, 9.0) == 1000.0


def test_bandwidths_in_kilobytes_a_second(store: Counted) -> None:
    figures = Figures(store)
    figures.begin()
    for second in range(10):
        figures.heard(
            alive(second * 1024, second * 20 * 1024, second * 300 * 1024), None, None, float(second)
        )
    found = {name: store.get(f"rfs.{name}_bandwidth") for name in ("netin", "netout", "rep", "rei")}
    assert found == {"netin": "1", "netout": "20", "rep": "300", "rei": "0"}


def test_a_synchronisation_is_shown_while_it_runs_and_afterwards(
    store: Counted, tmp_path: Path
) -> None:
    figures = Figures(store)
    for second in range(20):
        copied = replace(PROGRESS, bytes_copied=second << 20)
        figures.heard(alive(), copied, None, float(second))
    assert store.get("rfs.rei_bandwidth") == "1024"
    last = replace(PROGRESS, files_done=200, trees_done=2)
    figures.heard(alive(), copied, None, 20.0)
    figures.heard(alive(), None, last, 20.5)
    shown = {
        "syncdir_count_metric": "2 (2/2)",
        "scan_count_metric": "200",
        "scan_time_metric": "2",
        "copy_count_metric": "7",
        "copy_size_metric": "10240",
        "copy_time_metric": "2",
        "mode": "walk",
        "reason": "the secondary crashed",
    }
    assert {name: store.get(f"rfs.rei_{name}") for name in shown} == shown
    figures.heard(alive(), None, None, 40.0)
    assert store.get("rfs.rei_bandwidth") == "0"
    assert store.flush()
    # The history has the end of each synchronisation and nothing in between.
    path = str(tmp_path / "resource.db")
    assert [each.value for each in resources.history(path, "rfs.rei_scan_count_metric")] == ["200"]
    assert resources.history(path, "rfs.rei_bandwidth") == []


def test_the_rate_of_the_last_synchronisation(store: Counted) -> None:
    figures = Figures(store)
    assert figures.last_rate_bytes_s() == 0.0
    figures.heard(alive(), PROGRESS, None, 1.0)
    figures.heard(alive(), None, None, 2.0)  # it broke off
    assert figures.last_rate_bytes_s() == (10 << 20) / 2
    store.set("rfs.rei_copy_time_metric", "0", "test")
    assert figures.last_rate_bytes_s() == 0.0


def test_the_database_is_left_alone(store: Counted) -> None:
    figures = Figures(store)
    for tenth in range(1000):
        # Every figure changes with every report.
        progress = replace(PROGRESS, files_done=tenth, bytes_copied=tenth << 20)
        figures.heard(alive(tenth**3, tenth**3, tenth**3), progress, None, tenth / 10)
    assert store.writes <= 12 * (100 / WRITE_EVERY_S + 2)
    writes = store.writes
    for second in range(100, 200):
        figures.heard(alive(), None, None, float(second))
    assert store.writes <= writes + 20  # back to zero, and the end of the synchronisation
