"""The second act of a story: the faults end, an operator starts what is stopped, and within a
bounded time the pair must be PRIM and SECOND with equal copies."""

from __future__ import annotations

from dataclasses import replace

from cluster import NAMES, Cluster

from safepy.core import events as e
from safepy.model import Disk, State

RECOVERY_S = 60.0


def heal(cluster: Cluster) -> None:
    """No fault goes on from here."""
    cluster.network.heal()
    cluster.arbiters.heal()
    for node in cluster.nodes.values():
        node.disk_full = node.record_fails = False
        node.interface_gone = node.address_sticks = False
        node.hanging.clear()
        node.failing.clear()
        node.script_s, node.save_s = (0.005, 0.3), (0.001, 0.01)
        node.awake()
        node.power_on()
        node.checkers.heal()
        if node.state is not None and node.state.maintenance is not None:
            node.happen(e.MaintenanceSet(None, "", "root"))
        node.params = replace(node.params, maintenance=None)


def settled(cluster: Cluster, may_split: bool) -> bool:
    """Whether the pair stands; does what an operator would do about it."""
    if cluster.pair_ready():
        return True
    if _never_had_data(cluster):
        cluster.act("n1", "prim")  # The first start was cut: an operator begins it again.
    for name in NAMES:
        node = cluster.nodes[name]
        if node.shown is State.STOP:
            cluster.act(name, "start")
        elif may_split and node.state is not None and node.state.remedy == "second":
            # Split more than once (D10): the documented wait for an operator.
            cluster.act(name, "second")
    return False


def _never_had_data(cluster: Cluster) -> bool:
    return all(
        node.shown is State.WAIT
        and node.disk.record.disk is Disk.UNCONFIGURED
        and node.state is not None
        and bool(node.state.blocked)
        for node in cluster.nodes.values()
    )


def recovers(cluster: Cluster, may_split: bool, story: str) -> float:
    """Heal, and see the pair together and at rest in time: how many seconds that took. Raises
    AssertionError with `story`."""
    heal(cluster)
    began = cluster.clock.now
    assert cluster.until(lambda: settled(cluster, may_split), RECOVERY_S), (
        f"{story}: no pair {RECOVERY_S} s after the faults ended\n{cluster.tail(150)}"
    )
    took_s = cluster.clock.now - began
    cluster.write_every_s = 0.0
    cluster.run(2.0)
    assert cluster.until(lambda: settled(cluster, may_split) and cluster.quiet, RECOVERY_S), (
        f"{story}: the pair does not stay together\n{cluster.tail(150)}"
    )
    assert cluster.until(lambda: _preferred_leads(cluster), RECOVERY_S), (
        f"{story}: the preferred node does not lead\n{cluster.tail(150)}"
    )
    cluster.checks.at_rest()
    return took_s


def _preferred_leads(cluster: Cluster) -> bool:
    first = cluster.nodes[NAMES[0]]
    return first.params.defaultprim != first.name or (
        cluster.is_shown(first.name, State.PRIM) and cluster.pair_ready() and cluster.quiet
    )


def both_up(cluster: Cluster, may_split: bool, story: str) -> float:
    """Of light modules: each of them serves again in time, whatever the other one does."""
    heal(cluster)
    began = cluster.clock.now

    def up() -> bool:
        for name in NAMES:
            if cluster.nodes[name].shown is State.STOP:
                cluster.act(name, "start")
        return all(cluster.is_shown(name, State.UP) for name in NAMES)

    assert cluster.until(up, RECOVERY_S), (
        f"{story}: not UP {RECOVERY_S} s after the faults ended\n{cluster.tail(150)}"
    )
    return cluster.clock.now - began
