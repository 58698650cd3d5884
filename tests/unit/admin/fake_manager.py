"""A manager without modules behind it, and a server for it in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from safepy.admin.server import AdminServer
from safepy.core.why import Why, why
from safepy.errors import ConfigError, RequestRefused
from safepy.model import Disk, Level, Progress, Record, Snapshot, State, Status

READY = Snapshot(
    module="demo",
    node="n1",
    peer="n2",
    state=State.PRIM,
    status=Status.READY,
    reason="the secondary is in sync",
    since=1_795_000_000.0,
    peer_state="SECOND",
    peer_status="Ready",
    record=Record(epoch=5, gen="ab" * 16, disk=Disk.UPTODATE, history=((4, "cd" * 16),)),
    resources=(("rfs.uptodate", "up", 1_795_000_000.0),),
    lanes=(("default", True), ("private", False)),
)

WAITING = replace(
    READY,
    state=State.WAIT,
    status=Status.NOT_READY,
    reason="the data may be out of date",
    peer_state="",
    peer_status="",
    waiting_for="the start of node n2",
    remedy="safekit start -m demo on n2",
)

SYNCHRONISING = replace(
    READY,
    state=State.SECOND,
    status=Status.TRANSIENT,
    progress=Progress("compare", 120, 20_000, 3 << 20, 5 << 30, 1 << 20, 7, 2.5e6, 3725.0),
)


class FakeManager:
    """Notes what it is asked in `asked`, and answers from its attributes."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.commands: list[tuple[Any, ...]] = []
        self.states: dict[str, list[Snapshot]] = {"demo": [READY]}
        self.failure: Exception | None = None
        self.hold = asyncio.Event()
        self.reached = False
        self.verified: list[dict[str, Any]] = []
        self.verify_problem = ""
        self.costs: dict[str, str] = {}
        self.estimated: dict[str, Any] = {
            "mode": "zones",
            "reason": "every change since then is marked",
            "names": 0,
            "files": 10,
            "bytes": 3 << 30,
            "rate_bytes_s": float(1 << 20),
        }

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    def _known(self, module: str) -> None:
        if module not in self.states:
            raise RequestRefused(f"no module is called {module}")

    async def modules(self) -> list[dict[str, Any]]:
        self._note("modules")
        configured: list[dict[str, Any]] = [
            {
                "module": name,
                "id": number,
                "mode": "mirror",
                "configured": True,
                "digest": "f00d",
                "config_date": 1_795_000_000.0,
                "boot": "on",
                "state": str(states[0].state),
                "status": str(states[0].status),
            }
            for number, (name, states) in enumerate(self.states.items(), 1)
        ]
        return [*configured, {"module": "raw", "id": 9, "configured": False, "boot": "off"}]

    async def snapshot(self, module: str) -> Snapshot:
        self._note("snapshot", module)
        self._known(module)
        return self.states[module][0]

    async def next_snapshot(
        self, module: str, version: int, timeout_s: float
    ) -> tuple[int, Snapshot]:
        self._note("next_snapshot", module, version)
        self._known(module)
        states = self.states[module]
        if version >= len(states):
            await asyncio.sleep(timeout_s)
        version = min(version + 1, len(states))
        return version, states[version - 1]

    async def verify(self, module: str, mend: str, who: str) -> int:
        self._note("verify", module, mend, who)
        return 7

    async def verify_result(
        self, module: str, number: int, seen: int, timeout_s: float
    ) -> dict[str, Any]:
        self._note("verify_result", module, number, seen)
        found = self.verified[seen : seen + 2]
        return {
            "files": 12,
            "bytes": 5 << 20,
            "found": len(self.verified),
            "mended": 0,
            "over": seen + len(found) >= len(self.verified),
            "problem": self.verify_problem,
            "differences": found,
            "read": seen + len(found),
        }

    async def verify_stop(self, module: str, number: int) -> None:
        self._note("verify_stop", module, number)

    async def estimate(self, module: str) -> dict[str, Any]:
        self._note("estimate", module)
        return self.estimated

    async def resources(self, module: str) -> list[tuple[str, str, float]]:
        return [("usersetting.boot", "on", 1_795_000_001.0), ("rfs.uptodate", "old", 1.0)]

    async def ports(self, module: str) -> dict[str, Any]:
        self._note("ports", module)
        return {"safeadmin": 4800, "webconsole": 9010, "heart": 8888, "rfs": 5600}

    async def action(
        self,
        module: str,
        action: str,
        who: str,
        identity: str = "",
        fullsync: bool = False,
        since: float = 0.0,
    ) -> None:
        self._note("action", module, action, who, identity, fullsync, *([since] if since else []))
        self._known(module)

    async def sync_policy(
        self, module: str, mode: str, role: str, uid: str, detect: bool, who: str
    ) -> None:
        self._note("rfssync", module, mode, role, uid, detect, who)
        self._known(module)

    async def failover(self, module: str, on: bool, who: str) -> None:
        self._note("failover", module, on, who)

    async def shutdown(self, who: str) -> None:
        self._note("shutdown", who)

    async def boot(self, module: str, on: bool | None) -> str:
        self._note("boot", module, on)
        return "on"

    async def checker(self, module: str, on: bool, who: str) -> None:
        self._note("checker", module, on, who)

    async def errd(self, module: str, on: bool, who: str) -> None:
        self._note("errd", module, on, who)

    async def errd_list(self, module: str) -> list[dict[str, Any]]:
        self._note("errd_list", module)
        row = {"name": "postgres", "checker_class": "prim", "action": "restart"}
        return [row | {"atleast": 1, "running": 7, "enabled": True}]

    async def errd_class(self, module: str, checker_class: str, on: bool) -> None:
        self._note("errd_class", module, checker_class, on)

    async def kill(self, name: str, argregex: str, level: str, caller: int) -> list[dict[str, Any]]:
        self._note("kill", name, argregex, level)
        self.caller = caller
        return [{"pid": 77, "name": name, "command": f"/bin/{name} \x07-x", "parent": 1}]

    async def loop(self, module: str, change: str, identity: str) -> dict[str, Any]:
        self._note("loop", module, change, identity)
        return {"count": 3, "limit": 3, "reached": self.reached}

    async def maintenance(self, module: str, on: bool, for_s: float, reason: str, who: str) -> None:
        self._note("maintenance", module, on, for_s, reason, who)

    async def update(self, module: str, who: str) -> None:
        self._note("update", module, who)

    async def why(self, module: str) -> Why:
        self._note("why", module)
        return why(self.states[module][0], 1_795_000_100.0)

    async def plan(self, module: str, action: str) -> list[str]:
        self._note("plan", module, action)
        return [f"1. {action}"]

    async def cost(self, module: str, action: str) -> str:
        self._note("cost", module, action)
        return self.costs.get(action, "")

    async def clean(self, module: str, what: str, who: str) -> None:
        self._note("clean", module, what, who)

    async def print_line(self, module: str, level: Level, text: str, origin: str) -> None:
        self._note("print", module, level, text, origin)

    async def set_resource(
        self, module: str, name: str, value: str, who: str, log: bool | None = None
    ) -> None:
        self._note("set", module, name, value, who, log)

    async def record_command(self, module: str, pid: int, arguments: list[str]) -> int:
        self.commands.append(("START", module, arguments))
        return len(self.commands)

    async def record_command_end(self, number: int, exit_code: int) -> None:
        self.commands.append(("END", number, exit_code))

    async def install(
        self, module: str, source: str, module_id: int | None = None, replace: bool = False
    ) -> int:
        self._note("install", module, source, module_id, replace)
        return module_id or 2

    async def uninstall(self, module: str) -> None:
        self._note("uninstall", module)

    async def package(self, module: str, target: str) -> None:
        self._note("package", module, target)

    async def confcheck(self, module: str) -> list[str]:
        self._note("confcheck", module)
        return ["split brain is possible: there is one lan only"]

    async def config(self, module: str) -> list[str]:
        self._note("config", module)
        return []

    async def deconfig(self, module: str) -> None:
        self._note("deconfig", module)

    async def confinfo(self, module: str) -> dict[str, Any]:
        self._note("confinfo", module)
        return {"active": None, "current": {"signature": "c0ffee", "date": 1_795_000_000.0}}

    async def cluster_config(self, document: bytes | None, source: str) -> list[str]:
        self._note("cluster_config", document, source)
        if document == b"broken":
            raise ConfigError(f"{source}: line 1: no XML", "see docs/userconfig.md")
        return []

    async def cluster_confcheck(self, document: bytes, source: str) -> list[str]:
        self._note("cluster_confcheck", document, source)
        return []

    async def cluster_deconfig(self) -> None:
        self._note("cluster_deconfig")

    async def cluster_confinfo(self) -> dict[str, Any]:
        self._note("cluster_confinfo")
        return {
            "node": "n1",
            "cluster_id": "id",
            "signature": "beef",
            "date": 1_795_000_000.0,
            "lock": False,
            "fingerprint": "0123:4567:89ab:cdef",
            "nodes": ["n1", "n2"],
            "lans": [{"name": "default", "addresses": {"n1": "10.0.0.1"}}],
        }

    async def cluster_genkey(self, force: bool = False) -> str:
        self._note("cluster_genkey", force)
        return "0123:4567:89ab:cdef"

    async def cluster_state(self) -> list[dict[str, Any]]:
        self._note("cluster_state")
        row = {"node": "n1", "module": "demo", "mode": "mirror", "id": 1}
        return [row | {"date": 1_795_000_000.0, "signature": "f00d"}]


@contextmanager
def serving(manager: FakeManager, path: str) -> Iterator[None]:
    """The server runs in a thread, for clients that block."""
    loop = asyncio.new_event_loop()
    server = AdminServer(manager, path)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
