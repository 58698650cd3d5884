"""What a module is made from: its configuration, checked against the cluster and resolved."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from safepy.config.paths import ModulePaths
from safepy.config.schema import Cluster, ModuleConfig
from safepy.config.vip import Interface, generated_checks
from safepy.daemon.site import resolve
from safepy.daemon.trees import Tree, Trees
from safepy.daemon.worker_link import WorkerPlan
from safepy.host.netlink import own_interfaces
from safepy.net.lanes import LaneEnds
from safepy.wire.secure import module_key
from safepy.worker import messages

#: Ports (reference 2.2).
HEART_PORT = 8888
RFS_PORT = 5600
RFS_PORT_STEP = 4
log = logging.getLogger(__name__)

WORKER_ARGV = (sys.executable, "-m", "safepy.worker")


def heart_port(module_id: int) -> int:
    return HEART_PORT + module_id - 1


def rfs_port(module_id: int) -> int:
    return RFS_PORT + (module_id - 1) * RFS_PORT_STEP


@dataclass(frozen=True, slots=True)
class Plan:
    """What a module is made from: its configuration, checked and resolved."""

    paths: ModulePaths
    module_id: int
    config: ModuleConfig
    node: str
    peer: str
    #: One for each heartbeat, in the configuration's order, addresses resolved.
    lanes: tuple[LaneEnds, ...]
    flow_local: str
    flow_peer: str

    @property
    def name(self) -> str:
        return self.paths.name


def plan_module(
    paths: ModulePaths, module_id: int, config: ModuleConfig, cluster: Cluster, node: str, peer: str
) -> Plan:
    """Raises ConfigError for a name that cannot be resolved. Blocks for names and the kernel."""
    if config.vip is not None:
        generated = generated_checks(config.vip, cluster, node, _own_interfaces(), config.checks)
        config = replace(config, checks=(*config.checks, *generated))
    if config.mode == "light":
        return Plan(paths, module_id, config, node, "", (), "", "")
    port = config.port or heart_port(module_id)
    flow_local, flow_peer = _ends(cluster, config.flow_lan, node, peer)
    lanes = []
    for beat in config.heartbeats:
        local, remote = _ends(cluster, beat.lan, node, peer)
        lanes.append(LaneEnds(beat.ident, local, remote, port))
    return Plan(paths, module_id, config, node, peer, tuple(lanes), flow_local, flow_peer)


def _own_interfaces() -> tuple[Interface, ...]:
    try:
        return own_interfaces()
    except OSError as error:
        # Then cluster.xml has to do.
        log.warning("the addresses of this node cannot be read: %s", error)
        return ()


def _ends(cluster: Cluster, lan_name: str, node: str, peer: str) -> tuple[str, str]:
    lan = cluster.lan(lan_name)
    mine, theirs = (None, None) if lan is None else (lan.node(node), lan.node(peer))
    assert mine is not None and theirs is not None, "check_against has looked"
    return resolve(mine.local), resolve(theirs.addr)


def trees_of(paths: ModulePaths, config: ModuleConfig) -> Trees | None:
    """The replicated directories of a configuration; None without `<rfs>`."""
    if config.rfs is None:
        return None
    trees: Sequence[Tree] = [
        Tree(entry.dir, str(paths.door(number)), entry.tocheck)
        for number, entry in enumerate(config.rfs.replicated)
    ]
    return Trees(paths.name, trees, str(paths.state_dir / "tree-id"))


def worker_plan(plan: Plan, trees: Trees, cluster_key: bytes) -> WorkerPlan:
    """How the worker of this module is started, and its first order."""
    config, paths = plan.config, plan.paths
    rfs = config.rfs
    assert rfs is not None, "only modules with <rfs> have a worker"
    port = rfs_port(plan.module_id)
    detection_s = max(beat.timeout_s for beat in config.heartbeats)
    return WorkerPlan(
        argv=(*WORKER_ARGV, plan.name),  # only for people: whose process is it?
        pid_path=str(paths.state_dir / "worker.pid"),
        silence_s=detection_s / 3,
        setup=messages.Setup(
            step_id=0,
            module=plan.name,
            node=plan.node,
            peer=plan.peer,
            key=module_key(cluster_key, plan.name).hex(),
            listen=(plan.flow_local, port),
            dial=(plan.flow_peer, port),
            paths=[tree.directory for tree in trees.trees],
            doors=[tree.door for tree in trees.trees],
            acknowledge_on=rfs.acknowledge_on,
            acl=rfs.acl,
            transfers=rfs.transfers,
            locktimeout_s=rfs.locktimeout_s,
            sendtimeout_s=rfs.sendtimeout_s,
            keep_dir=str(paths.kept),
            state_dir=str(paths.state_dir),
            notreplicated=[entry.notreplicated for entry in rfs.replicated],
            reiallowedbw_bytes_s=rfs.reiallowedbw_bytes_s,
            reicommit_bytes=rfs.reicommit_bytes,
            reitimeout_s=rfs.reitimeout_s,
            reidetail=rfs.reidetail,
            kept_closed=trees.kept_closed,
        ),
    )
