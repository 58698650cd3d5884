"""The health probe over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import aiohttp
import pytest

from safepy.model import Snapshot, State, Status
from safepy.web.probe import Probe, ReadySince

LIMIT_S = 10.0
BASE = Snapshot(
    module="web",
    node="n1",
    peer="n2",
    state=State.STOP,
    status=Status.NOT_READY,
    reason="",
    since=0.0,
    peer_state="UNKNOWN",
    peer_status="",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - until this holds, at most that long
            await asyncio.sleep(0.01)


class Served:
    def __init__(self) -> None:
        self.port = free_port()
        self.snapshots = {"web": BASE}
        self.since = ReadySince()
        self.probe = Probe(
            lambda name: (self.snapshots.get(name), self.since.mark),
            lambda: ["127.0.0.1", "127.0.0.2"],
            self.port,
            retry_s=0.05,
        )

    async def get(self, path: str, address: str = "127.0.0.1") -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}:{self.port}{path}") as answer,
        ):
            return answer.status


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    task = asyncio.create_task(made.probe.run())
    await until(lambda: len(made.probe.listening) == 2)
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("status", Status)
async def test_only_who_runs_the_application_is_200(
    served: Served, state: State, status: Status
) -> None:
    served.snapshots["web"] = replace(BASE, state=state, status=status)
    ready = state in (State.PRIM, State.ALONE, State.UP) and status is Status.READY
    assert await served.get("/var/modules/web/ready.txt") == (200 if ready else 404)


async def test_every_address_and_nothing_else(served: Served) -> None:
    served.snapshots["web"] = replace(BASE, state=State.PRIM, status=Status.READY)
    assert await served.get("/var/modules/web/ready.txt", "127.0.0.2") == 200
    for path in ("/", "/var/modules/none/ready.txt", "/var/modules/web/log.db", "/../etc/passwd"):
        assert await served.get(path) == 404


async def test_the_answer_does_not_say_what_gives_it(served: Served) -> None:
    """S25: up or down, and nothing else."""
    for path in ("/var/modules/web/ready.txt", "/"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{served.port}{path}") as answer,
        ):
            assert answer.status == 404
            assert not {"server", "x-powered-by"} & {name.lower() for name in answer.headers}
            assert len(await answer.read()) < 20


async def test_a_broken_request_is_no_news(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"\x00\xff nonsense\r\n\r\n")
    await asyncio.wait_for(reader.read(), LIMIT_S)
    writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert await served.get("/var/modules/web/ready.txt") == 404


async def test_a_busy_port_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    made = Served()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.port))
        taken.listen()
        task = asyncio.create_task(made.probe.run())
        await until(lambda: made.probe.listening == {"127.0.0.2"})
        await asyncio.sleep(0.3)
        said = [record for record in caplog.records if "cannot listen" in record.message]
        assert len(said) == 1
        assert "127.0.0.1" in said[0].message
    await until(lambda: len(made.probe.listening) == 2)
    assert await made.get("/var/modules/web/ready.txt") == 404
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_mark_is_another_one_for_each_time_of_being_ready(served: Served) -> None:
    ready = replace(BASE, state=State.ALONE, status=Status.READY)
    marks = []
    for snapshot in (ready, replace(ready, state=State.PRIM), BASE, ready):
        served.snapshots["web"] = snapshot
        served.since.seen(snapshot)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{served.port}/var/modules/web/ready.txt") as answer,
        ):
            marks.append(answer.headers.get("ETag"))
    assert marks[0] == marks[1] and marks[2] is None and marks[3] not in (None, marks[0])
