"""What stands beside the state while a node serves alone by its time-out (protocol 7, E6)."""

from __future__ import annotations

from dataclasses import replace

from safepy.core.machine import initial
from safepy.core.state import Lane, ModuleState, Params
from safepy.core.status import snapshot
from safepy.model import State


def alone(evidence: str) -> ModuleState:
    lanes = (Lane("default", 0.7, 30.0),)
    params = Params(
        module="m",
        node="a",
        peer="b",
        cluster_id="c",
        lanes=lanes,
        session="5" * 32,
        boot_id="x",
    )
    state = initial(params, None, 0.0)
    return replace(state, state=State.ALONE, evidence=evidence)


def test_a_node_alone_by_its_time_out_says_that_the_brain_may_be_split() -> None:
    (note,) = snapshot(alone("E6"), 0.0, now=100.0).notes
    assert note.startswith("split brain possible")


def test_a_node_alone_by_the_other_nodes_word_does_not() -> None:
    assert snapshot(alone("E1"), 0.0, now=100.0).notes == ()
    assert snapshot(alone("E0"), 0.0, now=100.0).notes == ()
