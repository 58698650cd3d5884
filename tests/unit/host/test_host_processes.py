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
from safepy.host.processes import (
    COMMAND_BYTES_MAX,
    Process,
    family,
    line_of,
    look,
    matching,
    no_name,
    scan,
    wants_command,
)

PROCESSES = [
    Process(1, 1, "postgres", "/usr/lib/postgresql/15/bin/postgres -D /srv/db"),
    Process(2, 1, "postgres", "postgres: walwriter"),
    Process(3, 1, "very-long-name-", "/opt/very-long-name-of-a-command"),
    Process(4, 1, "postgresql", "postgresql"),
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
        assert found[0] == look(pid)
        assert (found[0].name, found[0].parent) == ("a-command-with-", shell.pid)
        started_s = found[0].started / os.sysconf("SC_CLK_TCK")
        assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - started_s < 30
        assert [each.command for each in scan(no_name) if each.pid == pid] == [""]
    finally:
        os.kill(pid, 9)
        shell.wait()


def test_the_daemon_its_children_and_the_dead_are_not_counted() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    shell, pid = grandchild("sh", "-c", "exit 0")
    try:
        seen = {each.pid for each in scan(hidden=os.getpid())}
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


def test_command_lines_are_read_only_of_names_that_an_argregex_is_about() -> None:
    procs = [
        Proc("postgres", "prim"),
        Proc("java", "prim", argregex="app"),
        Proc("x", "prim", nameregex="^ora_", argregex="db"),
    ]
    wanted = wants_command(procs)
    assert [bool(wanted(name)) for name in ("postgres", "java", "ora_pmon", "nora_")] == [
        False,
        True,
        True,
        False,
    ]
    assert not wants_command(procs[:1])("postgres")


def test_what_a_process_calls_itself_breaks_nothing(tmp_path: Path) -> None:
    """Names with parentheses, blanks, line feeds and bytes that are no text; a long line."""
    program = tmp_path / "a) S 1 (\n\udcff"
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, program)
    # exec -a: the line is what its owner says.
    shell, pid = grandchild(
        "bash", "-c", 'exec -a "$(head -c 60000 /dev/zero | tr "\\0" x)" "$0" 60', str(program)
    )
    try:
        deadline = time.monotonic() + 5
        found = look(pid)
        while found is None or not found.name.startswith("a) S") or not found.command:
            assert time.monotonic() < deadline
            found = look(pid)
        assert found.name == "a) S 1 (\n\udcff"
        assert len(found.command) == COMMAND_BYTES_MAX
        line = line_of(found)
        assert line.isprintable()
        assert line.startswith(f"{pid} a) S 1 (?? xxx")
        assert line.endswith(f"(parent={shell.pid})")
    finally:
        os.kill(pid, 9)
        shell.wait()


def test_a_thread_is_no_process_and_its_name_is_not_that_of_its_process() -> None:
    code = (
        "import threading,ctypes,time\n"
        "def run():\n ctypes.CDLL(None).prctl(15, b'other-name', 0, 0, 0); time.sleep(60)\n"
        "[threading.Thread(target=run, daemon=True).start() for _ in range(8)]\n"
        "print(1, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        seen = scan()
        assert [each.pid for each in seen if each.pid == child.pid] == [child.pid]
        assert "other-name" not in {each.name for each in seen}
    finally:
        child.kill()
        child.wait()


def test_processes_that_come_and_go_during_a_look_break_nothing() -> None:
    shell = subprocess.Popen(["/bin/sh", "-c", "while :; do /bin/true; done"])
    try:
        for _ in range(50):
            assert shell.pid in {each.pid for each in scan()}
        assert look(shell.pid) is not None
    finally:
        shell.kill()
        shell.wait()
    assert look(shell.pid) is None


def test_family_is_a_process_and_all_it_was_called_from() -> None:
    processes = [Process(pid, 1, "x", "", parent) for pid, parent in ((1, 0), (5, 1), (6, 5))]
    assert family(6, processes) == {6, 5, 1}
    assert family(7, processes) == {7}
    # A picture taken while pids changed hands may hold a circle.
    assert family(8, [Process(8, 1, "x", "", 9), Process(9, 1, "x", "", 8)]) == {8, 9}


def test_a_look_opens_one_file_for_each_process_and_lines_only_where_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a look costs, in calls: thirty-two modules at rest pay it every few seconds."""
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a: opened.append(path) or real(path, *a))
    everybody = scan(no_name)
    assert all(path.endswith("/stat") for path in opened)
    assert len(everybody) <= len(opened) == len(set(opened))
    opened.clear()
    own = look(os.getpid())
    assert own is not None
    opened.clear()
    named = [each for each in scan(own.name.__eq__) if each.name == own.name]
    lines = [path for path in opened if path.endswith("/cmdline")]
    assert len(named) == len(lines)
