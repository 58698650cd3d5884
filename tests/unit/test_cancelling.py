"""A task that is cancelled ends: else a stop of the service waits for it for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

from safepy.net.lanes import Lane, LaneEnds

SOURCE = Path(__file__).resolve().parents[2] / "src"


class Stream:
    """A datagram stream; the sender is cancelled just when its send has ended."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]

    async def send(self, datagram: bytes, target: tuple[str, int]) -> None:
        asyncio.get_running_loop().call_soon(self.task.cancel)


def test_a_sender_that_is_cancelled_as_its_send_ends_does_end() -> None:
    async def scene() -> None:
        lane = Lane(LaneEnds("lan", "127.0.0.1", "127.0.0.1", 9), lambda _: None, lambda _: None)
        stream = Stream()
        lane.send(b"beat")
        stream.task = asyncio.create_task(lane._send_all(stream))  # type: ignore[arg-type]
        done, _ = await asyncio.wait([stream.task], timeout=1.0)
        stream.task.cancel()
        assert done, "the cancellation was swallowed"

    asyncio.run(scene())


def test_nobody_uses_the_call_that_swallows_cancellations() -> None:
    """`asyncio.wait_for` does, before Python 3.12; `asyncio.timeout` does not."""
    users = [path for path in SOURCE.rglob("*.py") if "asyncio.wait_for(" in path.read_text()]
    assert users == []
