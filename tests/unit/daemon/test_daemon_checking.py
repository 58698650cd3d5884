"""Who keeps the checkers: enabling, suspending, what is dropped, what is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.checkers.base import Test
from safepy.checkers.custom import Programs
from safepy.checkers.tcp import TcpTest
from safepy.config.schema import (
    Check,
    Checks,
    CustomCheck,
    DelayCheck,
    DiskCheck,
    ModuleCheck,
    SplitbrainCheck,
    TcpCheck,
)
from safepy.core.arbitration import Arbiter
from safepy.daemon import checking
from safepy.daemon.checking import Checking, Surroundings, arbitration_of, who
from safepy.host import limits
from safepy.host.scripts import ScriptRunner, script_environment
from safepy.host.tasks import Tasks
from safepy.model import Level


def tcp(ident: str, when: str, port: int = 1, interval_s: float = 0.01) -> TcpCheck:
    return TcpCheck(
        ident=ident, when=when, addr="127.0.0.1", port=port, interval_s=interval_s, timeout_s=5
    )


class Stage:
    def __init__(self, tmp_path: Path) -> None:
        self.reports: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.restarted: list[str] = []
        self.changes = 0
        self.tmp_path = tmp_path

    def around(self) -> Surroundings:
        def changed() -> None:
            self.changes += 1

        (self.tmp_path / "bin").mkdir(exist_ok=True)
        programs = Programs(
            ScriptRunner(Tasks()),
            "demo",
            self.tmp_path / "bin",
            self.tmp_path,
            script_environment({"SAFEMODULE": "demo"}, ()),
            4096,
        )
        return Surroundings(
            report=lambda *words: self.reports.append(words),
            say=self._say,
            on_restarted=self.restarted.append,
            changed=changed,
            programs=programs,
            probe_port=1,
        )

    def _say(self, origin: str, level: Level, text: str) -> None:
        self.said.append(f"{origin} {level} {text}")

    @asynccontextmanager
    async def checking(self, *checks: Check, again_s: float = 0.01) -> AsyncIterator[Checking]:
        made = Checking(checks, self.around(), first_test_s=0.0, again_s=again_s)
        task = asyncio.ensure_future(made.run())
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def script(self, name: str, text: str) -> Path:
        path = self.tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - until this holds, at most that long
            await asyncio.sleep(0.01)


async def test_the_first_result_and_each_change_are_reported(stage: Stage) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        async with stage.checking(tcp("sql", "prim", port)) as made:
            await asyncio.sleep(0.05)
            assert not stage.reports  # nothing is tested before its class is enabled
            made.enable("both", True)
            made.enable("prim", True)
            made.enable("prim", True)
            await until(lambda: len(stage.reports) == 1)
            why = f"127.0.0.1 port {port}: Connection refused"
            assert made.notes() == (f"tcp.sql is down: {why}",)
            server.listen()
            await until(lambda: len(stage.reports) == 2)
            assert not made.notes()
            await asyncio.sleep(0.1)
            made.enable("prim", False)
            made.enable("prim", True)
            # A new life: the same value is told again, since the core has set `init`.
            await until(lambda: len(stage.reports) == 3)
    assert stage.reports == [("tcp.sql", value, "tcpcheck") for value in ("down", "up", "up")]
    assert stage.said == [f"tcpcheck E tcp.sql: 127.0.0.1 port {port}: Connection refused"]


async def test_nothing_is_tested_while_suspended(stage: Stage) -> None:
    async with stage.checking(tcp("a", "pre"), tcp("b", "prim")) as made:
        made.suspend(True)
        made.enable("pre", True)
        await asyncio.sleep(0.1)
        assert not stage.reports
        made.suspend(False)
        await until(lambda: stage.reports == [("tcp.a", "down", "tcpcheck")])
        made.suspend(True)
        made.enable("prim", True)
        await asyncio.sleep(0.1)
        assert len(stage.reports) == 1


class Script(Test):
    """Answers when it is told to, and remembers for which life it was asked."""

    def __init__(self) -> None:
        self.lives = 0
        self.asked: list[tuple[int, asyncio.Future[str]]] = []

    def begin(self) -> None:
        self.lives += 1

    async def __call__(self) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked.append((self.lives, answer))
        return await asyncio.shield(answer)


#: A turn of the class, a switch of all, an answer to the oldest or to the newest open question,
#: one turn of the loop or several.
ACTS = st.sampled_from(["on", "off", "suspend", "resume", "oldest", "newest", "turn", "turns"])


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=40))
def test_no_report_is_of_an_earlier_life(acts: list[str]) -> None:
    """Each answer carries the number of the life in which the question was asked: what is reported
    is from the present life, and only while there is one."""

    async def play() -> None:
        script = Script()
        stage = Stage(Path("/nowhere"))
        reports: list[str] = []
        enabled = suspended = False

        class Made(Checking):
            def _told(self, each: checking._Watched, why: str) -> None:
                assert enabled and not suspended
                assert why == f"life {script.lives}"
                reports.append(why)
                super()._told(each, why)

        monkey = pytest.MonkeyPatch()
        monkey.setattr(checking, "TcpTest", lambda _: script)
        monkey.setattr(Stage, "around", _bare)
        try:
            made = Made((tcp("a", "prim"),), stage.around(), first_test_s=0.0)
            task = asyncio.ensure_future(made.run())
            for act in acts:
                match act:
                    case "on" | "off":
                        enabled = act == "on"
                        made.enable("prim", enabled)
                    case "suspend" | "resume":
                        suspended = act == "suspend"
                        made.suspend(suspended)
                    case "oldest" | "newest":
                        unanswered = [each for each in script.asked if not each[1].done()]
                        if unanswered:
                            life, answer = unanswered[0 if act == "oldest" else -1]
                            answer.set_result(f"life {life}")
                    case _:
                        for _ in range(1 if act == "turn" else 6):
                            await asyncio.sleep(0)
            # In the end it works: a life of its own gives one report.
            enabled, suspended = True, False
            made.enable("prim", False)
            made.suspend(False)
            made.enable("prim", True)
            before = len(reports)
            async with asyncio.timeout(5):
                while len(reports) == before:
                    await asyncio.sleep(0)
                    for life, answer in script.asked:
                        if life == script.lives and not answer.done():
                            answer.set_result(f"life {life}")
            task.cancel()
            await asyncio.wait([task])
        finally:
            monkey.undo()

    asyncio.run(play())


def _bare(stage: Stage) -> Surroundings:
    return Surroundings(
        report=lambda *words: stage.reports.append(words),
        say=lambda *_: None,
        on_restarted=lambda _: None,
        changed=lambda: None,
        programs=Programs(ScriptRunner(Tasks()), "demo", Path("/"), Path("/"), {}, 0),
        probe_port=1,
    )


async def test_a_checker_that_fails_is_started_again_and_shown(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    class Broken(TcpTest):
        async def __call__(self) -> str:
            calls.append(asyncio.get_running_loop().time())
            if len(calls) <= 3:
                raise ZeroDivisionError("a bug")
            return ""

    monkeypatch.setattr(checking, "TcpTest", Broken)
    monkeypatch.setattr(checking, "STEADY_S", 0.1)
    async with stage.checking(tcp("a", "pre"), again_s=0.02) as made:
        made.enable("pre", True)
        await until(lambda: stage.said)
        text = "The checker of tcp.a died: ZeroDivisionError: a bug"
        assert stage.said[0] == f"tcpcheck C {text}; again in 0.02 s"
        assert made.notes() == (text,) and stage.changes == 1
        await until(lambda: stage.reports)
        await until(lambda: not made.notes())
        assert [line.rpartition(" in ")[2] for line in stage.said] == ["0.02 s", "0.04 s", "0.08 s"]
        pauses = [after - before for before, after in pairwise(calls[:4])]
        assert all(pause >= least for pause, least in zip(pauses, (0.02, 0.04, 0.08), strict=True))


# -- programs -------------------------------------------------------------------------------------


def custom(path: str, *arguments: str) -> CustomCheck:
    return CustomCheck(ident="c", when="prim", path=path, arguments=arguments)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_program_gets_its_words_and_is_killed_with_all_it_started(stage: Stage) -> None:
    out = stage.tmp_path / "out"
    stage.script(
        "c.sh",
        f'setsid sleep 100 & echo "$@ $SAFEMODULE $$ $!" > {out}.new; mv {out}.new {out}; wait',
    )
    async with stage.checking(custom("c.sh", "/srv/data", "90")) as made:
        made.enable("prim", True)
        await until(out.exists)
        *words, shell, child = out.read_text().split()
        assert words == ["demo", "custom.c", "/srv/data", "90", "demo"]
        assert alive(int(shell)) and alive(int(child))
        made.enable("prim", False)
        await until(lambda: not alive(int(shell)) and not alive(int(child)))
        assert not stage.said and not stage.reports


async def test_what_a_dead_program_left_behind_dies_before_the_next_one_begins(
    stage: Stage,
) -> None:
    """Started again and again, it would leave one more each time."""
    out = stage.tmp_path / "out"
    stage.script("c.sh", f"sleep 100 & echo $! >> {out}; setsid sleep 100 & echo $! >> {out}")
    async with stage.checking(custom("c.sh")) as made:
        made.enable("prim", True)
        await until(lambda: len(stage.said) >= 3)
        left = [int(word) for word in out.read_text().split()]
        assert len(left) >= 6
        assert not any(alive(pid) for pid in left[:6])
    assert stage.said[0].startswith("customcheck C The checker of custom.c died: exit code 0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n=0; while [ $n -lt 40 ]; do sleep 100 & n=$((n+1)); done; wait", "processes"),
        ("exec python3 -c 'import time; x = bytes([1]) * (150 << 20); time.sleep(100)'", "memory"),
    ],
)
async def test_a_program_that_takes_too_much_is_killed_and_shown(
    stage: Stage, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(limits, "PROCESSES_MAX", 20)
    monkeypatch.setattr(limits, "MEMORY_BYTES_MAX", 100 << 20)
    pids = stage.tmp_path / "pid"
    stage.script("c.sh", f"echo $$ > {pids}; {text}")
    async with stage.checking(custom("c.sh"), again_s=60) as made:
        made.enable("prim", True)
        await until(lambda: stage.said)
        assert "The checker of custom.c died: it took more than" in stage.said[0]
        assert said in stage.said[0]
        assert made.notes() and not alive(int(pids.read_text()))


async def test_a_program_is_the_first_that_goes_when_memory_runs_out(stage: Stage) -> None:
    out = stage.tmp_path / "out"
    stage.script("c.sh", f"sleep 0.3; cat /proc/self/oom_score_adj > {out}; exec sleep 100")
    async with stage.checking(custom("c.sh")) as made:
        made.enable("prim", True)
        await until(lambda: out.exists() and out.read_text())
        assert int(out.read_text()) == limits.OOM_SCORE


async def test_a_program_that_ends_is_started_again_its_output_is_bounded(stage: Stage) -> None:
    stage.script("c.sh", "head -c 3000 /dev/zero | tr '\\0' x; exit 3")
    async with stage.checking(custom("c.sh")) as made:
        made.enable("prim", True)
        await until(lambda: len(stage.said) >= 5)
        text = "The checker of custom.c died: exit code 3"
        assert stage.said[0] == f"customcheck C {text}; again in 0.01 s"
        assert made.notes() == (text,)
    logs = sorted(path.name for path in stage.tmp_path.glob("custom*"))
    assert logs == ["customlog_c.ulog", "customlog_c.ulog.old"]
    assert all((stage.tmp_path / name).stat().st_size < 5000 for name in logs)


@pytest.mark.parametrize("mode", [None, 0o644])
async def test_a_program_that_is_not_there_or_cannot_be_run(stage: Stage, mode: int | None) -> None:
    if mode is not None:
        stage.script("c.sh", "exit 0").chmod(mode)
    async with stage.checking(custom("c.sh")) as made:
        made.enable("prim", True)
        await until(lambda: stage.said)
        wanted = "there is no c.sh" if mode is None else "not executable"
        assert wanted in stage.said[0] and made.notes()


async def test_the_end_of_the_daemon_ends_the_programs(stage: Stage) -> None:
    out = stage.tmp_path / "out"
    stage.script("c.sh", f"echo $$ > {out}.new; mv {out}.new {out}; exec sleep 100")
    async with stage.checking(custom("c.sh")) as made:
        made.enable("prim", True)
        await until(out.exists)
        pid = int(out.read_text())
        assert alive(pid)
    assert not alive(pid)


async def test_a_restart_leaves_one_program(stage: Stage) -> None:
    out = stage.tmp_path / "out"
    stage.script("c.sh", f"echo $$ >> {out}; exec sleep 100")
    async with stage.checking(custom("c.sh")) as made:
        for number in range(1, 4):
            made.enable("prim", False)
            made.enable("prim", True)
            await until(lambda n=number: out.exists() and len(out.read_text().split()) >= n)  # type: ignore[misc]
        pids = [int(word) for word in out.read_text().split()]
        await until(lambda: [alive(pid) for pid in pids].count(True) == 1)


async def test_a_program_begins_when_the_one_before_has_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take its time to end what was killed."""
    alive_now = begun = 0

    async def slow_to_end(_: Programs, check: CustomCheck) -> str:
        nonlocal alive_now, begun
        alive_now, begun = alive_now + 1, begun + 1
        assert alive_now == 1
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.1)
            alive_now -= 1
        return ""

    monkeypatch.setattr(Programs, "run", slow_to_end)
    async with stage.checking(custom("c.sh")) as made:
        for number in range(1, 4):
            # Switched twice while the first one still ends.
            for on in (True, False, True):
                made.enable("prim", on)
                await asyncio.sleep(0.01)
            await until(lambda n=number: begun > n and alive_now == 1)  # type: ignore[misc]
            made.enable("prim", False)
        assert not stage.said


