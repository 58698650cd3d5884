"""Scripts that hang, flood, die or leave children behind (reference 10, protocol S14)."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from safepy.errors import ScriptError
from safepy.host.scripts import (
    ScriptResult,
    ScriptRunner,
    checked_script,
    log_name,
    script_environment,
)
from safepy.host.tasks import Tasks

ENVIRONMENT = script_environment({"SAFE": "/opt/safekit", "SAFEMODULE": "m"}, ())


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a failed test left running is known by its output, which is in this folder."""
    yield
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if os.readlink(output).startswith(f"{tmp_path}/"):
                end(int(output.parts[2]))


@pytest.fixture
def runner(tasks: Tasks) -> ScriptRunner:
    return ScriptRunner(tasks)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_(text: str, name: str = "start_prim") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write_


async def until(holds: Callable[[], bool], at_most_s: float = 5.0) -> None:
    deadline = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def end(pid: int) -> None:
    if alive(pid):
        os.kill(pid, signal.SIGKILL)


async def run(
    runner: ScriptRunner,
    script: Path,
    *arguments: str,
    timeout_s: float | None = 10.0,
    max_bytes: int = 1 << 20,
    log: bool = True,
) -> ScriptResult:
    log_path = script.parent / log_name(script.name, datetime(2024, 2, 12, 9, 14, 10))
    return await runner.run(
        script, arguments, ENVIRONMENT, timeout_s, log_path if log else None, max_bytes
    )


async def test_log_arguments_environment_and_exit_code(
    runner: ScriptRunner, write: Callable[[str], Path]
) -> None:
    script = write(
        """echo "$@"; env; cat; grep flags /proc/self/fdinfo/1
        [ "$(cut -d' ' -f6 /proc/self/stat)" = $$ ] && echo own session
        pwd; ls /proc/self/fd >&2; exit 3"""
    )
    result = await run(runner, script, "force", "PRIM", "WAIT", "stop; echo hacked")
    assert (result.exit_code, result.ok, result.describe()) == (3, False, "exit code 3")
    assert result.log_path == script.parent / "userlog_2024-02-12T091410_start_prim.ulog"
    lines = result.log_path.read_text().splitlines()
    header, arguments, *rest = lines
    assert header.startswith("----------- ")
    datetime.strptime(header, "----------- %Y-%m-%dT%H:%M:%S start_prim")
    assert arguments == "force PRIM WAIT stop; echo hacked"
    names = {line.partition("=")[0] for line in rest if "=" in line}
    assert names == {"PATH", "LANG", "SAFE", "SAFEMODULE", "SAFEPY_RUN", "PWD"}
    flags = int(next(line for line in rest if line.startswith("flags:")).split()[1], 8)
    assert flags & os.O_APPEND, "after a cut the script would write far behind the end"
    assert "own session" in rest
    # Standard input, output, error, and the folder that ls reads.
    assert rest[-5:] == ["/", "0", "1", "2", "3"]


async def test_missing_script_is_no_error(runner: ScriptRunner, tmp_path: Path) -> None:
    result = await run(runner, tmp_path / "transition")
    assert (result.missing, result.ok, result.log_path) == (True, True, None)
    assert list(tmp_path.iterdir()) == []


async def test_two_runs_in_one_second_have_two_logs(
    runner: ScriptRunner, write: Callable[[str], Path]
) -> None:
    script = write("echo $1")
    first, second = await asyncio.gather(run(runner, script, "a"), run(runner, script, "b"))
    assert first.log_path != second.log_path
    assert first.log_path is not None
    assert second.log_path is not None
    both = [path.read_text().splitlines()[1] for path in (first.log_path, second.log_path)]
    assert both == ["a", "b"]


