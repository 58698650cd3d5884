"""Lans between network namespaces: a switch namespace with a bridge for each lan.

A cable is a veth pair: in the host its end is called lan1, in the switch n1.1 (host, lan).
Pulling it takes the switch's end down: the host keeps its address and loses its carrier.
"""

from __future__ import annotations

from pathlib import Path

from .cage import kill_processes
from .layout import CLIENT, Layout, lan_name, node_number
from .procs import run

SWITCH = "switch"


class Network:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def create(self, nodes: list[str], lans: int) -> None:
        switch = self.layout.namespace(SWITCH)
        self._add(switch)
        for lan in range(1, lans + 1):
            run("ip", "-n", switch, "link", "add", lan_name(lan), "type", "bridge")
            run("ip", "-n", switch, "link", "set", lan_name(lan), "up")
        for host in [*nodes, CLIENT]:
            self._add(self.layout.namespace(host))
            for lan in range(1, lans + 1):
                self._cable(switch, host, lan)

    def _add(self, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")

    def _cable(self, switch: str, host: str, lan: int) -> None:
        own, far = self.layout.namespace(host), f"{host}.{lan}"
        device = lan_name(lan)
        run("ip", "-n", switch, "link", "add", far, "type", "veth", "peer", device, "netns", own)
        run("ip", "-n", switch, "link", "set", far, "master", device, "up")
        self.power(host, lan, on=True)

    def power(self, host: str, lan: int, *, on: bool) -> None:
        """A host that loses power loses with it what its kernel knew: the namespace outlives the
        node, and would answer for addresses of a dead one."""
        own, device = self.layout.namespace(host), lan_name(lan)
        run("ip", "-n", own, "address", "flush", "dev", device)
        if on:
            address = self.layout.address(lan, node_number(host))
            run("ip", "-n", own, "address", "add", f"{address}/24", "dev", device)
        run("ip", "-n", own, "link", "set", device, "up" if on else "down")

    def plug(self, host: str, lan: int, *, connected: bool) -> None:
        switch = self.layout.namespace(SWITCH)
        run("ip", "-n", switch, "link", "set", f"{host}.{lan}", "up" if connected else "down")

    def remove(self) -> None:
        """Delete every namespace of this lab, with whatever still runs inside."""
        for path in sorted(Path("/run/netns").glob(f"{self.layout.namespace_prefix}*")):
            inside = run("ip", "netns", "pids", path.name, check=False)
            kill_processes([int(word) for word in inside.stdout.split()])
            run("ip", "netns", "delete", path.name)
