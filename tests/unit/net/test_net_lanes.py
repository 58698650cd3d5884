"""Lanes on real sockets of the loopback network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from safepy.net import lanes
from safepy.net.lanes import Lane, LaneEnds, has_address, port_free

LIMIT_S = 5.0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 - until this holds, at most that long
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class End:
    def __init__(self, local: str, peer: str, port: int) -> None:
        self.heard: list[bytes] = []
        self.present: list[bool] = []
        ends = LaneEnds("default", local, peer, port)
        self.lane = Lane(ends, self.heard.append, self.present.append, address_poll_s=0.05)
        self.task = asyncio.create_task(self.lane.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_both_directions_and_a_peer_that_comes_later() -> None:
    port = free_port()
    one = End("127.0.0.1", "127.0.0.2", port)
    try:
        await until(lambda: one.present == [True])
        for _ in range(5):
            one.lane.send(b"nobody there")
            await asyncio.sleep(0.01)
        two = End("127.0.0.2", "127.0.0.1", port)
        try:
            await until(lambda: two.present == [True])
            one.lane.send(b"hello")
            two.lane.send(b"hi")
            await until(lambda: b"hello" in two.heard and b"hi" in one.heard)
        finally:
            await two.close()
        one.lane.send(b"gone again")
        await until(lambda: one.lane.counters.sent + one.lane.counters.send_errors >= 7)
        assert not one.task.done()
    finally:
        await one.close()


async def test_foreign_packets_are_counted_and_dropped() -> None:
    port = free_port()
    one = End("127.0.0.1", "127.0.0.2", port)
    try:
        await until(lambda: one.present == [True])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.3", 0))
            for _ in range(50):
                stranger.sendto(b"noise", ("127.0.0.1", port))
        await until(lambda: one.lane.dropped_early == 50)
        assert one.heard == []
    finally:
        await one.close()


async def test_an_address_that_is_missing_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's answers are replaced: the test host's interfaces are left alone."""
    port = free_port()
    here = {"present": False}
    real_bind = socket.socket.bind

    class Socket(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            if address[0] == "127.0.0.1" and not here["present"]:
                raise OSError(99, "Cannot assign requested address")
            real_bind(self, address)

    monkeypatch.setattr(lanes.socket, "socket", Socket)
    one = End("127.0.0.1", "127.0.0.2", port)
    try:
        await until(lambda: one.present == [False])
        one.lane.send(b"waits")
        here["present"] = True
        await until(lambda: one.present == [False, True])
        here["present"] = False
        await until(lambda: one.present == [False, True, False])
        here["present"] = True
        await until(lambda: one.present == [False, True, False, True])
        assert not one.task.done()
    finally:
        await one.close()


async def test_a_send_that_hangs_opens_a_new_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(lanes, "SEND_LIMIT_S", 0.05)
    hang = {"on": True}
    real = lanes.DatagramServer.send

    async def send(self: object, data: bytes, address: tuple[str, int]) -> None:
        if hang["on"]:
            await asyncio.Event().wait()
        await real(self, data, address)  # type: ignore[arg-type]

    monkeypatch.setattr(lanes.DatagramServer, "send", send)
    # The socket takes nothing at once.
    monkeypatch.setattr(lanes.Lane, "_sent_at_once", lambda self, datagram: False)
    one = End("127.0.0.1", "127.0.0.2", port)
    two = End("127.0.0.2", "127.0.0.1", port)
    try:
        await until(lambda: one.present == [True] and two.present == [True])
        one.lane.send(b"stuck")
        await until(lambda: one.lane.counters.reopened == 1)
        hang["on"] = False
        await asyncio.sleep(0.05)
        one.lane.send(b"through")
        await until(lambda: two.heard == [b"through"])
    finally:
        await one.close()
        await two.close()


def test_addresses_and_ports() -> None:
    assert has_address("127.0.0.1")
    assert not has_address("203.0.113.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert not port_free("127.0.0.1", port, socket.SOCK_DGRAM)
        assert port_free("127.0.0.2", port, socket.SOCK_DGRAM)
        assert port_free("203.0.113.1", port, socket.SOCK_DGRAM)
