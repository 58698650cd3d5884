"""Names, places and addresses of a lab; all derived from its name."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from .procs import LabError

STATE = Path("/var/lib/safepy-lab")
CLIENT = "client"
CLIENT_NUMBER = 200


@dataclass(frozen=True)
class Layout:
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", self.name):
            raise LabError(f"lab name {self.name!r}: lower-case letters and digits, at most 16")

    @property
    def root(self) -> Path:
        return STATE / "labs" / self.name

    @property
    def description(self) -> Path:
        return self.root / "lab.json"

    @property
    def shared(self) -> Path:
        """A directory of the host that every node sees as /lab."""
        return self.root / "shared"

    def node(self, node: str) -> Path:
        return self.root / "nodes" / node

    def namespace(self, host: str) -> str:
        """The network namespace of a node, of the client or of the switch."""
        return f"{self.namespace_prefix}{host}"

    @property
    def namespace_prefix(self) -> str:
        return f"safepy-{self.name}-"

    def network(self, lan: int) -> str:
        return f"10.{64 + zlib.crc32(self.name.encode()) % 128}.{lan}"

    def address(self, lan: int, number: int) -> str:
        return f"{self.network(lan)}.{number}"


def lan_name(lan: int) -> str:
    return f"lan{lan}"


def lan_number(lan: str) -> int:
    found = re.fullmatch(r"(?:lan)?([0-9]+)", lan)
    if not found:
        raise LabError(f"lan {lan!r}: expected lan1, lan2, ...")
    return int(found[1])


def node_number(node: str) -> int:
    """n3 is number 3. The client is a host of its own outside the count."""
    if node == CLIENT:
        return CLIENT_NUMBER
    found = re.fullmatch(r"n([1-9][0-9]?)", node)
    if not found:
        raise LabError(f"node {node!r}: expected n1, n2, ...")
    return int(found[1])
