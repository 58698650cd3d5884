"""A lab: nodes, lans and a client, raised and taken down as one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import layers, mounts, need
from .layout import CLIENT, Layout, lan_name
from .network import Network
from .node import ENVIRONMENT, Node
from .procs import LabError, run

DATA_SIZE = "20G"
CHECKOUT = Path(__file__).resolve().parents[2]


class Lab:
    """`Lab(name)` finds a lab that is up; `up()` raises one, whatever was there before."""

    def __init__(self, name: str = "lab") -> None:
        if os.geteuid() != 0:
            raise LabError("the lab needs root")
        self.layout = Layout(name)
        self.network = Network(self.layout)
        self.nodes: dict[str, Node] = {}
        self.lans = 0
        if self.layout.description.exists():
            described = json.loads(self.layout.description.read_text())
            self.lans = described["lans"]
            self._know(described["nodes"])

    def _know(self, nodes: list[str]) -> None:
        self.nodes = {node: Node(self.layout, node, self.lans) for node in nodes}

    def __getitem__(self, name: str) -> Node:
        if name not in self.nodes:
            known = ", ".join(self.nodes) or "none; `lab up` raises them"
            raise LabError(f"no node {name!r} (nodes: {known})")
        return self.nodes[name]

    # -- up and down -----------------------------------------------------------------------

    def up(
        self, nodes: int = 2, lans: int = 2, *, product: bool = True, data_size: str = DATA_SIZE
    ) -> None:
        """Raise nodes n1, n2, ... and a client on `lans` lans; with `product`, safepy on them."""
        need.commands("ip", "mount", "mkfs.ext4", "nsenter", "systemd-nspawn")
        with self._alone():
            self._clean()
            installed = [layers.base()]
            if product:
                installed.append(layers.product(CHECKOUT))
            names = [f"n{number}" for number in range(1, nodes + 1)]
            self.layout.shared.mkdir(parents=True)
            self.lans = lans
            self._know(names)
            self.layout.description.write_text(json.dumps({"nodes": names, "lans": lans}))
            self._share()
            self.network.create(names, lans)
            for node in self.nodes.values():
                node.create(installed, data_size, self.hosts())
                node.power_on()
            for node in self.nodes.values():
                node.wait_booted()
        if product:
            self.configure_cluster()

    def down(self) -> None:
        """End and remove everything of this lab; what is gone already is no error."""
        with self._alone():
            self._clean()

    def _clean(self) -> None:
        places = self.layout.root / "nodes"
        left = {path.name for path in places.iterdir()} if places.is_dir() else set()
        for name in sorted(left | set(self.nodes)):
            Node(self.layout, name, self.lans).destroy()
        self.network.remove()
        mounts.unmount_below(self.layout.root)
        if self.layout.root.exists():
            shutil.rmtree(self.layout.root)
        self.nodes = {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` or `down` of this name at a time; the kernel drops the lock of a dead one."""
        self.layout.root.parent.mkdir(parents=True, exist_ok=True)
        with (self.layout.root.parent / f"{self.layout.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"lab {self.layout.name!r} is just going up or down") from None
            yield

    def _share(self) -> None:
        """Programs that the demo and the tests run inside nodes: /lab/programs."""
        source = Path(__file__).parent / "programs"
        if source.is_dir():
            shutil.copytree(source, self.layout.shared / "programs")
        (self.layout.shared / "cluster.xml").write_text(self.cluster_xml())

    def shared_path(self, name: str) -> Path:
        """A file of the machine that nodes see as /lab/NAME; its folder is made."""
        path = self.layout.shared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def share_kit(self) -> None:
        """Make this very package importable inside the nodes, from /lab/kit."""
        kit = self.shared_path("kit/labkit")
        if not kit.exists():
            shutil.copytree(Path(__file__).parent, kit)

    # -- what it is ------------------------------------------------------------------------

    def hosts(self) -> str:
        lines = ["127.0.0.1 localhost"]
        for node in self.nodes.values():
            for lan, address in node.addresses.items():
                alias = f" {node.name}" if lan == lan_name(1) else ""
                lines.append(f"{address} {node.name}-{lan}{alias}")
        return "\n".join(lines) + "\n"

    def cluster_xml(self) -> str:
        lines = ["<cluster>", "  <lans>"]
        for lan in range(1, self.lans + 1):
            command = ' command="on"' if lan == 1 else ""
            lines.append(f'    <lan name="{lan_name(lan)}"{command}>')
            for node in self.nodes.values():
                address = node.addresses[lan_name(lan)]
                lines.append(f'      <node name="{node.name}" addr="{address}"/>')
            lines.append("    </lan>")
        return "\n".join([*lines, "  </lans>", "</cluster>", ""])

    def configure_cluster(self) -> None:
        """What an administrator does once: make the key, carry it over, apply cluster.xml."""
        first, *others = self.nodes.values()
        first.run("safekit", "cluster", "genkey")
        key = first.run("cat", "/var/safekit/cluster/cluster.key").stdout
        for node in others:
            node.write("/var/safekit/cluster/cluster.key", key, 0o600)
        for node in self.nodes.values():
            node.run("safekit", "cluster", "config", "/lab/cluster.xml")

    def describe(self) -> list[dict[str, object]]:
        return [node.describe() for node in self.nodes.values()]

    # -- the client ------------------------------------------------------------------------

    def on_client(self, argv: list[str]) -> list[str]:
        """`argv`, run on a host of the lans that is no node (it shares the machine's files)."""
        namespace = self.layout.namespace(CLIENT)
        if not Path("/run/netns", namespace).exists():
            raise LabError(f"lab {self.layout.name!r} is not up")
        return ["ip", "netns", "exec", namespace, *argv]

    def client(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*self.on_client(list(argv)), check=check, env=self._client_environment())

    def client_popen(self, *argv: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("ab") as sink:
            return subprocess.Popen(
                self.on_client(list(argv)),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=self._client_environment(),
            )

    def _client_environment(self) -> dict[str, str]:
        return os.environ | ENVIRONMENT | {"PYTHONPATH": str(CHECKOUT / "scripts")}
