"""UDP heartbeat lanes: one stream for each network, bound to this node's address on it.

What does not come from the peer's address, or does not begin as a heartbeat does, is dropped by the
kernel before it takes room in the socket's buffer (protocol S5, S26): a flood of it costs no turn
of the loop and pushes no genuine beat out. Of what passes, a batch is read in one turn.

A lane is either up (its local address exists and its socket is bound) or waits for its address
to come back. Nothing that the network or the peer does ends it: refused, unreachable, a vanished
interface and a blocked send are counted, and the lane goes on (dependencies 2.1).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer

from safepy.host.clock import until_next

SEND_LIMIT_S = 1.0
#: Datagrams read in one turn of the loop: faster than forged ones fill the socket's buffer, and
#: timers and the other lanes get their turns.
BATCH = 64
_DATAGRAM_BYTES_MAX = 64 << 10
_ADDRESS_POLL_S = 1.0

_SO_ATTACH_FILTER = 26
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
#: Classic BPF: load a word, jump if equal, return; and where the IP header begins.
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_IP_HEADER = 0xFFF00000
_UDP_HEADER_BYTES = 8
_INSTRUCTION = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class LaneEnds:
    """`local` is this node's address, `peer` the one the peer's datagrams come from."""

    name: str
    local: str
    peer: str
    port: int
    #: Where the peer listens; the same port unless a test says otherwise.
    peer_port: int = 0


@dataclass(slots=True)
class LaneCounters:
    sent: int = 0
    received: int = 0
    foreign: int = 0
    malformed: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    reopened: int = 0


class Lane:
    """One lane. `on_datagram` gets what the peer sent; `on_address` hears whether the local
    address exists, first at the start and then at each change."""

    def __init__(
        self,
        ends: LaneEnds,
        on_datagram: Callable[[bytes], None],
        on_address: Callable[[bool], None],
        address_poll_s: float = _ADDRESS_POLL_S,
        magic: bytes = b"",
    ) -> None:
        """`magic`: the four bytes that every datagram worth reading begins with, or none."""
        self.ends = ends
        self._magic = magic
        self._bound: socket.socket | None = None
        self._dropped_before = 0
        self._sources: set[str] = set()
        self.counters = LaneCounters()
        #: Why the local end cannot be used now, in a sentence; "" when it can.
        self.fault = ""
        self._on_datagram = on_datagram
        self._on_address = on_address
        self._address_poll_s = address_poll_s
        self._peer = ipaddress.ip_address(ends.peer)
        self._pending: bytes | None = None
        self._wake = asyncio.Event()
        self._broken = asyncio.Event()
        self._present: bool | None = None

    @property
    def dropped_early(self) -> int:
        """Datagrams that never got as far as `on_datagram`: from elsewhere, no heartbeats, or
        more than the socket's buffer takes."""
        now = 0 if self._bound is None else _kernel_drops(self._bound)
        return self.counters.foreign + self._dropped_before + now

    def send(self, datagram: bytes) -> None:
        """Send now if the socket takes it, else soon. A beat still waiting is replaced: only the
        newest is worth anything."""
        if self._pending is None and self._sent_at_once(datagram):
            return
        self._pending = datagram
        self._wake.set()

    def _sent_at_once(self, datagram: bytes) -> bool:
        """As nearly always. What goes wrong is for the task that sends, which can wait."""
        if self._bound is None:
            return False
        try:
            self._bound.sendto(datagram, self._target)
        except OSError:
            return False
        self.counters.sent += 1
        return True

    @property
    def _target(self) -> tuple[str, int]:
        return self.ends.peer, self.ends.peer_port or self.ends.port

    async def run(self) -> None:
        """Keep the lane up until cancelled."""
        while True:
            stream = await self._open()
            if stream is None:
                self._tell(False)
                await asyncio.sleep(self._address_poll_s)
                continue
            self._tell(True)
            try:
                await self._serve(stream)
            finally:
                if self._bound is not None:
                    self._dropped_before += _kernel_drops(self._bound)
                    self._bound = None
                stream.close()
            self.counters.reopened += 1

    async def _open(self) -> DatagramServer | None:
        """A bound stream, or None while the address (or the port) is not to be had."""
        family = socket.AF_INET6 if self._peer.version == 6 else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        bound.setblocking(False)
        try:
            _let_in_only(bound, self._peer, self._magic)
            bound.bind((self.ends.local, self.ends.port))
        except OSError as error:
            bound.close()
            self.fault = (
                f"Heartbeat {self.ends.name}: UDP port {self.ends.port} of {self.ends.local} "
                f"cannot be used: {error.strerror}"
            )
            return None
        self.fault = ""
        self._bound = bound
        stream = await asyncio_dgram.from_socket(bound)
        assert isinstance(stream, DatagramServer), "the socket is not connected"
        return stream

    async def _serve(self, stream: DatagramServer) -> None:
        """Both directions until the address goes or a send hangs; then the caller binds anew."""
        self._broken.clear()
        jobs = [
            asyncio.create_task(job, name=f"lane {self.ends.name} {what}")
            for job, what in (
                (self._receive(stream), "receive"),
                (self._send_all(stream), "send"),
                (self._watch_address(), "address"),
            )
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _receive(self, stream: DatagramServer) -> None:
        while True:
            try:
                datagram, source = await stream.recv()
            except OSError:
                # The report of an earlier send; receiving goes on.
                self.counters.receive_errors += 1
                continue
            except asyncio_dgram.TransportClosed:
                return
            self._take(datagram, source)
            for _ in range(BATCH - 1):
                try:
                    assert self._bound is not None
                    datagram, source = self._bound.recvfrom(_DATAGRAM_BYTES_MAX)
                except OSError:  # nothing more (or a report of an earlier send)
                    break
                self._take(datagram, source)
            else:
                await asyncio.sleep(0)  # There is more: the others first.

    def _take(self, datagram: bytes, source: object) -> None:
        if not self._is_peer(source):
            self.counters.foreign += 1
            return
        self.counters.received += 1
        self._on_datagram(datagram)

    def _is_peer(self, source: object) -> bool:
        """Remembers how the kernel writes the peer's address: to read it takes longer than all
        the rest."""
        if not isinstance(source, tuple):
            return False
        if source[0] in self._sources:
            return True
        if ipaddress.ip_address(source[0]) != self._peer:
            return False
        self._sources.add(source[0])
        return True

    async def _send_all(self, stream: DatagramServer) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            datagram, self._pending = self._pending, None
            if datagram is None:
                continue
            # The library reports an earlier datagram's error here, and then has not sent this one.
            for _ in range(2):
                try:
                    # Not `wait_for`: it may swallow a cancellation (Python before 3.12).
                    async with asyncio.timeout(SEND_LIMIT_S):
                        await stream.send(datagram, self._target)
                except TimeoutError:
                    self.counters.send_errors += 1
                    return
                except asyncio_dgram.TransportClosed:
                    return
                except OSError:
                    self.counters.send_errors += 1
                else:
                    self.counters.sent += 1
                    break

    async def _watch_address(self) -> None:
        """Ends when the local address is gone: a bound socket does not notice by itself."""
        while True:
            await asyncio.sleep(until_next(self._address_poll_s, time.monotonic()))
            if not _has_address_lately(self.ends.local, self._address_poll_s / 2):
                return

    def _tell(self, present: bool) -> None:
        if present != self._present:
            self._present = present
            self._on_address(present)


def _let_in_only(
    sock: socket.socket, peer: ipaddress.IPv4Address | ipaddress.IPv6Address, magic: bytes
) -> None:
    """Have the kernel drop what does not come from `peer` or does not begin with `magic`.

    A kernel without socket filters takes everything: `Lane` looks at the source again."""
    source_at = _IP_HEADER + (12 if peer.version == 4 else 8)
    wanted = [
        (source_at + at, int.from_bytes(peer.packed[at : at + 4], "big"))
        for at in range(0, len(peer.packed), 4)
    ]
    if magic:
        wanted.append((_UDP_HEADER_BYTES, int.from_bytes(magic[:4], "big")))
    left = 2 * len(wanted)  # from here to "take it"; what follows that is "drop it"
    program = b""
    for offset, value in wanted:
        left -= 2
        program += _INSTRUCTION.pack(_LOAD_WORD, 0, 0, offset)
        program += _INSTRUCTION.pack(_JUMP_EQUAL, 0, left + 1, value)
    program += _INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFFFFFF)
    program += _INSTRUCTION.pack(_RETURN, 0, 0, 0)
    code = ctypes.create_string_buffer(program)
    length = len(program) // _INSTRUCTION.size
    try:
        sock.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", length, ctypes.addressof(code)),
        )
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM):
            raise


def _kernel_drops(sock: socket.socket) -> int:
    """What the kernel dropped at this socket since it was made; 0 if it does not tell."""
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(found)[-1]) if len(found) == _MEMINFO.size else 0


#: Address to when it was looked for, and whether it was there.
_looked: dict[str, tuple[float, bool]] = {}


def _has_address_lately(address: str, young_s: float) -> bool:
    """As `has_address`; one look serves all lanes of this daemon that ask within `young_s`."""
    now_s = time.monotonic()
    looked_s, found = _looked.get(address, (float("-inf"), False))
    if now_s - looked_s > young_s:
        found = has_address(address)
        _looked[address] = (now_s, found)
    return found


def has_address(address: str) -> bool:
    """Whether this host has the address now (one can bind to it)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def port_free(address: str, port: int, kind: socket.SocketKind) -> bool:
    """Whether the port can be bound at the address; an address that is not here now counts as
    free, because nothing can occupy it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind | socket.SOCK_CLOEXEC) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True
