"""More parsers, for `fuzz_targets.py`: bytes of the wire that are no stream of ours (answers to
checkers, requests to the probe), of this host's kernel, of its disks, and of the worker."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from safepy.checkers import module as module_check
from safepy.checkers import ping
from safepy.errors import LocalFault, PeerError
from safepy.host import connections, neighbours, virtualip
from safepy.host.loop import Loop
from safepy.net.blocking import shake_hands_blocking
from safepy.net.dialing import Dial
from safepy.storage import marker, seal
from safepy.web.probe import Probe
from safepy.wire.secure import VERSION, Hello, module_key, pack_hello
from safepy.worker import messages

KEY = bytes(range(32))
HELLO = Hello(VERSION, "n1", "m", 7, "live", "ab", "")
#: What was begun for all inputs, and has to end.
CLOSING: list[Callable[[], None]] = []


# -- the dialer's half of a handshake -----------------------------------------------------


def dialed(data: bytes) -> None:
    """Somebody else listens where the other node should: nothing is opened, nobody is told more
    than who asks, in ciphers."""
    ours, theirs = socket.socketpair()
    loop = Loop()
    failures: list[str] = []
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        Dial(loop, ours, module_key(KEY, "m"), HELLO, _opened, lambda r, _: failures.append(r), 5.0)
        loop.turn(0)
        theirs.send(data[:60_000]) if data else None
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(8):
            loop.turn(0)
        assert len(failures) == 1
        assert failures[0].isprintable() and len(failures[0]) < 1000
        assert len(theirs.recv(4096)) <= 40 + 300
    finally:
        theirs.close()
        ours.close()
        loop.close()
    _dialed_by_a_transfer(data)


def _opened(*_: object) -> None:
    raise AssertionError("a stream with a stranger")


def _dialed_by_a_transfer(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        theirs.send(data[:60_000]) if data else None
        theirs.shutdown(socket.SHUT_WR)
        try:
            shake_hands_blocking(ours, module_key(KEY, "m"), HELLO, 5.0)
        except PeerError:
            return
    raise AssertionError("a stream with a stranger")


# -- answers to the checkers --------------------------------------------------------------

WANTED = (ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7"))
MAC = bytes.fromhex("02000000aa01")
TEXT = b"t" * 16


def frame(data: bytes) -> None:
    for wanted in WANTED:
        found = neighbours.answer(data, wanted)
        assert found is None or len(found) == 6


def _frames() -> Iterator[bytes]:
    head = MAC + MAC
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, MAC, WANTED[0].packed, MAC, bytes(4))
    yield head + b"\x08\x06" + arp
    told = struct.pack("!BBHI16s", 136, 0, 0, 0, WANTED[1].packed) + b"\x02\x01" + MAC
    ipv6 = struct.pack("!IHBB16s16s", 6 << 28, len(told), 58, 255, bytes(16), bytes(16))
    yield head + b"\x86\xdd" + ipv6 + told


def echo(data: bytes) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        for raw in (False, True):
            ping.is_answer(family, raw, data, 77, 3, TEXT)


def http_answer(data: bytes) -> None:
    try:
        status, mark = module_check.parse(data)
    except OSError:
        return
    assert 0 <= status <= 999 and len(mark) <= 64


# -- requests to the probe ----------------------------------------------------------------


class _Served:
    """The probe on a port of this host, in a loop that turns only while it is asked."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.probe = Probe(lambda name: (None, ""), lambda: ["127.0.0.1"], self.port)
        self.running = self.loop.create_task(self.probe.run())
        self.loop.run_until_complete(self._listens())
        CLOSING.append(self.close)

    async def _listens(self) -> None:
        async with asyncio.timeout(10.0):
            while not self.probe.listening:  # noqa: ASYNC110 - until this holds
                await asyncio.sleep(0.005)

    async def ask(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            answer = b""
            for _ in range(20):
                await asyncio.sleep(0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        answer += await reader.read(1 << 20)
            return answer
        finally:
            writer.transport.abort()

    async def is_well(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(PLAIN_REQUEST)
            async with asyncio.timeout(10.0):
                return await reader.read()
        finally:
            writer.close()

    def close(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.running)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        _served.cache_clear()


PLAIN_REQUEST = b"GET /var/modules/m/ready.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@cache
def _served() -> _Served:
    return _Served()


def http_request(data: bytes) -> None:
    """S25: whatever comes, a small answer without news, and the next one is answered as ever."""
    served = _served()
    logged: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = logged.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        answer = served.loop.run_until_complete(served.ask(data[:60_000]))
        well = served.loop.run_until_complete(served.is_well())
    finally:
        logging.getLogger().removeHandler(handler)
    # The shortest request has 16 bytes; a client may send several at once.
    assert len(answer) <= 1000 + 20 * len(data), (data, answer)
    assert b"200 OK" not in answer
    assert well.startswith(b"HTTP/1.1 404 Not Found\r\n") and well.endswith(b"NOT FOUND\n")
    assert not logged, logged


# -- the kernel's answers about connections -----------------------------------------------

_NLMSG = struct.Struct("=IHHII")


class _Kernel:
    """The netlink socket: one datagram for each question, under that question's number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = 0

    def send(self, request: bytes) -> None:
        number = request[8:12]
        self._datagram = self._data[:8] + number + self._data[12:]
        self._left = 1

    def recv(self, _: int) -> bytes:
        if not self._left:
            raise TimeoutError
        self._left -= 1
        return self._datagram


def socket_list(data: bytes) -> None:
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError):
            for family, which in connections._found(_Kernel(data), address, 2):  # type: ignore[arg-type]
                assert 0 <= family <= 255 and len(which) == 48


def _socket_lists() -> Iterator[bytes]:
    body = struct.pack("=BBBB", socket.AF_INET, 1, 0, 0) + bytes(68)
    told = _NLMSG.pack(_NLMSG.size + len(body), 20, 2, 0, 0) + body
    yield told + _NLMSG.pack(_NLMSG.size + 4, 3, 2, 0, 0) + bytes(4)
    yield _NLMSG.pack(_NLMSG.size + 4, 2, 0, 0, 0) + struct.pack("=i", -2) + bytes(16)


# -- files --------------------------------------------------------------------------------


@cache
def _place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="safepy-fuzz-host-"))
    (place / "tree" / "d").mkdir(parents=True)
    (place / "tree" / "f").write_bytes(b"content")
    fd = os.open(place / "tree", os.O_RDONLY | os.O_DIRECTORY)

    def close() -> None:
        os.close(fd)
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()
        _place.cache_clear()
        _root.cache_clear()

    CLOSING.append(close)
    _ROOTS[place] = fd
    return place


_ROOTS: dict[Path, int] = {}


@cache
def _root() -> int:
    return _ROOTS[_place()]


def sealed(data: bytes) -> None:
    """As found on a disk, and with a right checksum over it."""
    seal._read(BytesIO(data), 1)
    body = seal._MAGIC + data[len(seal._MAGIC) :]
    end = seal._END.pack(seal._END_TREE, zlib.crc32(body), 1)
    found = seal._read(BytesIO(body + end), 1)
    if found is not None:
        list(seal._compared(found, [_root()]))


def _seals() -> Iterator[bytes]:
    path = _place() / "seal"
    assert seal.write(str(path), [_root()], lambda: False)
    whole = path.read_bytes()
    path.unlink()
    yield whole
    yield whole[: -seal._END.size]


def small_files(data: bytes) -> None:
    """The mark of the trees, and the routes as they were before."""
    path = _place() / "small"
    path.write_bytes(data)
    with suppress(LocalFault):
        assert isinstance(marker.own_id(str(path), "fresh"), str)
    for routes in virtualip.Memory(path).load().values():
        assert isinstance(routes, list)


def _small() -> Iterator[bytes]:
    yield b"0123456789abcdef" * 2 + b"\n"
    yield b'{"boot": "%s", "routes": {"192.0.2.1": [{"a": 1}]}}' % virtualip._boot_id().encode()
    yield b'{"boot": "%s", "routes": []}' % virtualip._boot_id().encode()


# -- the worker and its daemon ------------------------------------------------------------


def report(data: bytes) -> None:
    for decoder in (messages.REPORT, messages.ORDER):
        with suppress(*messages.UNREADABLE):
            decoder.decode(data)


def _reports() -> Iterator[bytes]:
    yield messages.encode(messages.Done(3, False, "no room"))
    yield messages.encode(messages.AdoptRequested(3, "g", "b", [(1, "x")], 7))
    yield messages.encode(messages.Serve(1, 2))
    yield b'{"type":"\xff\xfe"}'


def close() -> None:
    while CLOSING:
        CLOSING.pop()()


#: name -> (what is run, valid inputs, modules that it is about).
HOST: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...], tuple[str, ...]]] = {
    "dialed": (
        dialed,
        (pack_hello(b"n" * 32) + b"\0\0\0\x20" + bytes(32), b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("safepy.net.", "safepy.wire."),
    ),
    "frame": (frame, tuple(_frames()), ("safepy.host.neighbours",)),
    "echo": (
        echo,
        (
            b"\x45" + bytes(19) + struct.pack("!BBHHH", 0, 0, 0, 77, 1) + TEXT,
            struct.pack("!BBHHH", 129, 0, 0, 77, 3) + TEXT,
        ),
        ("safepy.checkers.ping",),
    ),
    "http_answer": (
        http_answer,
        (b'HTTP/1.1 200 OK\r\nDate: x\r\nETag: "0123456789abcdef"\r\nServer: y\r\n\r\n',),
        ("safepy.checkers.module",),
    ),
    "http_request": (
        http_request,
        (
            PLAIN_REQUEST,
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        ),
        ("safepy.web.",),
    ),
    "socket_list": (socket_list, tuple(_socket_lists()), ("safepy.host.connections",)),
    "seal": (sealed, tuple(_seals()), ("safepy.storage.seal",)),
    "small_files": (
        small_files,
        tuple(_small()),
        ("safepy.storage.marker", "safepy.host.virtualip"),
    ),
    "report": (report, tuple(_reports()), ("safepy.worker.messages",)),
}
