"""`safekit plan` and `safekit why`: what they say, against what the simulated pair then does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cluster import TIMEOUT_S, Cluster
from node import Node

from safepy.core import events as e
from safepy.core.cost import cost
from safepy.core.preview import preview
from safepy.core.status import snapshot
from safepy.core.why import Why, sentences, why
from safepy.model import Snapshot, State

WALL = 1_700_000_000.0


def pair(seed: int = 3, **more: object) -> Cluster:
    cluster = Cluster(seed, **more)  # type: ignore[arg-type]
    cluster.form_pair()
    cluster.run(2.0)
    return cluster


def planned(node: Node, action: str) -> list[str]:
    assert node.state is not None
    before = repr(node.state)
    said = preview(node.state, action, node.clock_now())
    assert repr(node.state) == before, "a plan is a question"
    return list(said)


def scripts(said: list[str]) -> list[str]:
    """As the simulator's log names them."""
    return [
        line.removeprefix("script ").partition(",")[0] for line in said if line[:7] == "script "
    ]


def ran(node: Node, since: float) -> list[str]:
    return [
        text.removeprefix("  run ")
        for at, text in node.trace
        if at >= since and text.startswith("  run ")
    ]


def settled(node: Node, state: State) -> Callable[[], bool]:
    return lambda: node.cluster.is_shown(node.name, state) or node.shown is State.STOP is state


@pytest.mark.parametrize(
    ("name", "action", "end"),
    [
        ("n1", "stop", State.STOP),
        ("n2", "stop", State.STOP),
        ("n1", "restart", State.PRIM),
        ("n2", "restart", State.SECOND),
    ],
)
def test_the_scripts_that_are_planned_are_those_that_run(
    name: str, action: str, end: State
) -> None:
    cluster = pair()
    node = cluster.nodes[name]
    said = scripts(planned(node, action))
    since = cluster.clock.now
    cluster.act(name, action)
    cluster.run(0.01)
    assert cluster.until(settled(node, end), 30.0), cluster.tail()
    assert said == ran(node, since)
    assert said


def test_a_planned_swap_ends_where_the_other_node_takes_over() -> None:
    cluster = pair()
    n1 = cluster.nodes["n1"]
    said = planned(n1, "swap")
    since = cluster.clock.now
    cluster.act("n1", "swap")
    assert cluster.until(cluster.pair_ready, 30.0)
    wanted = scripts(said)
    assert wanted == ran(n1, since)[: len(wanted)]
    assert "PRIM -> SECOND: roles are exchanged" in said
    assert said[-1] == "n2 leads and starts the application; then this node is its secondary"


def test_a_swap_that_is_asked_of_the_secondary_is_asked_of_the_primary() -> None:
    cluster = pair()
    said = planned(cluster.nodes["n2"], "swap")
    assert said == [
        "asks n1, which is primary, to exchange the roles",
        "its steps: safekit plan swap -m AM on n1; then this node leads and starts the application",
    ]
    cluster.act("n2", "swap")
    assert cluster.until(lambda: cluster.is_shown("n2", State.PRIM), 30.0), cluster.tail()


def test_what_is_under_way_ends_before_the_plan_goes_on() -> None:
    cluster = pair()
    n1 = cluster.nodes["n1"]
    cluster.act("n1", "swap")
    assert cluster.until(lambda: n1.state is not None and n1.state.script != 0, 30.0)
    before = len(ran(n1, 0.0))
    said = planned(n1, "stop")
    assert said[0] == "what is under way comes to its end first"
    cluster.act("n1", "stop")
    assert cluster.until(lambda: n1.shown is State.STOP, 30.0), cluster.tail()
    assert said[-1] != "nothing happens: the module is PRIM"
    assert scripts(said) and scripts(said) == ran(n1, 0.0)[before:]


def test_a_planned_start_on_a_stopped_node_says_how_far_it_goes() -> None:
    cluster = pair()
    cluster.act("n2", "stop")
    assert cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30.0)
    cluster.run(TIMEOUT_S)
    said = planned(cluster.nodes["n2"], "start")
    assert scripts(said) == ["transition STOP WAIT start", "prestart STOP WAIT start"]
    assert said[-1] == "is brought up to date by n1"


def test_what_is_refused_is_said() -> None:
    cluster = pair()
    cluster.act("n2", "stop")
    assert cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30.0)
    (said,) = planned(cluster.nodes["n1"], "swap")
    assert said.startswith("Action swap ignored")


def test_a_stop_without_failover_says_that_nobody_takes_over() -> None:
    cluster = pair(failover=False)
    said = planned(cluster.nodes["n1"], "stop")
    assert said[-1] == "n2 does not take over: automatic failover is off"


