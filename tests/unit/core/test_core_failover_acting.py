"""What the core believes of a report, and who serves when a rule holds one of two nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safepy.core import machine
from safepy.core.commands import SetResource
from safepy.core.election import RELEASE_THERE, Situation, Verdict, decide
from safepy.core.events import ResourceChanged
from safepy.core.state import Lane, Params
from safepy.model import Disk, PeerView, Record, State, Status


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


@pytest.mark.parametrize("has_data", [True, False])
def test_with_failover_off_the_rule_that_holds_the_other_node_is_named_and_changes_nothing(
    has_data: bool,
) -> None:
    here = Record(node="n2", peer="n1", disk=Disk.OUTDATED, gen="g", last_role="S")
    there = Record(node="n1", peer="n2", disk=Disk.UPTODATE, gen="g", last_role="P")
    peer = PeerView(
        "n1", State.WAIT, Status.NOT_READY, there, ready_to_follow=True, held="p_router"
    )
    situation = Situation(
        record=here,
        lost_volatile=False,
        peer=replace(peer, failover=False),
        absent=False,
        listened=True,
        has_data=has_data,
        failover=False,
    )
    found = decide(situation)
    assert found.verdict is Verdict.WAIT and found.blocked and found.remedy == RELEASE_THERE
    assert "p_router keeps the other node from serving" in found.sentence
    free = decide(replace(situation, peer=replace(peer, held="", failover=False)))
    assert free.verdict is Verdict.WAIT and not free.blocked
