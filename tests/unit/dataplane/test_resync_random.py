"""The test that matters: whatever the application did meanwhile, the held round ends equal."""

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resync_lab import Lab, Mutator, assert_equal, full_marks

from safepy.core.replica.marks import Marks

SEEDS = int(os.environ.get("SAFEPY_RESYNC_SEEDS", "12"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_held_round_ends_equal(tmp_path, seed):
    left, right = tmp_path / "left", tmp_path / "right"
    for top, steps, own_seed in ((left, 120, seed), (right, 60, seed + 10_000)):
        top.mkdir()
        start = Mutator(top, own_seed)
        for _ in range(steps):
            start.step()

    marks = Marks()
    application = Mutator(left, seed + 20_000, marks)
    stop = threading.Event()

    def run():
        while not stop.is_set():
            application.step()

    with Lab(left, right) as lab:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            lab.round(full_marks())
            for _ in range(3):
                with application.lock:
                    taken = marks.take()
                lab.round(taken)
        finally:
            stop.set()
            thread.join()
        lab.round(marks)  # held: the application stands still
        assert_equal(left, right)
        # From here on only marks tell: many small changes, each round held.
        for _ in range(4):
            for _ in range(15):
                application.step()
            lab.round(marks)
            assert_equal(left, right)
        lab.source.finish()
        assert not lab.errors
    assert application.count > 50
