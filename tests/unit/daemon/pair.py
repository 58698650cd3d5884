"""Two real daemons on this host: own roots, lanes on two loopback addresses, no replication."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safepy
from safepy.admin.client import Client
from safepy.errors import SafekitError
from safepy.storage import modulelog

LIMIT_S = 20.0
MODULE = "web"
#: Written by every script: name and arguments, one call a line.
SCRIPT = """#!/bin/sh
echo "$(basename "$0") $*" >>"$SAFEUSERVAR/calls"
"""
#: One file for both nodes: who runs the application.
START = SCRIPT + 'echo "$NODE" >>"$TRACE"\n'
STOP = SCRIPT + '[ "$1" = force ] || echo "-$NODE" >>"$TRACE"\n'


def config(pulse_ms: int, timeout_ms: int, service: str = "", extra: str = "") -> str:
    return f"""<safe><service mode="mirror" {service}>
  <heart pulse="{pulse_ms}" timeout="{timeout_ms}"><heartbeat name="default"/></heart>
  {extra}
  <user nicestoptimeout="5" forcestoptimeout="5">
    <var name="NODE" value="%NODE%"/><var name="TRACE" value="%TRACE%"/>
  </user>
</service></safe>"""


class Daemon:
    """One node: its root, its process, and what one asks it."""

    def __init__(self, root: Path, name: str, address: str, key: bytes, cluster: str) -> None:
        self.name, self.address = name, address
        self.safe, self.var = root / name / "safe", root / name / "var"
        self.root = root
        self.trace = root / "trace"
        self.socket = str(self.var / "run" / "safeadmin.sock")
        (self.safe / "conf").mkdir(parents=True)
        (self.safe / "conf" / "safeadmin.yaml").write_text(
            f"node_name: {name}\nprobe_addresses: {address}\n"
        )
        (self.var / "cluster").mkdir(parents=True)
        key_file = self.var / "cluster" / "cluster.key"
        key_file.touch(0o600)
        key_file.write_bytes(key)
        (self.var / "cluster" / "cluster.xml").write_text(cluster)
        self.log = root / f"{name}.log"
        self.frozen = False
        #: What runs the daemon, before the interpreter: a namespace, for instance.
        self.launcher: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(safepy.__file__).parents[1]),
            "SAFE": str(self.safe),
            "SAFEVAR": str(self.var),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher, sys.executable, "-m", "safepy.daemon.main"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.ask("modules")

    def install(self, xml: str, module_id: int) -> None:
        source = self.safe.parent / "package"
        (source / "conf").mkdir(parents=True, exist_ok=True)
        (source / "bin").mkdir(exist_ok=True)
        xml = xml.replace("%NODE%", self.name).replace("%TRACE%", str(self.trace))
        (source / "conf" / "userconfig.xml").write_text(xml)
        for name in ("prestart", "transition", "start_prim", "stop_prim", "start_second"):
            script = source / "bin" / name
            script.write_text({"start_prim": START, "stop_prim": STOP}.get(name, SCRIPT))
            script.chmod(0o755)
        args: dict[str, Any] = {"source": str(source), "module_id": module_id, "replace": True}
        self.ask("module.install", **args)

    def configure(self) -> list[str]:
        notes: list[str] = self.ask("config")
        return notes

    def ask(self, verb: str, **args: Any) -> Any:
        module = "" if verb.startswith("cluster") or verb == "modules" else MODULE
        return Client(self.socket, wait_s=LIMIT_S).call(verb, module, **args)

    def act(self, action: str, **args: Any) -> None:
        self.ask("action", action=action, **args)

    @property
    def shown(self) -> str:
        """State and status as one word pair, e.g. "PRIM Ready"."""
        if self.frozen:
            return "frozen"
        try:
            (snapshot,) = self.ask("state")
        except SafekitError as error:
            return str(error)
        return f"{snapshot.state} {snapshot.status}"

    @property
    def peer_resources(self) -> dict[str, str]:
        """What the other node's last heartbeat said."""
        (snapshot,) = self.ask("state")
        return dict(snapshot.peer_resources)

    @property
    def calls(self) -> list[str]:
        path = self.var / "modules" / MODULE / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def lines(self, levels: Sequence[str] | None = None) -> list[str]:
        path = str(self.var / "modules" / MODULE / "log.db")
        wanted = modulelog.Filter(levels)
        return [f"{line.origin} {line.text}" for line in modulelog.read(path, 1000, wanted)]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self, on: bool) -> None:
        self.frozen = on
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def terminate(self, limit_s: float = LIMIT_S) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(limit_s)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


def until(
    holds: Callable[[], object], what: Callable[[], object], limit_s: float = LIMIT_S
) -> float:
    """Wait until this holds, at most that long; how long it took in seconds."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < limit_s, what()
        time.sleep(0.02)
    return time.monotonic() - begin
