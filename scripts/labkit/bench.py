"""What replication costs: the same work on bare ext4, libfuse's passthrough, GlusterFS and safepy.

All on node n1 of one lab in one run, in turn within each round, so that a busy moment of the
machine hits all of them alike. Read the ratios rather than the digits. docs/performance.md says
how.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

from . import bench_cases as cases
from . import bench_cipher, bench_failover, bench_modules, bench_systems, need
from .bench_lab import in_lab, say
from .bench_report import Results, load, markdown, put
from .bench_resync import Resynchronisations
from .lab import Lab

DELAYS_MS = (0.0, 0.5)


class Bench:
    """One run in one lab. `results` grow with every figure, so that half a run is of use too."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.lab = lab
        self.options = options
        self.scale = cases.FULL if options.full else cases.Scale()
        self.results = Results(machine=_machine())
        self.places: dict[str, str] = {}
        self._made = 0

    def run(self) -> None:
        self.results.ciphers = bench_cipher.measure()
        wanted = tuple(one for one in bench_systems.ALL if self._chosen(one, self.options.systems))
        self.places = bench_systems.set_up(self.lab, wanted)
        if self._chosen("ls -lR", self.options.only):
            self._listings()
        for turn in range(self.options.rounds):
            for delay_ms in DELAYS_MS:
                with bench_systems.slow_cable(self.lab, delay_ms):
                    self._round(turn, delay_ms)
        if self._chosen("resync", self.options.only) and self._chosen("safepy", wanted):
            self._resynchronisations()

    @staticmethod
    def _chosen(name: str, among: tuple[str, ...] | list[str]) -> bool:
        return not among or any(one in name or name in one for one in among)

    def _round(self, turn: int, delay_ms: float) -> None:
        for case in cases.cases(self.scale):
            names = [name for name, _ in case.figures]
            if not any(self._chosen(name, self.options.only) for name in names):
                continue
            for system, directory in self.places.items():
                remote = case.remote and system in bench_systems.REPLICATED
                if delay_ms and not remote:
                    continue
                self._made += 1
                place = f"{directory}/{self._made}"
                self.lab["n1"].shell(f"mkdir {place}")
                values = case.measure(self.lab["n1"], place)
                self.lab["n1"].shell(f"rm -rf {place}; sync", timeout_s=900)
                for (name, unit), value in zip(case.figures, values, strict=True):
                    self._note(turn, delay_ms, name, unit, system, value)

    def _listings(self) -> None:
        places = dict(self.places)
        if self.scale.listed_files > bench_systems.MOST_OF_PASSTHROUGH:
            places.pop(bench_systems.PASSTHROUGH, None)
        for system, directory in places.items():
            cases.make_listed(self.lab["n1"], f"{directory}/listed", self.scale)
            say(f"{system}: {self.scale.listed_files:,} files made")
        for turn in range(self.options.rounds):
            for system, directory in places.items():
                first, again = cases.listing(self.lab["n1"], f"{directory}/listed", self.scale)
                self._note(turn, 0, cases.LIST_FIRST, "/s", system, first)
                self._note(turn, 0, cases.LIST_AGAIN, "/s", system, again)

    def _resynchronisations(self) -> None:
        bench = Resynchronisations(self.lab, self.scale)
        bench.set_up()
        for turn in range(self.options.rounds):
            for timed in bench.round(turn):
                self.results.add_resync(timed.what, timed.system, timed.value)
                say(f"round {turn + 1}  {timed.what:<40} {timed.system:<14} {timed.value:10,.2f}")

    def _note(
        self, turn: int, delay_ms: float, what: str, unit: str, system: str, value: float
    ) -> None:
        self.results.add(f"{delay_ms:g}", what, unit, system, value)
        say(f"round {turn + 1}  {delay_ms:3.1f} ms  {what:<36} {system:<14} {value:12,.0f} {unit}")


def _machine() -> str:
    processors = len(os.sched_getaffinity(0))
    return f"{processors} processors, Linux {platform.release()}, both nodes on this machine"


def _measured(options: argparse.Namespace) -> tuple[Results, int]:
    """In a lab of its own, which is taken down again; also what came before an interruption."""
    need.commands("fio", "initdb")
    lab = Lab(options.name)
    bench = Bench(lab, options)
    code = in_lab(lab, [*bench_systems.MODULES.values(), "resync"], bench.run, lans=1)
    return bench.results, code


def main(argv: list[str]) -> int:
    others = {"failover": bench_failover.main, "modules": bench_modules.main}
    if argv and argv[0] in others:
        return others[argv[0]](argv[1:])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="0: measure nothing (see --merge)")
    parser.add_argument("--full", action="store_true", help="the sizes that the aims speak of")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases with TEXT in the name"
    )
    parser.add_argument(
        "--systems", action="append", default=[], metavar="TEXT", help="systems with TEXT"
    )
    parser.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="FILE",
        help="add what an earlier run wrote with --json: a table can be measured in pieces",
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--markdown", metavar="FILE", help="write the tables to FILE, e.g. docs/performance.md"
    )
    parser.add_argument("--name", default="bench", help="of the lab")
    options = parser.parse_args(argv)
    earlier = [load(Path(name)) for name in options.merge]  # unreadable ones end it here
    results, code = _measured(options) if options.rounds else (Results(), 0)
    for other in earlier:
        results.add_all(other)
    text = markdown(results)
    print(text)
    if options.markdown:
        put(Path(options.markdown), text)
    if options.json:
        told = dataclasses.asdict(results)
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
