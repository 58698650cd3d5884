"""The daemon's end of a worker, with small real child processes on the other end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from safepy.daemon import worker_handle
from safepy.daemon.worker_handle import WorkerHandle, end_old_worker
from safepy.errors import LocalFault
from safepy.worker import messages

LIMIT_S = 10.0

#: A worker in a dozen lines: answers steps, says Alive, behaves badly when told to.
CHILD = """
import os, socket, sys, time
from safepy.worker import messages
sock = socket.socket(fileno=3)
say = lambda report: sock.send(messages.encode(report))
others = sorted(int(n) for n in os.listdir("/proc/self/fd"))
say(messages.Log("nfsbox", "I", f"fds {[n for n in others if n > 3][:-1]}"))
while data := sock.recv(65536):
    order = messages.ORDER.decode(data)
    if isinstance(order, messages.Exit):
        say(messages.Done(order.step_id, True))
        sys.exit(0)
    if isinstance(order, messages.Serve):
        say(messages.Done(order.step_id, order.epoch == 1, "no" * (order.epoch != 1)))
    if isinstance(order, messages.CloseGate):
        if order.epoch == 666: sock.send(b"{nonsense")
        if order.epoch == 667: say(messages.CaughtUp(5)); os._exit(9)
        if order.epoch == 668: sock.close(); time.sleep(60)
        if order.epoch == 669: time.sleep(60)
        if order.epoch == 670: sock.send(b'{"type":"\\xff\\xfe"}')
"""


class Boss:
    def __init__(self, tmp_path: Path) -> None:
        self.pid_path = str(tmp_path / "state" / "worker.pid")
        self.reports: list[messages.Report] = []
        self.deaths: list[str] = []

    async def start(self, code: str = CHILD, silence_s: float = 60.0) -> WorkerHandle:
        argv = (sys.executable, "-c", code)
        return await WorkerHandle.start(
            "web", self.pid_path, silence_s, self.reports.append, self.deaths.append, argv
        )


@pytest.fixture
async def boss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Boss]:
    monkeypatch.setenv("PYTHONPATH", str(Path(worker_handle.__file__).parents[2]))
    yield Boss(tmp_path)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - until this holds, at most that long
            await asyncio.sleep(0.01)


async def test_orders_reports_and_a_wanted_end(boss: Boss) -> None:
    handle = await boss.start()
    handle.send(messages.Serve(1, 1))
    handle.send(messages.Serve(2, 7))
    await until(lambda: len(boss.reports) == 3)
    assert boss.reports[0] == messages.Log("nfsbox", "I", "fds []")
    assert boss.reports[1:] == [messages.Done(1, True), messages.Done(2, False, "no")]
    assert Path(boss.pid_path).read_text().split()[0] == str(handle.pid)
    handle.send(messages.Exit(3))
    assert await handle.ended(LIMIT_S)
    assert boss.reports[-1] == messages.Done(3, True)
    assert boss.deaths == ["ended with code 0"]
    assert not Path(boss.pid_path).exists()
    assert not handle.send(messages.CloseGate(1))


@pytest.mark.parametrize(
    ("epoch", "reason"),
    [
        (666, "it said what cannot be understood"),
        (667, "ended with code 9"),
        (668, "it closed its control socket"),
        (670, "it said what cannot be understood"),
    ],
)
async def test_a_worker_that_misbehaves_is_dead(boss: Boss, epoch: int, reason: str) -> None:
    handle = await boss.start()
    handle.send(messages.CloseGate(epoch))
    assert await handle.ended(LIMIT_S)
    assert len(boss.deaths) == 1
    assert reason in boss.deaths[0]
    if epoch == 667:
        assert boss.reports[-1] == messages.CaughtUp(5), "what it said before is heard"


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGKILL, "ended by SIGKILL"), (signal.SIGRTMIN + 6, "ended by signal 40")],
)
async def test_killed_from_outside(boss: Boss, number: int, told: str) -> None:
    """Also by a signal that has no name: nobody would hear of the worker's death."""
    handle = await boss.start()
    os.kill(handle.pid, number)
    assert await handle.ended(LIMIT_S)
    assert boss.deaths == [told]


async def test_a_worker_may_take_longer_to_its_first_word(
    boss: Boss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_handle, "SILENCE_S_MIN", 0.3)
    monkeypatch.setattr(worker_handle, "FIRST_WORD_S", 4.0)
    word = messages.encode(messages.Log("nfsbox", "I", "hello"))
    slow = f"import socket, time\ntime.sleep(1)\ns = socket.socket(fileno=3)\ns.send({word!r})\n"
    handle = await boss.start(slow + "time.sleep(60)", silence_s=0.3)
    assert await handle.ended(LIMIT_S)
    assert boss.reports, boss.deaths  # it had spoken, and fell silent then
    assert "it was silent" in boss.deaths[0]
    dumb = await boss.start("import time\ntime.sleep(60)", silence_s=0.3)
    assert await dumb.ended(LIMIT_S)
    assert "it was silent for 4.0 s" in boss.deaths[1]


async def test_a_silent_worker_is_killed(boss: Boss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_handle, "SILENCE_S_MIN", 0.5)
    monkeypatch.setattr(worker_handle, "_WATCH_EVERY_S", 0.05)
    handle = await boss.start(silence_s=0.5)
    await until(lambda: boss.reports)
    os.kill(handle.pid, signal.SIGSTOP)
    assert await handle.ended(LIMIT_S)
    assert "it was silent" in boss.deaths[0]
    assert "SIGKILL" in boss.deaths[0]


async def test_it_ends_when_its_daemon_does(boss: Boss) -> None:
    """The real worker: EOF on its socket is the death of the daemon."""
    handle = await boss.start("from safepy.worker.main import main; main()")
    handle._loop.remove_reader(handle._sock)
    handle._sock.shutdown(2)
    assert await handle.ended(LIMIT_S)


async def test_one_that_outlived_its_daemon_is_ended_first(boss: Boss) -> None:
    old = await boss.start()
    await until(lambda: boss.reports)
    os.kill(old.pid, signal.SIGSTOP)
    await end_old_worker(boss.pid_path)
    assert await old.ended(LIMIT_S)
    await end_old_worker(boss.pid_path)


async def test_a_pid_that_is_somebody_else_is_left_alone(boss: Boss) -> None:
    Path(boss.pid_path).parent.mkdir()
    Path(boss.pid_path).write_text(f"{os.getpid()} 1\n")
    await end_old_worker(boss.pid_path)


async def test_a_program_that_is_missing(boss: Boss) -> None:
    with pytest.raises(LocalFault, match="cannot be started"):
        await WorkerHandle.start(
            "web", boss.pid_path, 1.0, boss.reports.append, boss.deaths.append, ("/no/such",)
        )


@pytest.mark.parametrize("fails", ["pidfd_open", "posix_spawn", "listdir"])
async def test_without_a_descriptor_to_spare_nothing_is_left(
    boss: Boss, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """No child that nobody watches, no zombie, no socket: the module tries again and again."""
    spawned: list[int] = []
    spawn = os.posix_spawn

    def noted(*args: Any, **more: Any) -> int:
        spawned.append(spawn(*args, **more))
        return spawned[-1]

    def none_left(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_spawn", noted)
        patch.setattr(os, fails, none_left)
        with pytest.raises(LocalFault, match=r"cannot be started: .*Too many open files"):
            await boss.start()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert len(spawned) == (fails == "pidfd_open")
    for pid in spawned:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)  # A zombie would still have its pid.
    again = await boss.start()
    await until(lambda: boss.reports)
    again.kill("enough")
    assert await again.ended(LIMIT_S)
