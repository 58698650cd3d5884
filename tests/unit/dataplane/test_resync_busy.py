"""The application renames, writes and deletes during every round; the held round ends equal."""

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resync_lab import Lab, Logged, assert_equal, idents_of, resync

from safepy.core.replica.marks import FULL, WALK
from safepy.dataplane.pathmarks import PathMarks

SEEDS = int(os.environ.get("SAFEPY_RESYNC_SEEDS", "5"))


class Kept:
    """The marks of a primary with one directory, in the words of the lab's application."""

    def __init__(self):
        self.paths = PathMarks(1)

    def add_full(self, path):
        self.paths.add(0, "full", path)

    def add_attributes(self, path):
        self.paths.add(0, "attributes", path)

    def add_extent(self, path, offset, length):
        self.paths.add(0, "extents", path, offset, length)

    def moved(self, old, new, directory):
        self.paths.moved(0, old, new, directory)


@pytest.mark.parametrize("mode", ["zones", "walk", "everything"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_held_round_ends_equal_in_every_mode(tmp_path, seed, mode):
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    right.mkdir()
    first = Logged(left, seed, session=b"earlier!")
    for _ in range(100):
        first.step()
    resync(left, right)
    kept = Kept()
    application = Logged(left, seed + 500, kept)
    for _ in range(60):
        application.step()
    stop = threading.Event()

    def run():
        while not stop.is_set():
            application.step()

    # As of a crash: its log is read, and what is written later is in the marks.
    log = application.suspects
    application.suspects = type(log)()
    with Lab(left, right, suspects=[log] if mode == "walk" else ()) as lab:
        if mode == "walk":
            kept.paths = PathMarks(1)
            kept.paths.demand(WALK)
        elif mode == "everything":
            kept.paths.demand(FULL)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            for _ in range(4):
                with application.lock:
                    (taken,) = kept.paths.take()
                lab.round(taken)
        finally:
            stop.set()
            thread.join()
        (taken,) = kept.paths.take()
        lab.round(taken)
        assert_equal(left, right)
        assert idents_of(left) == idents_of(right)
        lab.source.finish()
        assert not lab.errors
    assert application.count > 60
