"""Stories of a pair: between them every plan, and the rows that random days seldom take."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from cluster import NAMES, TIMEOUT_S, Cluster

from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.state import Link
from safepy.model import Disk, State

Story = Callable[[Cluster], None]


def first_start(cluster: Cluster) -> None:
    cluster.form_pair()


def take_over(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.nodes["n1"].power_off()
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    cluster.nodes["n1"].power_on()
    cluster.until(cluster.pair_ready, 30)


def clean_stop_of_primary(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.act("n1", "stop")
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    cluster.act("n1", "start")
    cluster.until(cluster.pair_ready, 30)


def clean_stop_of_secondary(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.act("n2", "stop")
    cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30)
    cluster.act("n2", "start")
    cluster.until(cluster.pair_ready, 30)


def stop_of_both(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.act("n1", "stop")
    cluster.act("n2", "stop")
    cluster.until(lambda: all(cluster.nodes[n].shown is State.STOP for n in NAMES), 30)


def swap(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.act("n1", "swap")
    cluster.until(lambda: cluster.is_shown("n2", State.PRIM), 30)


def swap_without_end(cluster: Cluster) -> None:
    """The secondary is lost after the application was stopped for it."""
    cluster.form_pair()
    cluster.act("n1", "swap")
    cluster.run(0.2)
    cluster.nodes["n2"].power_off()
    cluster.run(2 * TIMEOUT_S)
    cluster.nodes["n2"].power_on()
    cluster.until(cluster.pair_ready, 30)


def restarts(cluster: Cluster) -> None:
    cluster.form_pair()
    for name in NAMES:
        cluster.act(name, "restart")
    cluster.run(3.0)


def stopstart_of_primary(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.act("n1", "stopstart")
    cluster.run(2.0)
    cluster.until(cluster.pair_ready, 30)


def worker_of_primary_dies(cluster: Cluster) -> None:
    cluster.form_pair()
    cluster.nodes["n1"].kill_worker()
    cluster.run(2.0)
    cluster.until(cluster.pair_ready, 30)


def primary_sleeps(cluster: Cluster) -> None:
    """Frozen until the other one leads; it gives way when it wakes."""
    cluster.form_pair()
    cluster.nodes["n1"].freeze()
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    cluster.nodes["n1"].awake()
    cluster.until(cluster.pair_ready, 30)


def gives_way_while_it_stops(cluster: Cluster) -> None:
    """Asleep in the middle of a stop, and overtaken meanwhile."""
    cluster.form_pair()
    node = cluster.nodes["n1"]
    node.hanging.add("stop_prim")
    cluster.act("n1", "stop")
    cluster.run(0.3)
    node.freeze()
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    node.awake()
    cluster.until(lambda: node.shown is State.STOP, 30)


def refused_alone(cluster: Cluster) -> None:
    """The secondary is lost while it joins, and the witness does not answer."""
    cluster.form_pair()
    cluster.act("n2", "stop")
    cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30)
    cluster.act("n2", "start")
    _until_link(cluster, Link.JOINING)
    _refused(cluster)


def refused(cluster: Cluster) -> None:
    """The secondary is lost, and the witness does not answer."""
    cluster.form_pair()
    _refused(cluster)


def _refused(cluster: Cluster) -> None:
    cluster.arbiters.witness_cut.update(NAMES)
    cluster.nodes["n2"].power_off()
    cluster.until(lambda: cluster.nodes["n1"].shown is State.WAIT, 60)
    cluster.arbiters.heal()
    cluster.nodes["n2"].power_on()
    cluster.until(cluster.pair_ready, 60)


def _until_link(cluster: Cluster, link: Link) -> None:
    node, end = cluster.nodes["n1"], cluster.clock.now + 20
    while cluster.clock.now < end and not (node.state and node.state.link is link):
        cluster.run(0.001)


def primary_without_files_sleeps(cluster: Cluster) -> None:
    """Nothing tells who has the newest: of two that lead, one gives way by a rule for it. After a
    swap it is the other one."""
    primary_sleeps(cluster)
    cluster.act(_leader(cluster), "swap")
    cluster.run(3.0)
    cluster.until(cluster.pair_ready, 30)
    leader = _leader(cluster)
    cluster.nodes[leader].freeze()
    cluster.until(lambda: cluster.is_shown(*_other_alone(cluster, leader)), 30)
    cluster.nodes[leader].awake()
    cluster.until(cluster.pair_ready, 30)


def _leader(cluster: Cluster) -> str:
    return next((name for name in NAMES if cluster.is_shown(name, State.PRIM)), "n1")


def _other_alone(cluster: Cluster, name: str) -> tuple[str, State]:
    return cluster.nodes[name].params.peer, State.ALONE


def source_sleeps_at_the_join(cluster: Cluster) -> None:
    """The secondary has adopted what it got; the primary sleeps before it knows."""
    cluster.form_pair()
    cluster.act("n2", "stop")
    cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30)
    cluster.act("n2", "start")
    _until_link(cluster, Link.JOINING)
    end = cluster.clock.now + 5
    while cluster.clock.now < end and cluster.nodes["n2"].disk.record.disk is not Disk.UPTODATE:
        cluster.run(0.0001)
    cluster.nodes["n1"].freeze()
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    cluster.nodes["n1"].awake()
    cluster.until(cluster.pair_ready, 30)


def forced_while_the_leader_sleeps(cluster: Cluster) -> None:
    """What the sleeping node has acknowledged is given up by an operator's word."""
    cluster.form_pair()
    cluster.act("n2", "stop")
    cluster.until(lambda: cluster.nodes["n2"].shown is State.STOP, 30)
    cluster.nodes["n1"].freeze()
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "start")
    cluster.run(2 * TIMEOUT_S)
    cluster.act("n2", "prim")
    cluster.until(lambda: cluster.is_shown("n2", State.ALONE), 30)
    cluster.nodes["n1"].awake()
    cluster.until(cluster.pair_ready, 30)


#: What a story needs beside two ordinary nodes.
NEEDS: dict[Story, dict[str, object]] = {
    refused: {"arbitration": Arbitration(required=(Arbiter.WITNESS,))},
    refused_alone: {"arbitration": Arbitration(required=(Arbiter.WITNESS,))},
    primary_without_files_sleeps: {"has_rfs": False},
}

STORIES: tuple[Story, ...] = (
    refused_alone,
    refused,
    primary_without_files_sleeps,
    source_sleeps_at_the_join,
    forced_while_the_leader_sleeps,
    first_start,
    take_over,
    clean_stop_of_primary,
    clean_stop_of_secondary,
    stop_of_both,
    swap,
    swap_without_end,
    restarts,
    stopstart_of_primary,
    worker_of_primary_dies,
    primary_sleeps,
    gives_way_while_it_stops,
)


def new_cluster(story: Story) -> Cluster:
    return Cluster(zlib.crc32(story.__name__.encode()) % 1000, **NEEDS.get(story, {}))  # type: ignore[arg-type]
