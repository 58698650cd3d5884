"""A module's configuration against what surrounds it: the cluster, this node, other modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from safepy.config.schema import Cluster, ModuleConfig
from safepy.config.vip import addresses
from safepy.config.xml import error, shown
from safepy.errors import ConfigError


def check_against(
    config: ModuleConfig,
    cluster: Cluster,
    node: str,
    *,
    file: str = "userconfig.xml",
    lines: Mapping[str, int] | None = None,
    others: Mapping[str, ModuleConfig] | None = None,
    reserved: tuple[str, ...] = (),
) -> str:
    """The name of the peer, if the module can run on `node`; "" for a light module, which has
    none. Raises ConfigError.

    `lines` is `userconfig.Parsed.lines` (for messages), `others` the configurations of the other
    modules of this node by name, `reserved` directories that are safepy's own (SAFE, SAFEVAR).
    """
    where = _Where(file, lines or {})
    if config.mode == "light":
        return ""
    peer = _peer(config, cluster, node, where)
    if config.defaultprim not in ("alone", "lastprim", node, peer):
        text = (
            f'<service> attribute defaultprim="{config.defaultprim}": allowed are alone, lastprim'
        )
        raise where.error("service", f"{text}, {', '.join(sorted((node, peer)))}")
    _check_flow(config, cluster, (node, peer), where)
    _check_directories(config, where, others or {}, reserved)
    _check_addresses(config, cluster, where, others or {})
    return peer


def _check_addresses(
    config: ModuleConfig, cluster: Cluster, where: _Where, others: Mapping[str, ModuleConfig]
) -> None:
    """A virtual address moves with one module: it belongs to no other one, and to no node."""
    taken = {
        address.addr: f"which is a virtual address of module {name}"
        for name, other in others.items()
        for address in addresses(other.vip)
    }
    for lan in cluster.lans:
        for each in lan.nodes:
            owner = f"which is the address of node {each.name} on lan {lan.name}"
            taken |= {each.addr: owner, each.local: owner}
    for address in addresses(config.vip):
        if address.addr in taken:
            text = f'<virtual_addr> attribute addr="{shown(address.addr)}": allowed is no address '
            text += f"that is used already, {taken[address.addr]}"
            raise where.error(f"virtual_addr {address.addr}", text)


def _check_flow(
    config: ModuleConfig, cluster: Cluster, pair: tuple[str, str], where: _Where
) -> None:
    """The legacy `<flow>`: a lan with both nodes, and the one of ident="flow" (11.2)."""
    flow = "" if config.rfs is None else config.rfs.flow
    if not flow:
        return
    text = f'<flow> attribute name="{shown(flow)}": '
    lan = cluster.lan(flow)
    if lan is None:
        known = ", ".join(lan.name for lan in cluster.lans)
        raise where.error("flow", f"{text}no lan of the cluster, allowed are {known}")
    if any(lan.node(name) is None for name in pair):
        raise where.error("flow", f"{text}allowed is a lan with {' and '.join(sorted(pair))}")
    if config.flow_lan != flow:
        found = f'the heartbeat with ident="flow" is on {config.flow_lan}'
        raise where.error("flow", f"{text}{found}, allowed is the same lan")


class _Where:
    """Makes errors that begin with file and line, as far as the line is known."""

    def __init__(self, file: str, lines: Mapping[str, int]) -> None:
        self._file = file
        self._lines = lines

    def error(self, key: str, text: str, hint: str = "") -> ConfigError:
        line = self._lines.get(key)
        if line is None:
            return ConfigError(f"{self._file}: {text}", hint)
        return error(self._file, line, text, hint)


def _peer(config: ModuleConfig, cluster: Cluster, node: str, where: _Where) -> str:
    """The other one of the two nodes that are on every lan of the heartbeats."""
    pair: tuple[str, ...] = ()
    for beat in config.heartbeats:
        text = f'<heartbeat> attribute name="{shown(beat.lan)}": '
        key = f"heartbeat {beat.lan}"
        lan = cluster.lan(beat.lan)
        if lan is None:
            known = ", ".join(lan.name for lan in cluster.lans)
            raise where.error(key, f"{text}no lan of the cluster, allowed are {known}")
        names = tuple(sorted(each.name for each in lan.nodes))
        if len(names) != 2:
            found = f"this lan has {len(names)} nodes ({', '.join(names)})"
            raise where.error(key, f"{text}{found}, allowed for a mirror module are exactly 2")
        if node not in names:
            found = f"this node ({node}) is not on this lan, its nodes are {', '.join(names)}"
            raise where.error(key, text + found)
        if pair and names != pair:
            found = f"its nodes are {', '.join(names)}, allowed are those of the first heartbeat"
            raise where.error(key, f"{text}{found} ({', '.join(pair)})")
        pair = names
    return next(name for name in pair if name != node)


def _check_directories(
    config: ModuleConfig,
    where: _Where,
    others: Mapping[str, ModuleConfig],
    reserved: tuple[str, ...],
) -> None:
    taken = [(PurePosixPath(path), "which belongs to safepy itself") for path in reserved]
    for name, other in others.items():
        if other.rfs is not None:
            owner = f"which module {name} replicates"
            taken += [(PurePosixPath(entry.dir), owner) for entry in other.rfs.replicated]
    for entry in config.rfs.replicated if config.rfs is not None else ():
        path = PurePosixPath(entry.dir)
        for used, owner in taken:
            if path == used or path in used.parents or used in path.parents:
                text = f'<replicated> attribute dir="{shown(entry.dir)}": allowed is nothing that '
                text += f"is, holds or lies in {used}, {owner}"
                raise where.error(f"replicated {entry.dir}", text)
