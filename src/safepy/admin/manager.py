"""What the verbs of the control socket ask of the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from safepy.admin.values import (
    ClusterModule,
    JsonObject,
    LoopState,
    ModuleInfo,
    SyncEstimate,
    VerifyState,
)
from safepy.admin.watched import KilledProcess, WatchedProcess
from safepy.core.why import Why
from safepy.model import Level, Snapshot


class Manager(Protocol):
    """What the verbs ask of the daemon; `daemon/manager.py` says more about each method.

    Every method may raise a `SafekitError`, which becomes the one line the operator reads.
    `who` stands in the log. `action` returns as soon as the automaton has the wish, so that a
    script can ask for a `stop` of its own module without waiting for itself.
    """

    async def modules(self) -> Sequence[JsonObject | ModuleInfo]: ...

    async def snapshot(self, module: str) -> Snapshot: ...

    async def next_snapshot(
        self, module: str, version: int, timeout_s: float
    ) -> tuple[int, Snapshot]: ...

    async def resources(self, module: str) -> list[tuple[str, str, float]]: ...

    async def ports(self, module: str) -> JsonObject: ...

    async def action(
        self,
        module: str,
        action: str,
        who: str,
        identity: str = "",
        fullsync: bool = False,
        since: float = 0.0,
    ) -> None: ...

    async def sync_policy(
        self, module: str, mode: str, role: str, uid: str, detect: bool, who: str
    ) -> None:
        """`safekit rfssync`."""
        ...

    async def failover(self, module: str, on: bool, who: str) -> None: ...

    async def shutdown(self, who: str) -> None: ...

    async def boot(self, module: str, on: bool | None) -> str: ...

    async def maintenance(self, module: str, on: bool, for_s: float, reason: str, who: str) -> None:
        """`safekit maintenance on|off`: nothing happens by itself on this node."""
        ...

    async def update(self, module: str, who: str) -> None:
        """`safekit update`: addresses are looked up again, and the script `update` is called."""
        ...

    async def checker(self, module: str, on: bool, who: str) -> None:
        """`safekit checker on|off`: the checks of the module are tested, or not."""
        ...

    async def errd(self, module: str, on: bool, who: str) -> None:
        """`safekit errd on|off`: the process checker looks, or does not."""
        ...

    async def errd_class(self, module: str, checker_class: str, on: bool) -> None:
        """`safekit errd enable|disable CLASS`."""
        ...

    async def kill(
        self, name: str, argregex: str, level: str, caller: int
    ) -> Sequence[JsonObject | KilledProcess]:
        """`safekit kill`; `caller` is the pid of the command, which is spared."""
        ...

    async def errd_list(self, module: str) -> Sequence[JsonObject | WatchedProcess]: ...

    async def loop(self, module: str, change: str, identity: str) -> JsonObject | LoopState:
        """The counter of maxloop after `change` ("inc", "reset" or "check")."""
        ...

    async def verify(self, module: str, mend: str, who: str) -> int:
        """`safekit rfsverify` begins; its number."""
        ...

    async def verify_result(
        self, module: str, number: int, seen: int, timeout_s: float
    ) -> JsonObject | VerifyState: ...

    async def verify_stop(self, module: str, number: int) -> None: ...

    async def estimate(self, module: str) -> JsonObject | SyncEstimate:
        """`safekit rfsdiff`."""
        ...

    async def why(self, module: str) -> JsonObject | Why:
        """`safekit why`."""
        ...

    async def plan(self, module: str, action: str) -> Sequence[str]:
        """`safekit plan ACTION`: what would happen, a sentence a step."""
        ...

    async def cost(self, module: str, action: str) -> str:
        """What `action` would lose, a sentence; "" where nothing would be."""
        ...

    async def clean(self, module: str, what: str, who: str) -> None:
        """`safekit clean`: "all", "log", "process" or "resource"."""
        ...

    async def print_line(self, module: str, level: Level, text: str, origin: str) -> None: ...

    async def set_resource(
        self, module: str, name: str, value: str, who: str, log: bool | None = None
    ) -> None: ...

    async def record_command(self, module: str, pid: int, arguments: list[str]) -> int: ...

    async def record_command_end(self, number: int, exit_code: int) -> None: ...

    async def install(
        self, module: str, source: str, module_id: int | None = None, replace: bool = False
    ) -> int: ...

    async def uninstall(self, module: str) -> None: ...

    async def package(self, module: str, target: str) -> None: ...

    async def confcheck(self, module: str) -> list[str]: ...

    async def config(self, module: str) -> list[str]: ...

    async def deconfig(self, module: str) -> None: ...

    async def confinfo(self, module: str) -> JsonObject: ...

    async def cluster_config(self, document: bytes | None, source: str) -> list[str]: ...

    async def cluster_confcheck(self, document: bytes, source: str) -> list[str]: ...

    async def cluster_deconfig(self) -> None: ...

    async def cluster_confinfo(self) -> JsonObject: ...

    async def cluster_genkey(self, force: bool = False) -> str: ...

    async def cluster_state(self) -> Sequence[JsonObject | ClusterModule]:
        """A line for each module of each node that is known."""
        ...
