"""Commands become actions, in order; what the world refuses is a StepDone, a bug is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safepy.core import commands
from safepy.core.events import Event, StepDone
from safepy.daemon.executor import Executor, Parts
from safepy.errors import LocalFault, ScriptError
from safepy.model import Disk, Gate, Level, Record
from safepy.storage.record import RecordFile

LIMIT_S = 5.0


class Stage:
    """Everything around an executor, written down in one list."""

    def __init__(self, tmp_path: Path) -> None:
        self.trace: list[Any] = []
        self.events: list[Event] = []
        self.values: dict[str, str] = {}
        self.script_error: Exception | None = None
        self.step_error: Exception | None = None
        self.running = True
        self.record_file = RecordFile(str(tmp_path / "state" / "record"))
        stage: Any = self
        self.parts = Parts(
            module="web",
            voice=stage,
            record_file=self.record_file,
            record=Record(),
            resources=stage,
            beats=stage,
            scripts=stage,
            checkers=(stage,),
            trees=stage,
            worker=stage,
        )
        self.executor = Executor(self.parts, self.events.append, lambda: self.trace.append("pub"))

    # voice, resources, checker, beats
    def say(self, origin: str, level: Level, text: str) -> None:
        self.trace.append((origin, str(level), text))

    def set(self, name: str, value: str, who: str) -> bool:
        changed = self.values.get(name) != value
        self.values[name] = value
        return changed

    def enable(self, checker_class: str, on: bool) -> None:
        self.trace.append((checker_class, on))

    # scripts
    async def run(
        self, name: str, arguments: tuple[str, ...], force: bool, timeout_s: float | None
    ) -> None:
        self.trace.append(name)
        await asyncio.sleep(0)
        if self.script_error is not None:
            raise self.script_error

    # trees
    def put_marks(self) -> None:
        self.trace.append("marks")

    def cover(self, marked: bool) -> None:
        self.trace.append(("cover", marked))

    def detach_dead(self) -> None:
        self.trace.append("detach dead")

    def taken_over(self) -> None:
        pass

    # worker
    def step(self, command: Any) -> asyncio.Future[None]:
        self.trace.append(type(command).__name__)
        answer = asyncio.get_running_loop().create_future()
        if self.step_error is None:
            answer.set_result(None)
        else:
            answer.set_exception(self.step_error)
        return answer

    def order(self, command: Any, now_s: float) -> None:
        self.trace.append((type(command).__name__, now_s))

    async def stop(self, step_id: int) -> None:
        await asyncio.sleep(0.01)
        self.trace.append("worker stopped")

    async def start(self, step_id: int) -> None:
        self.trace.append("worker started")

    async def done(self, count: int) -> list[Event]:
        async with asyncio.timeout(LIMIT_S):
            while len(self.events) < count:  # noqa: ASYNC110 - at most that long
                await asyncio.sleep(0.005)
        return self.events


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    task = asyncio.create_task(made.executor.run())
    await asyncio.sleep(0)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_records_are_durable_in_order_and_the_tree_is_marked_first(stage: Stage) -> None:
    records = [Record(epoch=n, disk=Disk.UPTODATE) for n in range(1, 6)]
    for number, record in enumerate(records):
        stage.executor.perform(commands.SaveRecord(number, record), 0.0)
    assert await stage.done(5) == [StepDone(number, True) for number in range(5)]
    assert stage.record_file.load() == records[-1]
    assert stage.trace == ["marks"], "only when the record leaves UNCONFIGURED"


async def test_a_record_that_cannot_be_written_is_a_failed_step(stage: Stage) -> None:
    stage.record_file.path = "/proc/none/record"
    stage.executor.perform(commands.SaveRecord(7, replace(Record(), epoch=1)), 0.0)
    (done,) = await stage.done(1)
    assert isinstance(done, StepDone) and not done.ok and "cannot be" in done.detail
    assert stage.parts.record == Record(), "what is durable is what was before"


async def test_a_failed_script_is_a_failed_step(stage: Stage) -> None:
    stage.script_error = ScriptError("Script start_prim: exit code 1")
    stage.executor.perform(commands.RunScript(3, "start_prim", ("WAIT", "ALONE", "start")), 0.0)
    assert await stage.done(1) == [StepDone(3, False, "Script start_prim: exit code 1")]


async def test_orders_keep_their_place_among_the_steps_of_the_worker(stage: Stage) -> None:
    for command in (
        commands.Serve(1, 5),
        commands.OpenGate(Gate.ALONE, 5, 0.3),
        commands.Quiesce(2, 5),
        commands.CloseGate(5),
    ):
        stage.executor.perform(command, 12.0)
    assert stage.trace == ["Serve", ("OpenGate", 12.0), "Quiesce", ("CloseGate", 12.0)]
    assert await stage.done(2) == [StepDone(1, True), StepDone(2, True)]


async def test_a_dead_worker_fails_the_step(stage: Stage) -> None:
    stage.step_error = LocalFault("the worker died: ended by SIGKILL")
    stage.executor.perform(commands.Follow(4, 5, False), 0.0)
    assert await stage.done(1) == [StepDone(4, False, "the worker died: ended by SIGKILL")]


async def test_arbiters_are_refused_by_name(stage: Stage) -> None:
    """The configuration offers none; one that is not there must not look like a slow one."""
    for command in (commands.AskWitness(1, 7), commands.Fence(2), commands.Ping(3)):
        stage.executor.perform(command, 0.0)
    answers = [event for event in await stage.done(3) if isinstance(event, StepDone)]
    assert [(each.step_id, each.ok) for each in answers] == [(n, False) for n in (1, 2, 3)]
    assert answers[0].detail == "this version cannot carry out AskWitness"


async def test_without_replication_the_steps_of_the_worker_are_true_at_once(stage: Stage) -> None:
    stage.parts.worker = None
    stage.parts.trees = None
    for command in (commands.Serve(1, 1), commands.StopWorker(2), commands.Cover(3)):
        stage.executor.perform(command, 0.0)
    stage.executor.perform(commands.OpenGate(Gate.ALONE, 1, 1.0), 0.0)
    found = await stage.done(3)
    assert sorted(event.step_id for event in found if isinstance(event, StepDone)) == [1, 2, 3]
    assert stage.trace == []


async def test_mounts_and_the_worker_s_ends_come_one_after_the_other(stage: Stage) -> None:
    stage.executor.perform(commands.StopWorker(1), 0.0)
    stage.executor.perform(commands.Cover(2), 0.0)
    stage.executor.perform(commands.StartWorker(3), 0.0)
    await stage.done(3)
    assert stage.trace == ["worker stopped", "detach dead", ("cover", False), "worker started"]


async def test_resources_that_people_look_for_are_logged_once(stage: Stage) -> None:
    for value in ("up", "up", "down"):
        stage.executor.perform(commands.SetResource("heartbeat.default", value), 0.0)
    stage.executor.perform(commands.SetResource("state.local", "ALONE Ready"), 0.0)
    assert stage.trace == [
        ("heart", "I", "Resource heartbeat.default set to up by heart"),
        ("heart", "E", "Resource heartbeat.default set to down by heart"),
    ]


@pytest.mark.parametrize("bug", [TypeError("a bug"), AssertionError("a bug")])
async def test_a_bug_ends_the_executor(tmp_path: Path, bug: Exception) -> None:
    made = Stage(tmp_path)
    task = asyncio.create_task(made.executor.run())
    await asyncio.sleep(0)
    made.script_error = bug
    made.executor.perform(commands.RunScript(3, "start_prim", ()), 0.0)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(task, LIMIT_S)
