"""Point 1: first start, first synchronisation, a hard tree that is equal on both sides."""

from __future__ import annotations

import time

import pytest
from labkit import trees
from labkit.lab import Lab
from labkit.load import equal_trees
from labkit.pair import Pair
from labkit.safekit import state

pytestmark = pytest.mark.lab
FILES = 20_000


def test_a_hard_tree_is_equal_after_the_first_synchronisation(lab: Lab) -> None:
    pair = Pair(lab)
    hard = pair.files("n1") / "hard"
    hard.mkdir()
    trees.make(hard, FILES)
    pair.start(at_most_s=180)
    pair.assert_whole("n1", ["n1"])
    # Of the part that nobody changes any more: the application goes on writing beside it.
    assert len(trees.survey(pair.files("n2") / "hard")) > FILES


def test_both_wait_at_the_first_start_until_one_is_told_to_lead(lab: Lab) -> None:
    pair = Pair(lab)
    pair("n1", "start")
    pair("n2", "start")
    pair.wait("n1", "WAIT NotReady")
    pair.wait("n2", "WAIT NotReady")
    told = state(lab["n1"], pair.module)
    assert told["waiting_for"]
    assert "prim" in told["remedy"]
    pair("n2", "prim")
    pair.wait_pair("n2", "n1")


def test_a_hard_tree_made_live_is_equal(lab: Lab) -> None:
    """Made through the mount while PRIM: every kind of object goes the live way."""
    pair = Pair(lab)
    pair.start()
    source = lab.shared_path("make.py")
    source.write_text(
        "import sys; sys.path.insert(0, '/lab/kit')\n"
        "from pathlib import Path; from labkit import trees\n"
        f"top = Path('{pair.directory}/live'); top.mkdir(); trees.make(top, 2000, seed=7)\n"
    )
    lab.share_kit()
    begun = time.monotonic()
    lab["n1"].run("/usr/bin/python3", "/lab/make.py", timeout_s=120)
    print(f"2000 files and their metadata in {time.monotonic() - begun:.1f} s")
    pair.assert_whole("n1", ["n1"])
    assert len(trees.survey(pair.files("n2") / "live")) > 2000


def test_the_secondary_is_visible_and_read_only(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    n2 = lab["n2"]
    assert "records-0" in n2.shell(f"ls {pair.directory}")
    refused = n2.run("touch", f"{pair.directory}/mine", check=False)
    assert refused.returncode != 0
    assert "Read-only file system" in refused.stderr
    pair.hold("n1")
    assert equal_trees(lab, pair.directory) == []
