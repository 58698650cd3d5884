"""How long the service is away: `scripts/bench failover`.

Power cuts of the primary, from the cut to the first line of `start_prim` on the other node; planned
swaps, from the command to Ready on both; and nothing at all while processors and disks are busy:
no take-over may come of it. One lab, one module, heartbeats with a timeout of 3 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import modules
from .bench_lab import in_lab, say
from .lab import Lab
from .procs import LabError, wait_until
from .safekit import safekit, wait_pair, wait_state

MODULE = "app"
DIRECTORY = f"/data/{MODULE}"
TIMEOUT_S = 3.0
PULSE_MS = 500
#: The aims (issue: time to take over).
MEDIAN_S, WORST_S, SWAP_S = 3.5, 4.5, 1.0
#: More than a run writes: a line that is not looked at would be no false alarm.
MANY_LINES = 1_000_000
#: The lab boots, the pair forms: on a busy machine.
PATIENCE_S = 120.0

STARTED = """\
#!/bin/sh
date +%s.%N > /lab/started.new && mv /lab/started.new /lab/started
"""
STOPPED = "#!/bin/sh\nexit 0\n"
BUSY = """\
import os, sys, threading
def spin():
    while True:
        pass
def write(path):
    block = os.urandom(1 << 20)
    while True:
        with open(path, "wb") as file:
            for _ in range(32):
                file.write(block)
                os.fsync(file.fileno())
for n in range(2):
    if os.fork() == 0:
        spin()
