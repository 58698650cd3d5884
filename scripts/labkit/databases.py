"""MariaDB and SQLite as one module: two more applications that notice every lost or mixed write."""

from __future__ import annotations

from . import need
from .lab import Lab
from .modules import PRESTART, install, userconfig
from .node import Node
from .procs import wait_until
from .programs import mariaload

DIRECTORY = "/data/db"
MARIA_DATA, SQLITE = f"{DIRECTORY}/maria", f"{DIRECTORY}/sqlite"
#: What each load had committed, on the machine: it outlives the nodes.
MARIA_NUMBERS, SQLITE_NUMBERS = "/lab/maria.numbers", "/lab/sqlite.numbers"
SOCKET = "/tmp/lab-mariadb.sock"
SERVER = (
    f"mariadbd --no-defaults --user=mysql --datadir={MARIA_DATA} --socket={SOCKET} "
    "--skip-networking --innodb-buffer-pool-size=32M --innodb-log-file-size=8M"
)

START = """\
#!/bin/sh
# Start MariaDB, wait until it answers, then both loads.
set -eu
pgrep -x mariadbd >/dev/null || {server} >>/var/log/mariadb.log 2>&1 </dev/null &
for attempt in $(seq 300); do
    mariadb --no-defaults -S {socket} -e "SELECT 1" >/dev/null 2>&1 && break
    sleep 0.1
done
cd /lab
PYTHONPATH=/lab python3 programs/mariaload.py {socket} {maria_numbers} \
    </dev/null >>/var/log/loads.log 2>&1 &
for mode in wal delete; do
    python3 programs/sqliteload.py {sqlite}/$mode.db $mode {sqlite_numbers}.$mode $mode \
        </dev/null >>/var/log/loads.log 2>&1 &
done
"""

STOP = """\
#!/bin/sh
signal=TERM
[ "${{1:-}}" != force ] || signal=KILL
pkill -$signal -f "programs/[ms][a-z]*load.py"
for attempt in $(seq 100); do
    pgrep -x mariadbd >/dev/null || exit 0
    pkill -$signal -x mariadbd
    sleep 0.2
done
"""


def install_databases(lab: Lab) -> None:
    need.commands("mariadbd", "sqlite3")
    values = {
        "server": SERVER,
        "socket": SOCKET,
        "sqlite": SQLITE,
        "maria_numbers": MARIA_NUMBERS,
        "sqlite_numbers": SQLITE_NUMBERS,
    }
    scripts = {
        "prestart": PRESTART,
        "start_prim": START.format(**values),
        "stop_prim": STOP.format(**values),
    }
    for node in lab.nodes.values():
        node.shell(f"install -d {DIRECTORY}")
    install(lab, "db", userconfig(DIRECTORY), scripts)


def create_databases(lab: Lab, node: str) -> None:
    """On the node that will be the first primary."""
    lab[node].shell(
        f"install -d {SQLITE}; install -d -o mysql -g mysql {MARIA_DATA}\n"
        "mariadb-install-db --no-defaults --user=mysql --auth-root-authentication-method=normal "
        f"--skip-test-db --datadir={MARIA_DATA} >/dev/null"
    )


def committed(lab: Lab) -> dict[str, int]:
    """How many transactions each load has noted."""
    names = ["maria.numbers", "sqlite.numbers.wal", "sqlite.numbers.delete"]
    paths = {name: lab.shared_path(name) for name in names}
    return {
        name: len(path.read_bytes().splitlines()) if path.exists() else 0
        for name, path in paths.items()
    }


def wait_for_commits(lab: Lab, more: int, at_most_s: float = 60.0) -> None:
    """Until every load has committed so many more."""
    before = committed(lab)

    def enough() -> bool:
        return all(count >= before[name] + more for name, count in committed(lab).items())

    wait_until(f"{more} more commits of every load", enough, at_most_s, 0.3)


def stop_loads(node: Node) -> None:
    node.run("pkill", "-TERM", "-f", "programs/[ms][a-z]*load.py", check=False)


def complaints(lab: Lab, node: Node) -> list[str]:
    """What the databases' own checks say on the node that serves, and what is missing."""
    found: list[str] = []
    checked = node.shell(
        f"mariadb-check --no-defaults -S {SOCKET} -u root --all-databases --extended"
    ).splitlines()
    found += [line for line in checked if line.strip() and not line.endswith("OK")]
    if not any(line.startswith("lab.done") for line in checked):
        found.append("mariadb-check did not look at our table")
    for mode in ("wal", "delete"):
        program = (
            "import sys; sys.path.insert(0, '/lab/programs'); import sqliteload; "
            f"print(sqliteload.complaints('{SQLITE}/{mode}.db', '{SQLITE_NUMBERS}.{mode}'))"
        )
        said = node.run("python3", "-c", program).stdout.strip()
        found += [] if said == "[]" else [f"sqlite {mode}: {said}"]
    rows = node.run(
        "mariadb", "--no-defaults", "-S", SOCKET, "-N", "-e", "SELECT number FROM lab.done"
    ).stdout
    missing = mariaload.missing(lab.shared_path("maria.numbers"), rows)
    return found + [f"mariadb: {len(missing)} missing: {missing[:3]}"] * bool(missing)
