"""tcp, ping, module, disk and delay: one test at a time, against real sockets and directories."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from safepy.checkers import base, disk, ping
from safepy.checkers.base import Asker, Names, Test, outcome
from safepy.checkers.delay import DelayMeter, judged
from safepy.checkers.disk import DiskTest, look
from safepy.checkers.module import ModuleTest
from safepy.checkers.ping import PingTest, is_answer, request
from safepy.checkers.tcp import TcpTest
from safepy.config.schema import (
    DelayCheck,
    DiskCheck,
    ModuleCheck,
    PingCheck,
    TcpCheck,
)
from safepy.host.neighbours import checksum

V4, V6 = socket.AF_INET, socket.AF_INET6


def tcp(addr: str, port: int) -> TcpTest:
    return TcpTest(TcpCheck(ident="t", when="pre", addr=addr, port=port))


# -- base -------------------------------------------------------------------------------------


class Slow(Test):
    async def __call__(self) -> str:
        await asyncio.sleep(30)
        return ""


class Failing(Test):
    async def __call__(self) -> str:
        raise OSError(5, "Input/output error")


async def test_what_takes_too_long_or_cannot_be_done_has_failed() -> None:
    assert await outcome(Slow(), 0.01) == "no answer within 0.01 s"
    assert await outcome(Failing(), 1) == "Input/output error"


async def test_a_question_that_hangs_costs_one_thread_only() -> None:
    begun: list[int] = []
    free = threading.Event()

    def question() -> int:
        begun.append(1)
        assert free.wait(10)
        return len(begun)

    asker = Asker("hangs")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asker.ask(question)
    assert begun == [1]
    free.set()
    async with asyncio.timeout(5):
        assert await asker.ask(question) == 2


async def test_what_a_question_raises_is_raised_where_it_was_asked() -> None:
    def question() -> None:
        raise PermissionError(1, "no")

    with pytest.raises(PermissionError):
        await Asker("refused").ask(question)


async def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await Names().addresses("192.0.2.1") == [(V4, "192.0.2.1")]
    assert await Names().addresses("2001:db8::1") == [(V6, "2001:db8::1")]
    assert (V4, "127.0.0.1") in await Names().addresses("localhost")
    many = [(V4, 1, 6, "", (f"192.0.2.{n}", 0)) for n in range(1, 100)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: many)
    assert len(await Names().addresses("many.example")) == base.MAX_ADDRESSES


# -- tcp --------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
async def test_a_port_that_accepts_is_up_and_one_that_refuses_is_down(address: str) -> None:
    family = V6 if ":" in address else V4
    with socket.socket(family) as server:
        server.bind(("127.0.0.1" if address == "localhost" else address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert await outcome(tcp(address, port), 5) == ""
        # What connected is gone again.
        server.settimeout(5)
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(1) == b""
    assert "refused" in await outcome(tcp(address, port), 5)


async def test_a_listener_that_accepts_nothing_more_is_down_after_the_timeout() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        assert await outcome(tcp("127.0.0.1", port), 0.3) == "no answer within 0.3 s"
        for each in held:
            each.close()


async def test_a_connection_to_itself_is_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    # A port of the ephemeral range: the kernel may give the connecting socket this very port.
    real = socket.socket

    class Bound(real):
        def setblocking(self, flag: bool) -> None:
            super().setblocking(flag)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(("127.0.0.1", port))

    with real() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(socket, "socket", Bound)
    assert "refused" in await outcome(tcp("127.0.0.1", port), 5)


async def test_a_resolver_that_hangs_is_a_failed_test(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    asked: list[str] = []

    def hangs(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        assert free.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    test = tcp("db.example.org", 1)
    for _ in range(3):
        assert await outcome(test, 0.05) == "no answer within 0.05 s"
    assert asked == ["db.example.org"]
    free.set()


@asynccontextmanager
async def silent(port: int) -> AsyncIterator[None]:
    """127.0.0.2 is a host that drops what is sent to this port."""
    with socket.socket() as server:
        server.bind(("127.0.0.2", port))
        server.listen(0)
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(("127.0.0.2", port))
        try:
            yield
        finally:
            for each in held:
                each.close()


def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(V4, 1, 6, "", (f"127.0.0.{n}", 0)) for n in (2, 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


async def test_an_address_that_drops_everything_does_not_hide_one_that_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the IPv6 address of a name where IPv6 does not get through."""
    two_addresses(monkeypatch)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        async with silent(port):
            assert await outcome(tcp("db.example.org", port), 3) == ""
    assert "refused" in await outcome(tcp("db.example.org", port), 3)