write(sys.argv[1])
"""


@dataclass
class Found:
    """Seconds, one for each cut and each swap; lines of the log that should not be there."""

    cuts_s: list[float] = field(default_factory=list)
    swaps_s: list[float] = field(default_factory=list)
    busy_minutes: float = 0.0
    false_alarms: list[str] = field(default_factory=list)

    def table(self) -> str:
        rows = ["| what | aim | median | longest | of |", "| --- | --- | ---: | ---: | ---: |"]
        if self.cuts_s:
            rows.append(
                _row(
                    "power cut to the first line of `start_prim`",
                    f"median {MEDIAN_S:g} s, none above {WORST_S:g} s",
                    self.cuts_s,
                )
            )
        if self.swaps_s:
            rows.append(_row("`swap` to Ready on both", f"under {SWAP_S:g} s", self.swaps_s))
        if self.busy_minutes:
            title = f"{self.busy_minutes:g} minutes of full processors and disks"
            rows.append(f"| {title} | no take-over | {len(self.false_alarms)} |  |  |")
        return "\n".join(rows)


def _row(what: str, aim: str, values: list[float]) -> str:
    median, longest = statistics.median(values), max(values)
    return f"| {what} | {aim} | {median:.2f} s | {longest:.2f} s | {len(values)} |"


def is_alarm(text: str) -> bool:
    """A line of the log that a pair in which nothing happens does not write: whoever changes its
    state, or does not hear the other node any more."""
    return "UNKNOWN" in text or text.startswith(("Local state", "Action ", "All heartbeats"))


class Failover:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.found = Found()
        self.primary, self.second = "n1", "n2"

    def set_up(self) -> None:
        config = modules.userconfig(DIRECTORY, loop_interval="0")
        config = config.replace(f'timeout="{modules.TIMEOUT_MS}"', f'timeout="{TIMEOUT_S:g}s"')
        config = config.replace(f'pulse="{modules.PULSE_MS}"', f'pulse="{PULSE_MS}ms"')
        assert f'timeout="{TIMEOUT_S:g}s"' in config
        for node in self.lab.nodes.values():
            node.shell(f"mkdir -p {DIRECTORY}")
        scripts = {"start_prim": STARTED, "stop_prim": STOPPED, "prestart": STOPPED}
        modules.install(self.lab, MODULE, config, scripts)
        safekit(self.lab["n2"], "start", "-m", MODULE)
        safekit(self.lab["n1"], "prim", "-m", MODULE)
        self._wait_pair()

    def _wait_pair(self) -> None:
        wait_pair(self.lab, MODULE, self.primary, self.second, PATIENCE_S)

    def _turned(self) -> None:
        self.primary, self.second = self.second, self.primary

    def _started(self) -> float:
        return float(self.lab.shared_path("started").read_text())

    def cut(self) -> float:
        """Seconds from the power cut of the primary to the first line of the other's script."""
        node = self.lab[self.primary]
        cut_at = time.time()
        node.power_cut()
        wait_until("start_prim on the other node", lambda: self._started() > cut_at, 60, 0.05)
        took_s = self._started() - cut_at
        wait_state(self.lab[self.second], MODULE, "ALONE Ready", at_most_s=PATIENCE_S)
        node.power_on()
        node.wait_booted()
        self._turned()
        self._wait_pair()
        return took_s

    def swap(self) -> float:
        """Seconds from the command to Ready on both, by the times of their logs."""
        typed_at = time.time()
        safekit(self.lab[self.primary], "swap", "-m", MODULE)
        self._turned()
        self._wait_pair()
        ready = (
            self._last("Local state PRIM Ready", self.primary),
            self._last("Local state SECOND Ready", self.second),
        )
        return max(ready) - typed_at

    def _last(self, text: str, name: str) -> float:
        lines = self._log(name, "--grep", text)
        return float(str(lines[-1]["date_unix_s"]))

    def _log(self, name: str, *more: str) -> list[dict[str, object]]:
        said = safekit(
            self.lab[name], "log", "-m", MODULE, "-A", "-s", str(MANY_LINES), "-o", "json", *more
        )
        found = json.loads(said)
        lines: list[dict[str, object]] = found["lines"] if isinstance(found, dict) else found
        return lines

    def busy(self, minutes: float) -> None:
        """Full processors and disks on both nodes; what the logs then say of lost heartbeats."""
        self.lab.shared_path("busy.py").write_text(BUSY)
        load: list[subprocess.Popen[bytes]] = []
        begun = time.time()
        try:
            for node in self.lab.nodes.values():
                place = DIRECTORY if node.name == self.primary else "/data"
                load.append(node.popen("python3", "/lab/busy.py", f"{place}/busy"))
            while time.time() < begun + 60 * minutes:
                time.sleep(1.0)
                for one in load:
                    if one.poll() is not None:
                        raise LabError(f"the load ended with {one.returncode}")
        finally:
            for node in self.lab.nodes.values():
                node.run("pkill", "-KILL", "-f", "/lab/[b]usy.py", check=False)
            for one in load:
                one.wait()
        self.found.busy_minutes = minutes
        for name in self.lab.nodes:
            for line in self._log(name):
                at = float(str(line["date_unix_s"]))
                text = str(line["message"])
                if at > begun and is_alarm(text):
                    self.found.false_alarms.append(f"{name}: {text}")
        self._wait_pair()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench failover", description=__doc__)
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10.0, help="of full load")
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--name", default="failover", help="of the lab")
    options = parser.parse_args(argv)
    lab = Lab(options.name)
    bench = Failover(lab)

    def work() -> None:
        bench.set_up()
        for turn in range(options.swaps):
            bench.found.swaps_s.append(bench.swap())
            say(f"swap {turn + 1}: {bench.found.swaps_s[-1]:.2f} s")
        for turn in range(options.cuts):
            bench.found.cuts_s.append(bench.cut())
            say(f"power cut {turn + 1}: {bench.found.cuts_s[-1]:.2f} s")
        if options.minutes:
            bench.busy(options.minutes)
            for line in bench.found.false_alarms:
                say(line)

    code = in_lab(lab, [MODULE], work)
    print(bench.found.table())
    if options.json:
        Path(options.json).write_text(json.dumps(asdict(bench.found), indent=1) + "\n")
    return code