def test_a_stop_while_the_secondary_is_in_maintenance_is_told_to_leave_nobody() -> None:
    """The plan, the question before the command, and `why` before and after it."""
    cluster = pair()
    n1, n2 = (cluster.nodes[name] for name in ("n1", "n2"))
    assert cost(shown(n1), "stop", WALL) == ""
    n2.happen(e.MaintenanceSet(n2.clock_now() + 7200.0, "new disks", "root"))
    cluster.run(2.0)
    for action in ("stop", "stopstart", "shutdown"):
        assert planned(n1, action)[-1] == (
            "n2 does not take over: it is in maintenance; nobody serves until that ends"
        )
        price = cost(shown(n1), action, shown(n1).peer_maintenance_until - 7000.0)
        assert price == (
            "n2 is in maintenance, for another 2 hours, and does not take over: the application is "
            "down until that ends (to move it there: safekit swap)"
        )
        assert cost(shown(n2), action, WALL) == "", "the secondary may go: n1 serves on"
    assert planned(n1, "swap")[-1].startswith("n2 leads")
    said = explained(n1)
    assert said["waits for"] == "the end of the maintenance of n2: until then it does not take over"
    assert said["to end it"] == "safekit maintenance off -m AM on n2"
    now = shown(n1).peer_maintenance_until - 7000.0
    assert whole(n1, now).maintenance == ("of n2, for another 1 h 56 min: it does not take over",)
    assert whole(n2, now).maintenance == (
        "for another 1 h 56 min, by root (new disks): nothing happens by itself here "
        "(safekit maintenance off -m AM)",
    )

    cluster.act("n1", "stop")
    assert cluster.until(lambda: n1.shown is State.STOP, 30.0)
    said = explained(n1)
    assert said["waits for"] == "the end of the maintenance of n2: until then nobody serves"
    assert said["to end it"] == "safekit maintenance off -m AM on n2; then it takes over"

    cluster.act("n1", "start")
    assert cluster.until(lambda: n1.state is not None and bool(n1.state.blocked), 30.0)
    said = explained(n1, shown(n1).peer_maintenance_until - 7000.0)
    assert said["waits for"] == (
        "the other node has the newest data, and in maintenance it does not take over"
    )
    assert said["ends"] == "by itself with the maintenance of n2, in 2 hours at most"
    assert said["to end it"] == (
        "safekit maintenance -m AM off on n2; then it takes over; or, to serve from here: "
        "safekit prim -m AM; n2 then gets everything anew"
    )
    # What is to be typed does what is said of it.
    cluster.act("n1", "prim")
    assert cluster.until(lambda: cluster.is_shown("n1", State.PRIM), 60.0), cluster.tail()


# Why.


def shown(node: Node) -> Snapshot:
    assert node.state is not None
    return snapshot(node.state, WALL, node.clock_now())


def whole(node: Node, wall_now: float = WALL) -> Why:
    assert node.state is not None
    return why(snapshot(node.state, wall_now, node.clock_now()), wall_now)


def explained(node: Node, wall_now: float = WALL) -> dict[str, str]:
    answer = whole(node, wall_now)
    return {
        "state": answer.state,
        "story": "\n".join(text for _, text in answer.story),
        **dict(sentences(answer)),
    }


def test_a_pair_in_sync_waits_for_nothing_and_tells_how_it_came_about() -> None:
    cluster = pair()
    said = explained(cluster.nodes["n1"])
    assert said["state"] == "PRIM Ready"
    assert "waits for" not in said
    assert "Action prim called by root" in said["story"]
    assert "Leads (prim): first start, by an operator" in said["story"]
    assert "ALONE -> PRIM: the secondary is in sync" in said["story"]


def test_what_is_switched_off_is_said() -> None:
    found = shown(pair(failover=False).nodes["n2"])
    here = "automatic failover is off: this node does not take over (safekit failover on -m AM)"
    assert why(found, WALL).notes == (here,)
    assert why(shown(pair().nodes["n2"]), WALL).notes == ()
    for name, value, sentence in (
        (
            "errd",
            "off",
            "the process checker is off: no process is watched (safekit errd on -m AM)",
        ),
        ("checker", "off", "the checks are off: nothing is tested (safekit checker on -m AM)"),
        ("boot", "off", ""),
        ("errd", "on", ""),
    ):
        switched = replace(found, resources=((f"usersetting.{name}", value, WALL),))
        assert why(switched, WALL).notes == ((sentence,) if sentence else ())
    # Of the other node it concerns this one that it would not take over.
    other = replace(found, resources=(), peer_resources=(("usersetting.failover", "off"),))
    assert why(other, WALL).notes == ("automatic failover is off on n1: it does not take over",)


def test_what_a_detector_found_is_the_evidence_of_its_restart() -> None:
    cluster = pair()
    n1 = cluster.nodes["n1"]
    found = "Process postgres not running"
    n1.happen(e.ActionRequested("restart", "errd", "errd", because=found))
    assert f"{found}\nAction restart called by errd" in explained(n1)["story"]


def test_a_take_over_names_its_evidence_and_what_is_missing() -> None:
    cluster = pair()
    cluster.nodes["n1"].power_off()
    n2 = cluster.nodes["n2"]
    assert cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30.0)
    said = explained(n2)
    assert "Permission to serve alone (E6)" in said["story"]
    assert "SECOND -> ALONE: took over: the primary is lost" in said["story"]
    assert said["waits for"].startswith("n1, which is not heard")
    assert said["to end it"] == "safekit start -m AM on n1"


def test_the_price_of_prim_is_told_in_time() -> None:
    cluster = pair()
    node = cluster.nodes["n1"]
    node.power_off()
    assert cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30.0)
    cluster.nodes["n2"].power_off()
    node.power_on()
    assert cluster.until(
        lambda: node.state is not None and bool(node.state.blocked), 4 * TIMEOUT_S
    ), cluster.tail()
    assert node.state is not None
    in_sync_at = node.state.record.synced_at
    assert in_sync_at > 0
    said = explained(node, in_sync_at + 170.0)
    assert said["state"] == "WAIT NotReady"
    assert "n2 to start and to lead" in said["waits for"]
    assert said["to end it"].startswith("safekit start -m AM on n2; or, if n2 is lost for good")
    # What `prim` costs is said where it is typed.
    answer = snapshot(node.state, in_sync_at + 170.0, node.clock_now())
    assert "its last 3 minutes of writes would be set aside" in cost(
        answer, "prim", in_sync_at + 170.0
    )
