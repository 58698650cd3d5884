"""Does the address answer ICMP echo requests? (reference: userconfig 15.3)

Without privileges where the kernel allows it (net.ipv4.ping_group_range), else over a raw socket.
Only the answer to our own request counts: from the address that was asked, with our identifier,
our number and a text that nobody can guess.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Coroutine, Mapping
from typing import Any

from safepy.checkers.base import Names, Test, first_of
from safepy.config.schema import PingCheck
from safepy.host.neighbours import checksum

#: A request that is lost is repeated; any answer within the time limit of the test will do.
AGAIN_S = 1.0
_TEXT_BYTES = 16
_MAX_BYTES = 2048
_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_HEADER = struct.Struct("!BBHHH")


class PingTest(Test):
    """One address of the name has to answer. Silence ends by the time limit of the test."""

    def __init__(self, check: PingCheck) -> None:
        self._addr = check.addr
        self._names = Names()

    async def __call__(self) -> str:
        await ping(self._names, self._addr)
        return ""


async def ping(names: Names, host: str) -> None:
    """Returns when `host` has answered; waits for ever if nobody does. Raises OSError when the
    network says that it cannot be reached, or when the name is unknown."""
    await first_of(echo(*each) for each in await names.addresses(host))


async def ping_known(names: Names) -> None:
    """As `ping`, at the addresses that the name had when it was last looked up: a network that is
    cut in two may have its name server on the other side."""
    if not names.known:
        raise OSError("no address is known yet")
    await first_of(echo(*each) for each in names.known)


async def echo(family: socket.AddressFamily, address: str) -> None:
    """As `ping`, for one address in numbers."""
    link, raw = open_socket(family)
    with link:
        loop = asyncio.get_running_loop()
        link.connect((address, 0))  # of datagrams: nothing is waited for
        identifier = secrets.randbits(16) if raw else link.getsockname()[1]
        text = secrets.token_bytes(_TEXT_BYTES)
        sequence = 0
        while True:
            sequence += 1
            await loop.sock_sendall(link, request(family, identifier, sequence, text))
            try:
                async with asyncio.timeout(AGAIN_S):
                    while True:
                        data = await loop.sock_recv(link, _MAX_BYTES)
                        if is_answer(family, raw, data, identifier, sequence, text):
                            return
            except TimeoutError:
                continue


def open_socket(family: socket.AddressFamily) -> tuple[socket.socket, bool]:
    """An ICMP socket, and whether it is a raw one. Raises PermissionError if neither may be."""
    protocol = _PROTOCOL[family]
    try:
        link, raw = socket.socket(family, socket.SOCK_DGRAM, protocol), False
    except PermissionError:
        link, raw = socket.socket(family, socket.SOCK_RAW, protocol), True
    link.setblocking(False)
    return link, raw


def request(family: socket.AddressFamily, identifier: int, sequence: int, text: bytes) -> bytes:
    """An echo request. The kernel adds what is missing for ICMPv6."""
    kind = _ECHO[family][0]
    head = _HEADER.pack(kind, 0, 0, identifier, sequence & 0xFFFF)
    if family == socket.AF_INET6:
        return head + text
    return _HEADER.pack(kind, 0, checksum(head + text), identifier, sequence & 0xFFFF) + text


def is_answer(
    family: socket.AddressFamily,
    raw: bool,
    data: bytes,
    identifier: int,
    sequence: int,
    text: bytes,
) -> bool:
    """Whether `data` answers a request up to `sequence` of this identifier and text. The socket is
    connected, so the kernel has compared the sender's address."""
    if raw and family == socket.AF_INET:
        if not data:
            return False
        data = data[(data[0] & 0x0F) * 4 :]
    if len(data) < _HEADER.size:
        return False
    kind, code, _, its_identifier, its_sequence = _HEADER.unpack_from(data)
    return (
        (kind, code) == (_ECHO[family][1], 0)
        and its_identifier == identifier
        and 1 <= its_sequence <= sequence
        and data[_HEADER.size :] == text
    )


async def any_answers(hosts: Mapping[str, Names], timeout_s: float) -> str:
    """The first of `hosts` that answers; "" when none does in time. Raises nothing."""

    async def named(host: str, answer: Coroutine[Any, Any, None]) -> str:
        await answer
        return host

    tries = [named(host, ping(names, host)) for host, names in hosts.items()]
    tries += [named(host, ping_known(names)) for host, names in hosts.items()]
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(timeout_s):
            return await first_of(tries)
    return ""
