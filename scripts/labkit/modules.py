"""Modules for the lab, made from the generic mirror module."""

from __future__ import annotations

import shutil
from pathlib import Path

from .lab import CHECKOUT, Lab
from .need import postgres_bin
from .safekit import safekit

#: The fast profile: a loss is noticed after 5 s.
PULSE_MS, TIMEOUT_MS = 500, 5000

USERCONFIG = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE safe>
<safe>
  <service mode="mirror" defaultprim="{defaultprim}" failover="{failover}"
           loop_interval="{loop_interval}">
    <heart pulse="{pulse}" timeout="{timeout}">
{heartbeats}
    </heart>
    <rfs async="{acknowledge}" acl="on" nbrei="3"{rfs}>
      <replicated dir="{directory}" mode="read_only"/>
    </rfs>
{errd}
{checks}
    <user nicestoptimeout="20" forcestoptimeout="20" logging="userlog"/>
  </service>
</safe>
"""


def userconfig(
    directory: str,
    *,
    process: str = "",
    argument_pattern: str = "",
    lans: int = 2,
    acknowledge: str = "second",
    defaultprim: str = "alone",
    failover: str = "on",
    loop_interval: str = "24",
    checks: str = "",
    rfs: str = "",
) -> str:
    """A userconfig.xml in the fast profile that replicates `directory`, watching `process`.

    `checks` is what stands in `<check>`, `rfs` further attributes of `<rfs>`."""
    names = [f'      <heartbeat name="lan{lan}"{_flow(lan)}/>' for lan in range(1, lans + 1)]
    errd = ""
    if process:
        pattern = f' argregex="{argument_pattern}"' if argument_pattern else ""
        errd = (
            '    <errd polltimer="1">\n'
            f'      <proc name="{process}" atleast="1" action="restart" class="prim"{pattern}/>\n'
            "    </errd>"
        )
    return USERCONFIG.format(
        defaultprim=defaultprim,
        failover=failover,
        loop_interval=loop_interval,
        pulse=PULSE_MS,
        timeout=TIMEOUT_MS,
        heartbeats="\n".join(names),
        acknowledge=acknowledge,
        directory=directory,
        errd=errd,
        checks=f"    <check>{checks}</check>" if checks else "",
        rfs=f" {rfs}" if rfs else "",
    )


def _flow(lan: int) -> str:
    return ' ident="flow"' if lan == 1 else ""


def install(lab: Lab, module: str, config: str, scripts: dict[str, str]) -> None:
    """Lay the module out from mirror.safe, install and configure it on every node."""
    folder = lab.shared_path(f"modules/{module}.safe")
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(CHECKOUT / "modules/mirror.safe", folder)
    write(folder, config, scripts)
    for node in lab.nodes.values():
        safekit(node, "module", "install", "-m", module, f"/lab/modules/{module}.safe")
        safekit(node, "config", "-m", module)


def write(folder: Path, config: str, scripts: dict[str, str]) -> None:
    (folder / "conf/userconfig.xml").write_text(config)
    for name, text in scripts.items():
        script = folder / "bin" / name
        script.write_text(text)
        script.chmod(0o755)


PRESTART = """\
#!/bin/sh
# The application must be certainly down before the directories are touched.
cd "$(dirname "$0")" || exit 1
./stop_prim "$@"
./stop_prim force "$@"
"""

# -- PostgreSQL --------------------------------------------------------------------------------

PG_DIRECTORY = "/data/pg"
PG_DATA = f"{PG_DIRECTORY}/main"

PG_START = """\
#!/bin/sh
# Start PostgreSQL on the replicated directory and wait until it answers.
set -eu
if ! pgrep -u postgres -x postgres >/dev/null; then
    # Left by a server that died with its node; its process id means nothing here.
    rm -f {data}/postmaster.pid
fi
if ! runuser -u postgres -- {bin}/pg_ctl start -w -t 60 -D {data} -l /var/log/postgresql/pg.log
then
    safekit printe "PostgreSQL does not start: see /var/log/postgresql/pg.log"
    safekit stop -i start_prim
    exit 1
fi
"""

PG_STOP = """\
#!/bin/sh
# Stop PostgreSQL: first politely, then (with "force") whatever is left of it.
if [ "${{1:-}}" != force ]; then
    [ ! -e {data}/postmaster.pid ] ||
        runuser -u postgres -- {bin}/pg_ctl stop -w -t 15 -m fast -D {data}
    exit 0
fi
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    pgrep -u postgres -x postgres >/dev/null || exit 0
    pkill -KILL -u postgres -x postgres
    sleep 0.2
done
safekit printe "PostgreSQL does not stop"
"""


def install_postgres(
    lab: Lab, module: str = "pg", *, acknowledge: str = "second", loop_interval: str = "24"
) -> None:
    binaries = str(postgres_bin())
    values = {"bin": binaries, "data": PG_DATA}
    scripts = {
        "prestart": PRESTART,
        "start_prim": PG_START.format(**values),
        "stop_prim": PG_STOP.format(**values),
    }
    for node in lab.nodes.values():
        node.shell(f"install -d {PG_DIRECTORY}; install -d -o postgres /var/log/postgresql")
    xml = userconfig(
        PG_DIRECTORY, process="postgres", acknowledge=acknowledge, loop_interval=loop_interval
    )
    install(lab, module, xml, scripts)


def create_database(lab: Lab, node: str) -> None:
    """initdb on the node that will be the first primary, open to the lab's lans."""
    binaries = postgres_bin()
    network = lab.layout.network(0).rpartition(".")[0]
    lab[node].shell(
        f"install -d -o postgres -g postgres -m 700 {PG_DATA}\n"
        f"runuser -u postgres -- {binaries}/initdb -D {PG_DATA} -A trust -E UTF8 -k "
        "--locale=C --wal-segsize=4\n"
        f"cat >> {PG_DATA}/postgresql.conf <<'END'\n"
        "listen_addresses = '*'\nunix_socket_directories = '/tmp'\nshared_buffers = 32MB\n"
        "max_wal_size = 64MB\nmin_wal_size = 16MB\ncheckpoint_timeout = 30s\nEND\n"
        f"echo 'host all all {network}.0.0/16 trust' >> {PG_DATA}/pg_hba.conf\n"
    )


# -- a writer of our own -----------------------------------------------------------------------

WRITER_START = """\
#!/bin/sh
# The test application: appends numbered records to files of the replicated directory.
exec /usr/bin/python3 /lab/programs/writer.py {directory} /lab/acknowledged {module} \
    </dev/null >>/var/log/writer-{module}.log 2>&1
"""

WRITER_STOP = """\
#!/bin/sh
signal=TERM
[ "${{1:-}}" != force ] || signal=KILL
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    pgrep -f "[w]riter.py {directory}" >/dev/null || exit 0
    pkill -$signal -f "[w]riter.py {directory}"
    sleep 0.2
done
"""


def install_writer(lab: Lab, module: str, directory: str, **settings: str) -> None:
    """A module whose application is programs/writer.py."""
    values = {"directory": directory, "module": module}
    scripts = {
        "prestart": PRESTART,
        "start_prim": WRITER_START.format(**values),
        "stop_prim": WRITER_STOP.format(**values),
    }
    for node in lab.nodes.values():
        node.shell(f"mkdir -p {directory} /lab/acknowledged")
    config = userconfig(
        directory,
        process="python3",
        argument_pattern=f".*writer[.]py {directory} .*",
        lans=lab.lans,
        **settings,
    )
    install(lab, module, config, scripts)
