"""What is measured of each system: one function a case, on a directory of node n1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import need
from .node import Node
from .procs import LabError, run

#: (node, an empty directory of the system) -> figures by the names of the case
Measure = Callable[[Node, str], list[float]]


@dataclass(frozen=True)
class Scale:
    """How much of everything: the defaults take minutes, `full` what the aims speak of."""

    seconds: int = 2
    listed_files: int = 5_000
    read_mib: int = 256
    pgbench_scale: int = 5
    small_files: int = 5_000
    large_files: int = 8
    large_mib: int = 64


FULL = Scale(
    seconds=5,
    listed_files=100_000,
    read_mib=1024,
    pgbench_scale=20,
    small_files=100_000,
    large_files=40,
    large_mib=102,
)


@dataclass(frozen=True)
class Case:
    """`figures`: (name, unit) of each number that `measure` gives. More is better, unless the unit
    is one of time. `remote`: the way to the other node matters."""

    figures: tuple[tuple[str, str], ...]
    measure: Measure
    remote: bool = True


W1 = "4 KiB writes, 1 writer"
W16 = "4 KiB writes, 16 writers"
SYNC = "4 KiB write + fdatasync"
CREATE = "small files (create, 4 KiB, close)"
UNLINK = "small files, unlink"
SEQUENTIAL = "sequential write, 1 MiB"
COLD = "cold read, 128 KiB"
WARM = "warm read, 128 KiB"
WARM_SMALL = "warm read, 4 KiB at random"
LIST_FIRST = "ls -lR, first"
LIST_AGAIN = "ls -lR, repeated"
PGBENCH = "pgbench TPC-B, 8 clients"
#: In the order of the table.
NAMES = (
    *(LIST_FIRST, LIST_AGAIN, W1, W16, SYNC, CREATE, UNLINK, SEQUENTIAL),
    *(COLD, WARM, WARM_SMALL, PGBENCH),
)


def cases(scale: Scale) -> tuple[Case, ...]:
    def write(*options: str) -> Measure:
        return lambda node, place: [_fio(node, place, scale.seconds, "write", *options)]

    return (
        Case(((W1, "/s"),), write("--bs=4k", "--size=64m")),
        Case(((W16, "/s"),), write("--bs=4k", "--size=16m", "--numjobs=16")),
        Case(((SYNC, "/s"),), write("--bs=4k", "--size=64m", "--fdatasync=1")),
        Case(((CREATE, "/s"), (UNLINK, "/s")), lambda node, place: _small(node, place, scale)),
        Case(((SEQUENTIAL, "MiB/s"),), write("--bs=1m", "--size=512m")),
        Case(
            ((COLD, "MiB/s"), (WARM, "MiB/s"), (WARM_SMALL, "/s")),
            lambda node, place: _reads(node, place, scale),
            remote=False,
        ),
        Case(((PGBENCH, "tps"),), lambda node, place: [_pgbench(node, place, scale)]),
    )


def _fio(node: Node, place: str, seconds: int, kind: str, *options: str) -> float:
    """Operations a second of one fio job."""
    argv = ["fio", "--name=b", f"--directory={place}", "--ioengine=psync", "--thread"]
    argv += ["--group_reporting", "--output-format=json", "--end_fsync=0", "--fallocate=none"]
    if seconds:
        argv += ["--time_based", f"--runtime={seconds}"]
    done = node.run(*argv, f"--rw={kind}", *options, timeout_s=600)
    printed = json.loads(done.stdout[done.stdout.index("{") :])
    return float(printed["jobs"][0]["write" if kind == "write" else "read"]["iops"])


def _small(node: Node, place: str, scale: Scale) -> list[float]:
    program = "/lab/programs/smallfiles.py"
    argv = ["/usr/bin/python3", program, f"{place}/small", str(scale.seconds)]
    done = node.run(*argv, timeout_s=900)
    return [float(word) for word in done.stdout.split()]


def drop_caches() -> None:
    """Forget what the kernel read and wrote: of the machine, so of every node and system."""
    run("sync", timeout_s=300)
    run("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches")


def _reads(node: Node, place: str, scale: Scale) -> list[float]:
    """The same file cold and warm, then warm at random."""
    size = f"--size={scale.read_mib}m"
    layout = f"dd if=/dev/urandom of={place}/read bs=1M count={scale.read_mib} status=none"
    node.shell(layout, timeout_s=600)
    shared = ["--filename=read", size, "--bs=128k"]
    drop_caches()
    cold = _fio(node, place, 0, "read", *shared)
    _fio(node, place, 0, "read", *shared)
    warm = _fio(node, place, scale.seconds, "read", *shared, "--invalidate=0")
    small = ["--filename=read", size, "--bs=4k", "--invalidate=0"]
    return [cold / 8, warm / 8, _fio(node, place, scale.seconds, "randread", *small)]


def make_listed(node: Node, place: str, scale: Scale) -> None:
    argv = ["/usr/bin/python3", "/lab/programs/maketree.py", place, str(scale.listed_files), "0"]
    node.run(*argv, timeout_s=3600)


def listing(node: Node, place: str, scale: Scale) -> list[float]:
    """Entries a second, from a cold cache and again (the better of two)."""
    drop_caches()
    times: list[float] = []
    for _ in range(3):
        begun = time.monotonic()
        count = int(node.shell(f"LC_ALL=C ls -lR {place} | wc -l", timeout_s=3600))
        times.append(time.monotonic() - begun)
        if count < scale.listed_files:
            raise LabError(f"{place}: ls -lR shows {count} lines of {scale.listed_files} files")
    return [scale.listed_files / times[0], scale.listed_files / min(times[1:])]


def _pgbench(node: Node, place: str, scale: Scale) -> float:
    """Transactions a second of a PostgreSQL with its data in the directory."""
    binaries = need.postgres_bin()
    script = f"""
    chmod 755 {place}; data={place}/pg; bin={binaries}
    install -d -o postgres -g postgres -m 700 $data
    as="runuser -u postgres -- env LC_ALL=C"
    $as $bin/initdb -D $data -A trust --locale=C >/dev/null
    cat >>$data/postgresql.conf <<'END'
listen_addresses = ''
unix_socket_directories = '/tmp'
END
    $as $bin/pg_ctl start -w -t 120 -D $data -l /tmp/bench-pg.log >/dev/null
    trap '$as $bin/pg_ctl stop -w -t 120 -m immediate -D $data >/dev/null' EXIT
    $as $bin/pgbench -h /tmp -i -q -s {scale.pgbench_scale} postgres >/dev/null 2>&1
    $as $bin/pgbench -h /tmp -n -c 8 -j 2 -T {2 * scale.seconds} postgres 2>/dev/null
    """
    for line in node.shell(script, timeout_s=900).splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise LabError("pgbench did not say how many transactions a second")