async def test_a_planted_log_is_not_followed(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    script = write("echo x")
    (tmp_path / "userlog_2024-02-12T091410_start_prim.ulog").symlink_to(victim)
    result = await run(runner, script)
    assert victim.read_text() == "precious"
    assert result.log_path is not None
    assert result.log_path.name.endswith("start_prim-2.ulog")


async def test_a_log_that_cannot_be_made_stops_no_script(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    script = write(f"echo x; touch {tmp_path}/ran")
    where = tmp_path / "no" / "such" / "folder" / "x.ulog"
    result = await runner.run(script, (), ENVIRONMENT, 10.0, where, 1000)
    assert result.ok
    assert (tmp_path / "ran").exists()
    assert result.log_path is None
    assert "No such file" in result.log_error


@pytest.mark.parametrize("resident", [False, True])
async def test_a_log_without_room_for_its_first_line_keeps_no_descriptor(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path, resident: bool
) -> None:
    script, log = write("exit 0"), tmp_path / "x.ulog"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def still_open() -> list[str]:
        links = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return [name for name in map(os.readlink, links) if name == str(log)]

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the kernel refuses each byte
    try:
        result = await runner.run(script, [], ENVIRONMENT, 5.0, log, 1 << 20, resident)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.ok and str(log) in result.log_error
    assert still_open() == []


async def test_an_application_is_no_harder_to_kill_than_others(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    """The daemon is the last that goes when memory runs out; what it starts must not inherit it."""
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text("300")  # whoever may not be protected may not write less
    try:
        script = write(f"sleep 0.2; (cat /proc/self/oom_score_adj) > {tmp_path}/score")
        await run(runner, script)
    finally:
        own.write_text(before)
    assert (tmp_path / "score").read_text() == "0\n"


async def test_death_by_a_signal(runner: ScriptRunner, write: Callable[[str], Path]) -> None:
    result = await run(runner, write("kill -SEGV $$"), log=False)
    assert (result.exit_code, result.signal, result.ok) == (None, signal.SIGSEGV, False)
    assert result.describe() == "killed by signal 11 (SIGSEGV)"


async def test_time_limit_ends_everything_that_was_started(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    # A process group of its own and no mark: only the session still gives it away.
    own_group = f'import os; os.setpgid(0, 0); os.system("echo $PPID >> {pids}; sleep 305")'
    script = write(
        f"""trap '' TERM INT HUP
        echo $$ >> {pids}
        (trap '' TERM; echo $(exec sh -c 'echo $PPID') >> {pids}; sleep 300) &
        setsid sh -c 'echo $$ >> {pids}; trap "" TERM; sleep 301 & sleep 302' &
        setsid -f sh -c 'setsid -f sh -c "echo \\$\\$ >> {pids}; sleep 303; :"'
        env -i {sys.executable} -c '{own_group}' &
        sleep 304"""
    )
    started = time.monotonic()
    result = await run(runner, script, timeout_s=1.0)
    assert (result.timed_out, result.ok) == (True, False)
    assert time.monotonic() - started < 4.0
    found = [int(line) for line in pids.read_text().split()]
    try:
        assert len(found) == 5
        assert [pid for pid in found if alive(pid)] == []
    finally:
        for pid in found:
            end(pid)


async def test_cancelling_ends_everything_too(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    script = write(f"echo $$ > {tmp_path}/pid; sleep 300")
    task = asyncio.ensure_future(run(runner, script, timeout_s=None))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_what_a_start_script_leaves_behind_lives_on_and_keeps_its_output(
    runner: ScriptRunner, tasks: Tasks, write: Callable[[str], Path], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = write(
        f"""(echo $(exec sh -c 'echo $PPID') > {tmp_path}/pid
        while ! [ -e {go} ]; do sleep 0.05; done; echo late; exec sleep 300) &
        echo early"""
    )
    started = time.monotonic()
    result = await run(runner, script, timeout_s=5.0)
    assert (result.exit_code, result.timed_out) == (0, False)
    assert time.monotonic() - started < 2.0, "the run waited for the application"
    await until(lambda: (tmp_path / "pid").exists())
    pid = int((tmp_path / "pid").read_text())
    try:
        assert len(tasks) == 1, "nobody keeps the log of the living application bounded"
        # As if the daemon had ended: nobody watches any more, the application does not notice.
        await tasks.close()
        go.touch()
        log = result.log_path
        assert log is not None
        await until(lambda: log.read_text().endswith("early\nlate\n"))
        assert alive(pid)
        # The next daemon takes the log up again, and lets it go with the application.
        (tmp_path / "userlog_x.ulog").touch()
        assert runner.adopt(tmp_path, 1000) == 1
        assert len(tasks) == 1
    finally:
        end(pid)
    await until(lambda: len(tasks) == 0)


async def test_a_flood_is_cut_and_does_not_make_the_script_wait(
    runner: ScriptRunner, tasks: Tasks, write: Callable[[str], Path]
) -> None:
    script = write("echo first; head -c 50000000 /dev/zero | tr '\\0' x; sleep 0.6; echo last")
    result = await run(runner, script, max_bytes=10_000)
    assert result.exit_code == 0
    await until(lambda: len(tasks) == 0)
    assert result.log_path is not None
    text = result.log_path.read_text()
    assert text.splitlines()[1].startswith("first")
    assert text.endswith("\n----------- more than 10000 bytes: the rest is discarded\n")
    assert 10_000 < len(text) < 10_100


async def test_an_endless_flood_stays_bounded_while_it_lasts(
    runner: ScriptRunner, tasks: Tasks, write: Callable[[str], Path]
) -> None:
    script = write("while :; do echo 0123456789012345678901234567890123456789; done")
    running = asyncio.ensure_future(run(runner, script, timeout_s=1.5, max_bytes=2000))
    sizes = []
    log = script.parent / "userlog_2024-02-12T091410_start_prim.ulog"
    while not running.done():
        await asyncio.sleep(0.1)
        sizes.append(log.stat().st_size if log.exists() else 0)
    assert (await running).timed_out
    # What a shell writes in about a quarter of a second, not in a second and a half.
    assert min(sizes[5:]) < max(sizes)
    await until(lambda: len(tasks) == 0)
    assert 2000 < log.stat().st_size < 2100


async def test_a_script_nobody_can_run(
    runner: ScriptRunner, write: Callable[[str], Path], tmp_path: Path
) -> None:
    script = tmp_path / "start_prim"
    script.write_text("no interpreter\n")
    script.chmod(0o755)
    with pytest.raises(ScriptError, match="cannot be run: Exec format error"):
        await run(runner, script)
    script.chmod(0o644)
    with pytest.raises(ScriptError, match="not executable"):
        await run(runner, script)


def test_ownership_is_checked_up_to_the_root(write: Callable[..., Path], tmp_path: Path) -> None:
    script = write("true")
    assert checked_script(script) == script
    script.chmod(0o757)
    with pytest.raises(ScriptError, match=f"others than root may write to {script}"):
        checked_script(script)
    script.chmod(0o755)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    inner = folder / "s"
    inner.write_text("#!/bin/sh\n")
    inner.chmod(0o755)
    assert checked_script(inner) == inner
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(ScriptError, match=f"may write to {tmp_path}/a "):
        checked_script(inner)
    # A sticky folder protects what is in it, as /tmp does.
    (tmp_path / "a").chmod(0o1777)
    assert checked_script(inner) == inner
    (tmp_path / "link").symlink_to(inner)
    assert checked_script(tmp_path / "link") == inner
    with pytest.raises(ScriptError, match="no file"):
        checked_script(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_scripts_of_others_are_not_run(write: Callable[..., Path], tmp_path: Path) -> None:
    script = write("true")
    os.chown(script, 12345, 0)
    with pytest.raises(ScriptError, match="belongs to user 12345"):
        checked_script(script)
    os.chown(script, 0, 0)
    assert checked_script(script) == script
    script.chmod(0o775)
    assert checked_script(script) == script
    os.chown(script, 0, 12345)
    script.chmod(0o775)
    with pytest.raises(ScriptError, match="others than root may write"):
        checked_script(script)


def test_variables_of_the_user_cannot_replace_the_documented() -> None:
    made = script_environment({"SAFE": "/a"}, [("SAFE", "/evil"), ("PATH", "/mine"), ("X", "1")])
    assert made == {"PATH": "/mine", "LANG": "C.UTF-8", "SAFE": "/a", "X": "1"}
