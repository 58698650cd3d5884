"""Many modules on one pair of nodes: `scripts/bench modules`.

All of them start; one is failed over again and again; then the daemons are left alone for a minute,
and what they take of a processor and of the memory is printed. Workers are processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import modules
from .bench_lab import in_lab, say
from .lab import Lab
from .node import Node
from .procs import LabError, wait_until
from .safekit import safekit

PATIENCE_S = 300.0
#: The aims (issue: thirty-two modules).
CPU_PERCENT, MEMORY_MIB = 3.0, 150.0
NOTHING = "#!/bin/sh\nexit 0\n"


@dataclass
class Found:
    """`daemons`: for each node the daemon's share of a processor in percent, and its MiB."""

    modules: int = 0
    start_s: float = 0.0
    failovers_s: list[float] = field(default_factory=list)
    daemons: dict[str, tuple[float, float]] = field(default_factory=dict)

    def table(self) -> str:
        rows = ["| what | aim | measured |", "| --- | --- | ---: |"]
        rows.append(f"| {self.modules} modules PRIM and SECOND Ready | | {self.start_s:.1f} s |")
        if self.failovers_s:
            median, longest = statistics.median(self.failovers_s), max(self.failovers_s)
            count = len(self.failovers_s)
            rows.append(f"| {count} fail-overs of one, median | | {median:.2f} s |")
            rows.append(f"| longest of them | | {longest:.2f} s |")
        for name, (percent, mib) in self.daemons.items():
            rows.append(
                f"| idle daemon of {name} | {CPU_PERCENT:g} % of a core | {percent:.2f} % |"
            )
            rows.append(f"| its memory | {MEMORY_MIB:g} MiB | {mib:.0f} MiB |")
        return "\n".join(rows)


class Crowd:
    def __init__(self, lab: Lab, count: int) -> None:
        self.lab = lab
        self.names = [f"m{number:02d}" for number in range(1, count + 1)]
        self.found = Found(modules=count)

    def start(self) -> None:
        scripts = {"start_prim": NOTHING, "stop_prim": NOTHING, "prestart": NOTHING}
        for name in self.names:
            for node in self.lab.nodes.values():
                node.shell(f"mkdir -p /data/{name}; echo {name} > /data/{name}/file")
            modules.install(self.lab, name, _config(f"/data/{name}"), scripts)
        begun = time.monotonic()
        for name in self.names:
            safekit(self.lab["n2"], "start", "-m", name)
            safekit(self.lab["n1"], "prim", "-m", name)
        for where, state in (("n1", "PRIM Ready"), ("n2", "SECOND Ready")):
            self._wait(where, set(self.names), state)
        self.found.start_s = time.monotonic() - begun

    def _wait(self, node: str, names: set[str], wanted: str) -> None:
        def missing() -> list[str]:
            said = json.loads(safekit(self.lab[node], "state", "-o", "json"))["modules"]
            now = {one["module"]: f"{one['state']} {one['status']}" for one in said}
            return [f"{name} {now.get(name)}" for name in sorted(names) if now.get(name) != wanted]

        try:
            wait_until(f"{node}: all {wanted}", lambda: not missing(), PATIENCE_S, 0.2)
        except LabError as late:
            raise LabError(f"{late}: {missing()[:5]}") from late

    def fail_over(self, times: int) -> None:
        """Stop the primary of one module: the other takes over, and the first one returns."""
        name = self.names[0]
        leader, follower = "n1", "n2"
        for turn in range(times):
            begun = time.monotonic()
            safekit(self.lab[leader], "stopstart", "-m", name)
            leader, follower = follower, leader
            self._wait(leader, {name}, "PRIM Ready")
            self._wait(follower, {name}, "SECOND Ready")
            self.found.failovers_s.append(time.monotonic() - begun)
            if turn % 10 == 9:
                say(f"fail-over {turn + 1}: {self.found.failovers_s[-1]:.2f} s")
        for node in self.lab.nodes:
            states = json.loads(safekit(self.lab[node], "state", "-o", "json"))["modules"]
            odd = [one["module"] for one in states if one["status"] != "Ready"]
            if odd:
                raise LabError(f"{node}: not ready after the fail-overs: {odd}")

    def idle(self, seconds: float) -> None:
        pids = {name: _daemon(node) for name, node in self.lab.nodes.items()}
        before = {name: _cpu_s(self.lab[name], pid) for name, pid in pids.items()}
        time.sleep(seconds)
        for name, pid in pids.items():
            used_s = _cpu_s(self.lab[name], pid) - before[name]
            self.found.daemons[name] = (100 * used_s / seconds, _mib(self.lab[name], pid))


def _config(directory: str) -> str:
    """Heartbeats as the product comes, on two lans; restarts are not counted."""
    config = modules.userconfig(directory, loop_interval="0")
    ours = f'pulse="{modules.PULSE_MS}" timeout="{modules.TIMEOUT_MS}"'
    assert ours in config
    return config.replace(ours, "")


def _daemon(node: Node) -> str:
    return node.shell("systemctl show --property MainPID --value safeadmin.service").strip()


def _cpu_s(node: Node, pid: str) -> float:
    fields = node.shell(f"cat /proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _mib(node: Node, pid: str) -> float:
    line = next(
        one for one in node.shell(f"cat /proc/{pid}/status").splitlines() if one[:6] == "VmRSS:"
    )
    return int(line.split()[1]) / 1024


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench modules", description=__doc__)
    parser.add_argument("--modules", type=int, default=32)
    parser.add_argument("--failovers", type=int, default=100)
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--name", default="crowd", help="of the lab")
    options = parser.parse_args(argv)
    lab = Lab(options.name)
    crowd = Crowd(lab, options.modules)

    def work() -> None:
        crowd.start()
        say(f"{options.modules} modules run")
        crowd.fail_over(options.failovers)
        crowd.idle(options.idle)

    code = in_lab(lab, crowd.names[:1], work)
    print(crowd.found.table())
    if options.json:
        Path(options.json).write_text(json.dumps(asdict(crowd.found), indent=1) + "\n")
    return code
