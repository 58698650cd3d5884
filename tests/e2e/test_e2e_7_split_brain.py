"""Point 7: both cables cut, both alone; one gives way, what it wrote is kept aside."""

from __future__ import annotations

import pytest
from labkit.lab import Lab
from labkit.load import Note, missing_records
from labkit.modules import TIMEOUT_MS
from labkit.pair import Pair
from labkit.safekit import safekit

pytestmark = pytest.mark.lab


def test_the_former_secondary_gives_way_and_keeps_its_files_aside(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    lab["n2"].cut()
    patience = TIMEOUT_MS / 1000 + 20
    pair.wait("n1", "ALONE Ready", at_most_s=patience)
    pair.wait("n2", "ALONE Ready", at_most_s=patience)
    for node in ("n1", "n2"):
        shown = safekit(lab[node], "state", "-m", pair.module)
        assert "split brain possible" in shown, shown
    lab["n1"].shell(f"echo n1 > {pair.directory}/disputed; echo x > {pair.directory}/only-n1")
    lab["n2"].shell(f"echo n2 > {pair.directory}/disputed; echo x > {pair.directory}/only-n2")
    pair.wait_work(100)
    lab["n2"].heal()
    pair.wait_pair("n1", "n2", 90)

    # What n1 says depends on who hears the other first; that n2 gave way does not.
    assert "Split brain recovery: exiting alone" in pair.log("n2")
    assert (pair.files("n2") / "disputed").read_text() == "n1\n"
    assert not (pair.files("n2") / "only-n2").exists()
    assert pair.kept("n2", "disputed") == ["n2\n"]
    assert pair.kept("n2", "only-n2") == ["x\n"]
    assert "kept" in pair.log("n2")

    pair.hold("n1")
    notes: list[Note] = [note for note in pair.notes() if note.node == "n1"]
    assert missing_records(notes, pair.files("n1")) == []
    assert missing_records(notes, pair.files("n2")) == []


def test_one_cable_is_not_a_loss(lab: Lab) -> None:
    pair = Pair(lab)
    pair.start()
    lab["n1"].cut("lan2")
    pair.wait_work(1000, TIMEOUT_MS / 1000 + 20)
    assert pair.state("n1") == "PRIM Ready"
    assert pair.state("n2") == "SECOND Ready"
    lab["n1"].heal("lan2")
    pair.assert_whole("n1", ["n1"])