# -- ping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
async def test_loopback_answers(address: str) -> None:
    assert await outcome(PingTest(PingCheck(ident="p", when="pre", addr=address)), 5) == ""


@pytest.mark.parametrize(("family", "address"), [(V4, "127.0.0.1"), (V6, "::1")])
async def test_both_kinds_of_sockets(
    family: socket.AddressFamily, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the group range allows nobody, root has a raw socket; where it allows us, datagrams."""
    real = socket.socket
    kinds: list[int] = []

    def only_raw(family: int, kind: int, protocol: int) -> socket.socket:
        kinds.append(kind)
        if kind == socket.SOCK_DGRAM:
            raise PermissionError(13, "Permission denied")
        return real(family, kind, protocol)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", only_raw)
        async with asyncio.timeout(5):
            await ping.echo(family, address)
    assert kinds == [socket.SOCK_DGRAM, socket.SOCK_RAW]


ID, TEXT = 0x1234, b"0123456789abcdef"


def reply(family: int, *, raw: bool = True, sequence: int = 1, **other: object) -> bytes:
    kind = 0 if family == V4 else 129
    packed = struct.pack(
        "!BBHHH", other.get("kind", kind), 0, 0, other.get("identifier", ID), sequence
    )
    head = b"\x45" + b"\0" * 19 if raw and family == V4 else b""
    return head + packed + other.get("text", TEXT)  # type: ignore[operator]


@pytest.mark.parametrize("family", [V4, V6])
def test_only_the_answer_to_our_own_request_counts(family: socket.AddressFamily) -> None:
    def accepted(data: bytes, sequence: int = 1) -> bool:
        return is_answer(family, True, data, ID, sequence, TEXT)

    assert accepted(reply(family))
    assert accepted(reply(family, sequence=2), sequence=3)
    for foreign in (
        reply(family, identifier=ID + 1),
        reply(family, sequence=2),
        reply(family, sequence=0),
        reply(family, text=b"0123456789abcdeX"),
        reply(family, text=TEXT + b"X"),
        # Our own request, which a raw socket sees on loopback.
        reply(family, kind=8 if family == V4 else 128),
        b"",
        b"\x4f",
        reply(family)[:9],
    ):
        assert not accepted(foreign), foreign


def test_the_checksum_of_a_request_is_right() -> None:
    data = request(V4, ID, 7, TEXT)
    assert checksum(data) == 0
    assert request(V6, ID, 7, TEXT)[2:4] == b"\0\0"  # the kernel's work


# -- module -----------------------------------------------------------------------------------


@asynccontextmanager
async def web(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says `answers[-1]` to everything."""
    answers = [answer]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert asked.startswith(b"GET /var/modules/db/ready.txt HTTP/1.1\r\nHost: ")
        writer.write(answers[-1])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], answers
    finally:
        server.close()


def ok(mark: str) -> bytes:
    return f'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: "{mark}"\r\n\r\nOK\n'.encode()


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


async def test_a_module_is_up_down_and_restarted() -> None:
    restarts: list[int] = []
    async with web(ok("one")) as (port, answers):
        check = ModuleCheck(ident="m", when="pre", name="db", addr="localhost", port=port)
        test = ModuleTest(check, 1, lambda: restarts.append(1))
        assert await test() == ""
        assert await test() == "" and not restarts
        answers.append(NOT_FOUND)
        assert "not ready at" in await outcome(test, 5) and not restarts
        answers.append(ok("one"))
        assert await test() == "" and not restarts
        answers.append(ok("two"))
        assert await test() == "" and len(restarts) == 1
        assert await test() == "" and len(restarts) == 1
        # What an earlier life of the check saw does not count.
        answers.append(ok("three"))
        test.begin()
        assert await test() == "" and len(restarts) == 1


