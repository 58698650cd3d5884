"""What replication costs: the same writes on bare ext4, GlusterFS replica 2 and safepy.

All on node n1 of one lab in one run, in turn within each round, so that a busy moment of the
machine hits all of them alike. Read the ratios rather than the digits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import modules, need
from .lab import Lab
from .node import Node
from .procs import LabError, wait_until
from .safekit import report, safekit, wait_pair

SECONDS = 3
NOTHING = "#!/bin/sh\nexit 0\n"
Measure = Callable[[Node, str], float]


def fio(*options: str) -> Measure:
    """Operations a second of one fio job; each run in a folder of its own."""

    def measure(node: Node, directory: str) -> float:
        argv = ["fio", "--name=b", f"--directory={directory}", "--ioengine=psync", "--thread"]
        argv += ["--group_reporting", "--output-format=json", "--time_based", "--end_fsync=0"]
        done = node.run(*argv, f"--runtime={SECONDS}", "--fallocate=none", *options, timeout_s=180)
        printed = done.stdout[done.stdout.index("{") :]
        return float(json.loads(printed)["jobs"][0]["write"]["iops"])

    return measure


def small_files(node: Node, directory: str) -> float:
    program = "/lab/programs/smallfiles.py"
    done = node.run("/usr/bin/python3", program, f"{directory}/small", str(SECONDS), timeout_s=120)
    return float(done.stdout)


@dataclass(frozen=True)
class Workload:
    name: str
    unit: str
    measure: Measure


WORKLOADS = (
    Workload("4 KiB writes, 1 writer", "/s", fio("--rw=write", "--bs=4k", "--size=64m")),
    Workload(
        "4 KiB writes, 16 writers",
        "/s",
        fio("--rw=write", "--bs=4k", "--size=16m", "--numjobs=16"),
    ),
    Workload("small files (create, 4 KiB, close)", "/s", small_files),
    Workload(
        "4 KiB write + fdatasync", "/s", fio("--rw=write", "--bs=4k", "--size=64m", "--fdatasync=1")
    ),
    Workload("sequential, 1 MiB writes", "MiB/s", fio("--rw=write", "--bs=1m", "--size=512m")),
)


def set_up_gluster(lab: Lab) -> dict[str, str]:
    """Two replica 2 volumes between the nodes, mounted on n1; they go away with the lab.

    As it comes, GlusterFS answers a write before the other node has it (write-behind). The
    second volume answers when both have it, which is what safepy promises.
    """
    need.commands("gluster", "fio")
    for node in lab.nodes.values():
        # The machine's own identity, seen through the overlay, would be the same on both.
        node.shell("rm -rf /var/lib/glusterd/glusterd.info; mkdir -p /data/brick; glusterd")
    n1 = lab["n1"]
    wait_until(
        "glusterd answers",
        lambda: n1.run("gluster", "peer", "probe", "n2", check=False).returncode == 0,
        30.0,
        0.5,
    )

    def joined() -> bool:
        return "Peer in Cluster (Connected)" in n1.shell("gluster peer status")

    wait_until("both glusterd are joined", joined, 30.0, 0.5)
    for volume in ("behind", "sync"):
        bricks = [f"{node}:/data/brick/{volume}" for node in lab.nodes]
        create = ["gluster", "--mode=script", "volume", "create", volume, "replica", "2"]
        n1.run(*create, *bricks, "force")
        if volume == "sync":
            n1.run("gluster", "volume", "set", volume, "performance.write-behind", "off")
        n1.run("gluster", "volume", "start", volume)
        n1.shell(f"mkdir -p /mnt/{volume}; mount -t glusterfs n1:/{volume} /mnt/{volume}")
    return {"GlusterFS": "/mnt/sync", "GlusterFS write-behind": "/mnt/behind"}


def set_up_safepy(lab: Lab, module: str, acknowledge: str) -> str:
    directory = f"/data/{module}"
    for node in lab.nodes.values():
        node.shell(f"mkdir -p {directory}")
    config = modules.userconfig(directory, acknowledge=acknowledge, lans=lab.lans)
    scripts = dict.fromkeys(("prestart", "start_prim", "stop_prim"), NOTHING)
    modules.install(lab, module, config, scripts)
    safekit(lab["n2"], "start", "-m", module)
    safekit(lab["n1"], "prim", "-m", module)
    wait_pair(lab, module, "n1", "n2")
    return directory


def measure_all(lab: Lab, rounds: int, chosen: str) -> dict[str, dict[str, list[float]]]:
    n1 = lab["n1"]
    n1.shell("mkdir -p /data/bare")
    systems = {"ext4": "/data/bare", **set_up_gluster(lab)}
    systems["safepy second"] = set_up_safepy(lab, "second", "second")
    systems["safepy none"] = set_up_safepy(lab, "none", "none")
    workloads = [one for one in WORKLOADS if chosen in one.name]
    results: dict[str, dict[str, list[float]]] = {
        workload.name: {system: [] for system in systems} for workload in workloads
    }
    for turn in range(rounds):
        for workload in workloads:
            for system, directory in systems.items():
                place = f"{directory}/round"
                n1.shell(f"mkdir -p {place}")
                figure = workload.measure(n1, place)
                n1.shell(f"rm -rf {place}", timeout_s=300)
                results[workload.name][system].append(figure)
                told = f"round {turn + 1}  {workload.name:<36} {system:<22} {figure:12,.0f}"
                print(f"{told} {workload.unit}", file=sys.stderr, flush=True)
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Medians, and each of safepy's over GlusterFS."""
    units = {workload.name: workload.unit for workload in WORKLOADS}
    systems = list(next(iter(results.values())))
    lines = [
        "| writes | " + " | ".join(systems) + " | second : GlusterFS | none : GlusterFS |",
        "| --- |" + " ---: |" * (len(systems) + 2),
    ]
    for workload, figures in results.items():
        medians = {system: statistics.median(values) for system, values in figures.items()}
        cells = [f"{medians[system]:,.0f} {units[workload]}" for system in systems]
        for ours in ("safepy second", "safepy none"):
            cells.append(f"{medians[ours] / max(medians['GlusterFS'], 0.001):.1f}")
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="workloads with TEXT in the name"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE")
    arguments = parser.parse_args(argv)
    lab = Lab("bench")
    try:
        lab.up(lans=1)
        results = measure_all(lab, arguments.rounds, arguments.only)
    except LabError as error:
        print(f"bench: {error}\n{report(lab, ['second', 'none'])}", file=sys.stderr)
        return 1
    finally:
        lab.down()
    print(table(results))
    print(json.dumps(results))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
