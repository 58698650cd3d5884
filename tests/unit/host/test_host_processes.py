"""Which processes a <proc> means (reference: userconfig 14.1)."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safepy.config.schema import Proc
from safepy.host.processes import Process, matching, scan

PROCESSES = [
    Process(1, 1.0, "postgres", "/usr/lib/postgresql/15/bin/postgres -D /srv/db"),
    Process(2, 1.0, "postgres", "postgres: walwriter"),
    Process(3, 1.0, "very-long-name-of-a-command", "/opt/very-long-name-of-a-command"),
    Process(4, 1.0, "postgresql", "postgresql"),
]


def pids(proc: Proc) -> list[int]:
    return [each.pid for each in matching(proc, PROCESSES)]


@pytest.mark.parametrize(
    ("proc", "found"),
    [
        (Proc("postgres", "prim"), [1, 2]),
        (Proc("Postgres", "prim"), []),
        (Proc("very-long-name-", "prim"), [3]),
        (Proc("very-long-name", "prim"), []),
        (Proc("postgres", "prim", argregex=".*-D /srv/db.*"), [1]),
        (Proc("postgres", "prim", argregex="-D /srv$"), []),
        (Proc("label", "prim", nameregex="^postgres"), [1, 2, 4]),
        (Proc("label", "prim", nameregex="gres$"), [1, 2]),
        (Proc("label", "prim", nameregex="^p", argregex="writer"), [2]),
    ],
)
def test_matching(proc: Proc, found: list[int]) -> None:
    assert pids(proc) == found


def grandchild(*command: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A process that is no direct child of ours, as an application is; and the shell above it."""
    shell = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" & echo $!; wait', "sh", *command], stdout=subprocess.PIPE
    )
    assert shell.stdout is not None
    return shell, int(shell.stdout.readline())


def test_scan_sees_real_processes_with_names_longer_than_the_kernel_keeps(tmp_path: Path) -> None:
    program = tmp_path / "a-command-with-a-long-name"
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, program)
    shell, pid = grandchild(str(program), "60")
    try:
        found: list[Process] = []
        deadline = time.monotonic() + 5
        while not found and time.monotonic() < deadline:
            found = matching(Proc("a-command-with-", "prim", argregex="name 60$"), scan())
        assert [each.pid for each in found] == [pid]
        assert found[0].created == pytest.approx(time.time(), abs=30)
        assert [each.command for each in scan(commands=False) if each.pid == pid] == [""]
    finally:
        os.kill(pid, 9)
        shell.wait()


def test_the_daemon_its_children_and_the_dead_are_not_counted() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    shell, pid = grandchild("sh", "-c", "exit 0")
    try:
        seen = {each.pid for each in scan()}
        assert os.getpid() not in seen
        assert child.pid not in seen
        assert os.getppid() in seen
    finally:
        child.kill()
        child.wait()
        shell.wait()
    assert pid not in {each.pid for each in scan()}


async def test_a_zombie_is_not_running() -> None:
    code = "import os,time\nif os.fork()==0: os._exit(0)\nprint(1, flush=True)\ntime.sleep(60)"
    # The zombie is a grandchild of ours: its parent does not wait for it.
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        await parent.stdout.readline()
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        zombie = int(children.read_text())
        deadline = time.monotonic() + 5
        while ") Z " not in Path(f"/proc/{zombie}/stat").read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert zombie not in {each.pid for each in scan()}
    finally:
        parent.kill()
        await parent.wait()