async def test_a_module_at_the_second_address_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    two_addresses(monkeypatch)
    async with web(ok("one")) as (port, answers), silent(port):
        check = ModuleCheck(ident="m", when="pre", name="db", addr="db.example.org", port=port)
        test = ModuleTest(check, 1, lambda: None)
        assert await outcome(test, 3) == ""
        answers.append(NOT_FOUND)
        # The other address may still answer.
        assert await outcome(test, 0.3) == "no answer within 0.3 s"


@pytest.mark.parametrize(
    "nonsense", [b"", b"220 mail ESMTP\r\n\r\n", b"HTTP/1.1 2000 X\r\n\r\n", b"x" * 100_000]
)
async def test_what_is_no_web_service_is_down(nonsense: bytes) -> None:
    async with web(nonsense) as (port, _):
        check = ModuleCheck(ident="m", when="pre", name="db")
        assert "no web service" in await outcome(ModuleTest(check, port, lambda: None), 5)


# -- disk -------------------------------------------------------------------------------------


def disk_check(path: Path | str, **values: object) -> DiskCheck:
    return DiskCheck(ident="d", when="both", dirs=(str(path),), **values)  # type: ignore[arg-type]


async def test_a_good_disk_is_up_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    before = os.stat(tmp_path)
    assert await DiskTest(disk_check(tmp_path))() == ""
    assert os.listdir(tmp_path) == [] and os.stat(tmp_path).st_mtime_ns == before.st_mtime_ns


def test_room_read_only_and_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_flags(**values: int) -> None:
        fields = {"f_bavail": 50, "f_blocks": 100, "f_frsize": 10, "f_flag": 0}
        fields |= {"f_favail": 50, "f_files": 100}
        found = type("Statvfs", (), fields | values)()
        monkeypatch.setattr(os, "statvfs", lambda _: found)

    with_flags(f_flag=os.ST_RDONLY)
    assert look(str(tmp_path), disk_check("/x")) == "the file system is read-only"
    with_flags(f_bavail=4)
    text = "4 % of the space is free, less than 5 %"
    assert look(str(tmp_path), disk_check("/x", minfree_percent=5)) == text
    with_flags(f_favail=4)
    text = "4 % of the inodes is free, less than 5 %"
    assert look(str(tmp_path), disk_check("/x", minfree_percent=5)) == text
    with_flags(f_files=0, f_favail=0)
    assert look(str(tmp_path), disk_check("/x", minfree_percent=5)) == ""
    text = "500 bytes are free, less than 501"
    assert look(str(tmp_path), disk_check("/x", minfree_bytes=501)) == text
    monkeypatch.setattr(disk, "written_in_s", lambda _: 0.25)
    text = "a synced write took 250 ms, more than 200 ms"
    assert look(str(tmp_path), disk_check("/x", maxlatency_s=0.2)) == text
    assert look(str(tmp_path), disk_check("/x", maxlatency_s=0)) == ""


async def test_a_directory_that_is_gone_and_one_behind_a_door(tmp_path: Path) -> None:
    gone = disk_check(tmp_path / "gone")
    assert "No such file" in await outcome(DiskTest(gone), 5)
    assert await outcome(DiskTest(gone, lambda _: str(tmp_path)), 5) == ""


async def test_a_disk_that_hangs_is_down_and_costs_one_thread(tmp_path: Path) -> None:
    free, asked = threading.Event(), []

    def hangs(path: str) -> str:
        asked.append(path)
        assert free.wait(10)
        return path

    test = DiskTest(disk_check(tmp_path), hangs)
    for _ in range(3):
        assert await outcome(test, 0.05) == "no answer within 0.05 s"
    assert len(asked) == 1
    free.set()
    assert await outcome(test, 5) == ""


# -- delay ------------------------------------------------------------------------------------


async def test_the_worst_delay_of_an_interval_is_told() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    check = DelayCheck(ident="delay", when="both", max_s=0.05, interval_s=0.3)
    meter = asyncio.ensure_future(DelayMeter(check).run(told.put_nowait))
    await asyncio.sleep(0.05)
    time.sleep(0.4)  # noqa: ASYNC251 - the loop stands still: that is what is measured
    async with asyncio.timeout(5):
        assert "ms late, more than 50 ms" in await told.get()
    meter.cancel()


def test_what_a_delay_means() -> None:
    assert judged(0.05, 0.05) == ""
    assert judged(0.0512, 0.05) == "woken up 51 ms late, more than 50 ms"
