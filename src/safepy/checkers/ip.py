"""Is the address configured on this node, and only here? (reference: userconfig 15.4)

An IPv4 address is asked for by an ARP probe (RFC 5227), which nobody else should answer; of an IPv6
address the kernel itself says whether another host had it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable

from safepy.checkers.base import Asker, Test
from safepy.config.schema import IpCheck
from safepy.host.interfaces import duplicate_found, flags_of, hardware_address, interface_of

#: How long another host is given to answer a probe.
PROBE_S = 0.5
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REPLY = 2
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_MAX_BYTES = 2048


class IpTest(Test):
    """`on_conflict(text)` is called when another host begins, or ends ("") to answer for the IPv4
    address.

    That alone does not make the check fail, unless `conflict="down"` says so: a primary that froze
    still answers for the address that the other node took over, and a stop there would help nobody.
    """

    def __init__(self, check: IpCheck, on_conflict: Callable[[str], None]) -> None:
        self._check = check
        self._on_conflict = on_conflict
        self._asker = Asker(check.resource)
        self._conflict = ""

    def begin(self) -> None:
        self._conflict = ""

    async def __call__(self) -> str:
        address = self._check.addr
        interface = await self._asker.ask(lambda: interface_of(address))
        if interface is None:
            return f"no interface has the address {address}"
        if ipaddress.ip_address(address).version == 6:
            duplicate = await self._asker.ask(lambda: duplicate_found(address))
            conflict = f"another host has the address {address}" if duplicate else ""
            self._show(conflict)
            return conflict  # The kernel does not use it.
        other = await probe(interface, address)
        conflict = f"another host answers for {address}: {other}" if other else ""
        self._show(conflict)
        return conflict if self._check.conflict == "down" else ""

    def _show(self, conflict: str) -> None:
        if conflict != self._conflict:
            self._conflict = conflict
            self._on_conflict(conflict)


async def probe(interface: str, address: str, limit_s: float = PROBE_S) -> str:
    """The hardware address of another host that answers for `address`; "" if none does, or none
    can be asked there. Raises OSError."""
    if not flags_of(interface).has_arp:
        return ""
    mine, wanted = hardware_address(interface), ipaddress.IPv4Address(address).packed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as link:
        link.setblocking(False)
        link.bind((interface, _ETH_P_ARP))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(link, arp_probe(mine, wanted))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while True:
                    found = answer(await loop.sock_recv(link, _MAX_BYTES), wanted)
                    if found is not None and found != mine:
                        return found.hex(":")
    return ""


def arp_probe(mine: bytes, wanted: bytes) -> bytes:
    """Asks who has `wanted`, and claims nothing: the sender's IPv4 address is 0.0.0.0."""
    head = _ETHERNET.pack(_BROADCAST, mine, _ETH_P_ARP)
    return head + _ARP.pack(1, 0x0800, 6, 4, 1, mine, b"\0" * 4, b"\0" * 6, wanted)


def answer(frame: bytes, wanted: bytes) -> bytes | None:
    """The hardware address that says it has `wanted`, if `frame` is such an ARP answer."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    kind, protocol, hardware, length, operation, sender, its_address, _, _ = _ARP.unpack_from(
        frame, _ETHERNET.size
    )
    if (kind, protocol, hardware, length, operation) != (1, 0x0800, 6, 4, _REPLY):
        return None
    return bytes(sender) if its_address == wanted else None
