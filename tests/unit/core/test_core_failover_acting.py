"""What the core believes of a report, and who serves when a rule holds one of two nodes."""

from __future__ import annotations

import pytest

from safepy.core import machine
from safepy.core.commands import SetResource
from safepy.core.election import Situation, Verdict, decide
from safepy.core.events import ResourceChanged
from safepy.core.state import Lane, Params
from safepy.model import PeerView, Record, State, Status


def params() -> Params:
    return Params(
        module="AM",
        node="n1",
        peer="n2",
        cluster_id="c",
        lanes=(Lane("default", 0.5, 4.0),),
        session="s",
        boot_id="b",
        checks=(("tcp.sql", "prim"),),
    )


def test_a_report_on_what_nobody_looks_at_is_not_believed() -> None:
    state = machine.initial(params(), None, 0.0)
    state, commands = machine.step(state, ResourceChanged("tcp.sql", "down", "tcpcheck"), 1.0)
    assert state.resources["tcp.sql"] == "init"
    assert SetResource("tcp.sql", "init") in commands
    state, commands = machine.step(state, ResourceChanged("custom.own", "down", "root"), 2.0)
    assert state.resources["custom.own"] == "down"
    assert not any(isinstance(c, SetResource) and c.name == "custom.own" for c in commands)


@pytest.mark.parametrize(
    ("node", "held", "known", "peer_held", "verdict"),
    [
        ("n1", "", True, "", Verdict.LEAD),
        ("n1", "", False, "", Verdict.WAIT),
        ("n2", "", True, "", Verdict.WAIT),
        ("n2", "", True, "p_router", Verdict.LEAD),
        ("n2", "", True, "init", Verdict.WAIT),
    ],
)
def test_without_data_the_node_that_no_rule_holds_serves(
    node: str, held: str, known: bool, peer_held: str, verdict: Verdict
) -> None:
    other = "n2" if node == "n1" else "n1"
    there = Record(node=other, peer=node)
    peer = PeerView(
        other, State.WAIT, Status.TRANSIENT, there, ready_to_follow=True, held=peer_held
    )
    situation = Situation(
        record=Record(node=node, peer=other),
        lost_volatile=False,
        peer=peer,
        absent=False,
        listened=True,
        has_data=False,
        held=held,
        held_known=known,
    )
    assert decide(situation).verdict is verdict
