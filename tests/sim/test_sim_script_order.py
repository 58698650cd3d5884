"""Reference 10.3 and 10.4 as a table: for each change of a mirror module every script that is
called, in order, with its arguments. What differs on purpose is in docs/differences.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster import NAMES, Cluster

from safepy.core import events as e
from safepy.model import State

Story = Callable[[Cluster], None]


def end(action: str) -> str:
    """WAIT -> STOP."""
    return f"""
        stop_sec force WAIT STOP {action}
        stop_prim force WAIT STOP {action}
        stop_second force WAIT STOP {action}
        stop_both force WAIT STOP {action}
        poststop WAIT STOP {action}
        transition WAIT STOP {action}
        """


BEGIN = """
    transition STOP WAIT start
    prestart STOP WAIT start
    """
LEAD = """
    transition WAIT ALONE start
    start_both WAIT ALONE start
    start_prim WAIT ALONE start
    start_sec WAIT ALONE start
    """
FOLLOW = """
    transition WAIT SECOND start
    start_both WAIT SECOND start
    start_second WAIT SECOND start
    start_sec WAIT SECOND start
    """
JOINED = """
    stop_sec ALONE PRIM start
    transition ALONE PRIM start
    """
LEFT = """
    transition PRIM ALONE start
    start_sec PRIM ALONE start
    """
TAKE_OVER = """
    stop_second SECOND ALONE start
    transition SECOND ALONE start
    start_prim SECOND ALONE start
    """


def down(state: str, action: str, *roles: str) -> str:
    """ALONE, PRIM or SECOND -> WAIT: graceful calls only."""
    calls = [f"stop_{role} {state} WAIT {action}" for role in roles]
    return "\n".join([*calls, f"transition {state} WAIT {action}"])


def again(state: str, *roles: str) -> str:
    """A restart: every stop script twice, in the order of stops; then all that runs there."""
    order = [role for role in ("sec", "prim", "second", "both") if role in roles]
    calls = [
        f"stop_{role} {force}{state} {state} stop" for role in order for force in ("", "force ")
    ]
    order = [role for role in ("both", "prim", "second", "sec") if role in roles]
    return "\n".join([*calls, *(f"start_{role} {state} {state} start" for role in order)])


def to_second(state: str) -> str:
    """A primary that gives way: the second, forced call follows the first at once."""
    return f"""
        stop_prim {state} SECOND stop
        stop_prim force {state} SECOND stop
        transition {state} SECOND stop
        start_second SECOND SECOND start
        """


def nothing(_: Cluster) -> None:
    pass


def alone(cluster: Cluster) -> None:
    cluster.act("n1", "prim")
    shown(cluster, n1=State.ALONE)


def pair(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.run(2.0)


def act(node: str, action: str, identity: str = "") -> Story:
    return lambda cluster: cluster.act(node, action, identity or "root", identity)


def isolated(cluster: Cluster) -> None:
    """Both lead for a while; then the network is back."""
    cluster.network.cut_lanes(*NAMES)
    cluster.cut_stream()
    shown(cluster, n1=State.ALONE, n2=State.ALONE)
    cluster.run(2.0)
    cluster.network.heal()


def without_failover(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.happen(e.FailoverSet(False))
    cluster.run(2.0)
    cluster.story.clear()
    cluster.act("n1", "stop")


def shown(cluster: Cluster, **states: State) -> None:
    def holds() -> bool:
        return all(
            node.shown is state if state is State.STOP else cluster.is_shown(name, state)
            for name, state in states.items()
            for node in (cluster.nodes[name],)
        )

    assert cluster.until(holds, 60), cluster.tail()
    cluster.run(1.0)


#: What it is called in the reference, how it begins, what happens, where both nodes are then, and
#: the scripts of one of them.
ROWS: dict[str, tuple[Story, Story, dict[str, State], str, str]] = {
    "STOP -> WAIT -> ALONE": (nothing, act("n1", "prim"), {"n1": State.ALONE}, "n1", BEGIN + LEAD),
    "STOP -> WAIT -> SECOND": (
        alone,
        act("n2", "start"),
        {"n2": State.SECOND},
        "n2",
        BEGIN + FOLLOW,
    ),
    "ALONE -> PRIM": (alone, act("n2", "start"), {"n1": State.PRIM}, "n1", JOINED),
    "PRIM -> ALONE, the secondary stopped": (
        pair,
        act("n2", "stop"),
        {"n1": State.ALONE, "n2": State.STOP},
        "n1",
        LEFT,
    ),
    "PRIM -> ALONE, the secondary is lost": (
        pair,
        lambda c: c.nodes["n2"].power_off(),
        {"n1": State.ALONE},
        "n1",
        LEFT,
    ),
    "SECOND -> ALONE, remote stop": (
        pair,
        act("n1", "stop"),
        {"n1": State.STOP, "n2": State.ALONE},
        "n2",
        TAKE_OVER,
    ),
    "SECOND -> ALONE, no heartbeat": (
        pair,
        lambda c: c.nodes["n1"].power_off(),
        {"n2": State.ALONE},
        "n2",
        TAKE_OVER,
    ),
    "PRIM -> SECOND, swap": (
        pair,
        act("n1", "swap"),
        {"n1": State.SECOND, "n2": State.PRIM},
        "n1",
        to_second("PRIM") + "start_sec SECOND SECOND start",
    ),
    "SECOND -> PRIM, swap": (
        pair,
        act("n2", "swap"),
        {"n1": State.SECOND, "n2": State.PRIM},
        "n2",
        TAKE_OVER + JOINED,
    ),
    "ALONE -> SECOND, split brain": (
        pair,
        isolated,
        {"n1": State.PRIM, "n2": State.SECOND},
        "n2",
        TAKE_OVER + to_second("ALONE"),
    ),
    "restart in ALONE": (
        alone,
        act("n1", "restart"),
        {"n1": State.ALONE},
        "n1",
        again("ALONE", "both", "prim", "sec"),
    ),
    "restart in PRIM": (
        pair,
        act("n1", "restart"),
        {"n1": State.PRIM},
        "n1",
        again("PRIM", "both", "prim"),
    ),
    "restart in SECOND": (
        pair,
        act("n2", "restart"),
        {"n2": State.SECOND},
        "n2",
        again("SECOND", "both", "second", "sec"),
    ),
    "ALONE -> WAIT -> STOP": (
        alone,
        act("n1", "stop"),
        {"n1": State.STOP},
        "n1",
        down("ALONE", "stop", "sec", "prim", "both") + end("stop"),
    ),
    "PRIM -> WAIT -> STOP": (
        pair,
        act("n1", "stop"),
        {"n1": State.STOP},
        "n1",
        down("PRIM", "stop", "prim", "both") + end("stop"),
    ),
    "SECOND -> WAIT -> STOP": (
        pair,
        act("n2", "stop"),
        {"n2": State.STOP},
        "n2",
        down("SECOND", "stop", "sec", "second", "both") + end("stop"),
    ),
    "shutdown": (
        alone,
        act("n1", "shutdown"),
        {"n1": State.STOP},
        "n1",
        down("ALONE", "stop", "sec", "prim", "both") + end("stop"),
    ),
    "stopstart of a primary": (
        pair,
        act("n1", "stopstart"),
        {"n1": State.SECOND, "n2": State.PRIM},
        "n1",
        down("PRIM", "stopstart", "prim", "both") + end("stopstart") + BEGIN + FOLLOW,
    ),
    "stopstart of a secondary": (
        pair,
        act("n2", "stopstart", identity="errd"),
        {"n1": State.PRIM, "n2": State.SECOND},
        "n2",
        down("SECOND", "stopstart", "sec", "second", "both") + end("stopstart") + BEGIN + FOLLOW,
    ),
    "failover off, the primary stops": (
        pair,
        without_failover,
        {"n1": State.STOP},
        "n2",
        down("SECOND", "stopstart", "sec", "second", "both") + end("stopstart") + BEGIN,
    ),
    "failover off|on calls update": (
        pair,
        lambda c: c.nodes["n1"].happen(e.FailoverSet(False)),
        {"n1": State.PRIM},
        "n1",
        "update PRIM PRIM",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_scripts_of_a_change(row: str) -> None:
    before, happens, after, node, expected = ROWS[row]
    cluster = Cluster(0, write_every_s=0.5)
    for each in cluster.nodes.values():
        each.script_s = (0.05, 0.05)
    before(cluster)
    cluster.story.clear()
    happens(cluster)
    cluster.run(0.2)
    shown(cluster, **after)
    calls = [
        text.removeprefix("  run ")
        for _, name, text in cluster.story
        if name == node and text.startswith("  run ")
    ]
    assert calls == [line.strip() for line in expected.splitlines() if line.strip()], row


def test_a_forced_stop_that_failed_is_called_once_more_and_only_that_one() -> None:
    cluster = Cluster(0)
    alone(cluster)
    cluster.nodes["n1"].failing.add("stop_prim")
    cluster.story.clear()
    cluster.act("n1", "stop")
    shown(cluster, n1=State.STOP)
    forced = [text.split()[1] for _, _, text in cluster.story if " force " in text]
    assert forced == ["stop_sec", "stop_prim", "stop_second", "stop_both", "stop_prim"]
