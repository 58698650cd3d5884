"""Is the address configured on this node, and only here? (reference: userconfig 15.4)

Nobody else should answer an ARP probe (RFC 5227) for an IPv4 address, or a solicitation without a
sender (RFC 4862, 5.4) for an IPv6 one. The kernel's own detection looks once, when an IPv6 address
comes, and never at a virtual address: that is set without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable

from safepy.checkers.base import Asker, Test
from safepy.config.schema import IpCheck
from safepy.host import neighbours
from safepy.host.interfaces import duplicate_found, flags_of, hardware_address, interface_of

#: How long another host is given to answer a probe.
PROBE_S = 0.5


class IpTest(Test):
    """`on_conflict(text)` is called when another host begins, or ends ("") to answer for the
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
        if ":" in address and await self._asker.ask(lambda: duplicate_found(address)):
            conflict = f"another host has the address {address}"
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
    mine, wanted = hardware_address(interface), ipaddress.ip_address(address)
    question = neighbours.question(mine, wanted)
    with neighbours.listening(interface, wanted.version) as link:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(link, question)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while True:
                    frame = await loop.sock_recv(link, neighbours.FRAME_BYTES_MAX)
                    found = neighbours.answer(frame, wanted)
                    if found is not None and found != mine:
                        return found.hex(":")
    return ""
