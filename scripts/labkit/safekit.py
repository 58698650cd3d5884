"""The `safekit` command on lab nodes: asked as an administrator asks, read as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

from .lab import Lab
from .node import Node
from .procs import LabError, wait_until

Snapshot = dict[str, Any]


def safekit(node: Node, *arguments: str, check: bool = True, timeout_s: float = 120.0) -> str:
    return node.run("safekit", *arguments, check=check, timeout_s=timeout_s).stdout


def state(node: Node, module: str) -> Snapshot:
    """The module's `model.Snapshot` on this node; {} while the daemon does not answer."""
    done = node.run("safekit", "state", "-m", module, "-o", "json", check=False, timeout_s=20)
    if done.returncode != 0:
        return {}
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise LabError(f"{node.name}: `safekit state -o json` printed {done.stdout!r}") from error
    if isinstance(answer, list):
        answer = next((one for one in answer if one.get("module") == module), {})
    return answer if isinstance(answer, dict) else {}


def is_in(node: Node, module: str, wanted: str) -> bool:
    """`wanted` is like "PRIM Ready"."""
    now = state(node, module)
    return f"{now.get('state')} {now.get('status')}" == wanted


def wait_state(node: Node, module: str, *wanted: str, at_most_s: float = 30.0) -> float:
    """Wait until the module is in one of `wanted` ("ALONE Ready"); the seconds it took."""
    last: Snapshot = {}

    def holds() -> bool:
        nonlocal last
        last = state(node, module)
        return f"{last.get('state')} {last.get('status')}" in wanted

    try:
        return wait_until(f"{node.name}: {module} {' or '.join(wanted)}", holds, at_most_s, 0.3)
    except LabError as late:
        told = {key: last.get(key) for key in ("state", "status", "reason", "waiting_for")}
        raise LabError(f"{late}; it says {told}") from late


def wait_pair(lab: Lab, module: str, prim: str, second: str, at_most_s: float = 60.0) -> float:
    """Wait until `prim` is PRIM Ready and `second` SECOND Ready."""
    begun = time.monotonic()
    wait_state(lab[prim], module, "PRIM Ready", at_most_s=at_most_s)
    left_s = max(1.0, at_most_s - (time.monotonic() - begun))
    wait_state(lab[second], module, "SECOND Ready", at_most_s=left_s)
    return time.monotonic() - begun


def module_log(node: Node, module: str) -> str:
    """The module's log as far as it can be had, for a report."""
    done = node.run("safekit", "log", "-m", module, "-s", "400", "-A", check=False, timeout_s=20)
    return done.stdout + done.stderr


def report(lab: Lab, modules: list[str]) -> str:
    """Everything a person wants to see after a failure, of every node that has power."""
    parts = []
    for node in lab.nodes.values():
        parts.append(f"######## {node.name}: {node.state}")
        if node.state != "running":
            parts.append((node.place / "console.log").read_text(errors="replace")[-1000:])
            continue
        for module in modules:
            parts.append(f"---- state of {module}\n{json.dumps(state(node, module), indent=1)}")
            parts.append(f"---- log of {module}\n{module_log(node, module)}")
        journal = node.run(
            "journalctl", "--no-pager", "-n", "200", "-o", "short-precise", check=False
        )
        parts.append(f"---- journal\n{journal.stdout}")
    return "\n".join(parts)