# -- what the core and the arbiters get -----------------------------------------------------------


def test_names_classes_and_arbiters() -> None:
    checks: Checks = (
        tcp("a", "pre"),
        SplitbrainCheck(ident="w", when="pre", witnesses=("192.0.2.1",)),
        DelayCheck(ident="delay", when="both"),
        DiskCheck(ident="d", when="prim", dirs=("/",)),
        ModuleCheck(ident="m", when="pre", name="m"),
    )
    assert [who(check) for check in checks] == [
        *("tcpcheck", "splitbraincheck", "delaycheck", "diskcheck", "modulecheck")
    ]
    assert checking.tested(checks) == (
        ("tcp.a", "pre"),
        ("node.delay", "both"),
        ("disk.d", "prim"),
        ("module.m", "pre"),
    )
    assert arbitration_of(checks).required == (Arbiter.PING,)
    assert arbitration_of(()).required == ()


async def test_disk_and_delay_report_as_well(stage: Stage) -> None:
    disk = DiskCheck(ident="d", when="both", dirs=(str(stage.tmp_path),), interval_s=0.05)
    delay = DelayCheck(ident="delay", when="both", max_s=30.0, interval_s=0.1)
    async with stage.checking(disk, delay) as made:
        made.enable("both", True)
        await until(lambda: len(stage.reports) == 2)
    assert set(stage.reports) == {("disk.d", "up", "diskcheck"), ("node.delay", "up", "delaycheck")}


def test_the_door_is_looked_behind(tmp_path: Path) -> None:
    from safepy.daemon.trees import Tree, Trees

    trees = Trees("demo", [Tree("/srv/data", "/proc", ())], str(tmp_path / "id"))
    assert os.path.ismount("/proc")
    assert checking.door_of(trees, "/srv/data") == "/proc"
    assert checking.door_of(trees, "/srv/data/sub/x") == "/proc/sub/x"
    assert checking.door_of(trees, "/srv/database") == "/srv/database"
    assert checking.door_of(None, "/srv/data") == "/srv/data"
    closed = Trees("demo", [Tree("/srv/data", str(tmp_path), ())], str(tmp_path / "id"))
    assert checking.door_of(closed, "/srv/data") == "/srv/data"
