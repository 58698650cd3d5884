"""A configuration's virtual addresses against this node, at `safekit config`."""

from __future__ import annotations

import ipaddress
import socket

from safepy.config import vip, xml
from safepy.config.paths import ModulePaths
from safepy.config.schema import Cluster
from safepy.config.userconfig import Parsed
from safepy.daemon.node import active_config
from safepy.daemon.site import resolve as resolve_node
from safepy.errors import ConfigError, LocalFault, SafekitError
from safepy.host import virtualip


def resolve(name: str) -> list[str]:
    """The addresses of a host name. Raises OSError. Blocks."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(entry[4][0]) for entry in found]


def check(parsed: Parsed, file: str, cluster: Cluster, paths: ModulePaths) -> list[str]:
    """What an administrator should know although nothing is wrong. Raises ConfigError; blocks."""
    notes: list[str] = []
    if parsed.config.vip is None:
        return notes
    nodes = _nodes(cluster)
    mine = {address.addr for address in vip.addresses(_active(paths))}
    for interface in parsed.config.vip.interfaces:
        for address in interface.addresses:
            line = parsed.lines.get(f"virtual_addr {address.addr}", 0)
            what = f'<virtual_addr> attribute addr="{address.addr}"'
            if address.addr in nodes:
                text = f"{what}: allowed is no address that is used already, which is of node "
                raise xml.error(file, line, text + nodes[address.addr])
            try:
                if address.addr not in mine and virtualip.is_here(address.addr):
                    text = f"{what}: this node has this address already"
                    hint = f"only the module may set it: ip address del {address.addr}/... dev ..."
                    raise xml.error(file, line, text, hint)
                virtualip.interface_for(virtualip.Wanted(address.addr, interface.name))
            except LocalFault as error:
                notes.append(f"line {line}: {error.message}: the module could not start now")
            except OSError as error:
                notes.append(f"line {line}: the addresses of this node cannot be read: {error}")
    return notes


def _active(paths: ModulePaths) -> vip.Vip | None:
    try:
        return active_config(paths).vip
    except (SafekitError, OSError):
        return None


def _nodes(cluster: Cluster) -> dict[str, str]:
    """The addresses of the nodes, names among them resolved."""
    found = {}
    for lan in cluster.lans:
        for node in lan.nodes:
            for text in {node.addr, node.local}:
                try:
                    address = ipaddress.ip_address(resolve_node(text))
                except (ConfigError, ValueError):
                    continue  # what is wrong with it is said elsewhere
                found[str(address)] = f"{node.name} on lan {lan.name}"
    return found
