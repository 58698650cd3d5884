"""Telling the neighbours where an address is: gratuitous ARP for IPv4, unsolicited neighbour
advertisements for IPv6 (RFC 5227, RFC 4861 7.2.6)."""

from __future__ import annotations

import ipaddress
import socket
import struct

from safepy.host.interfaces import flags_of, hardware_address

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_ADVERTISEMENT = 136
_OVERRIDE = 0x20
_TARGET_LINK_ADDRESS = 2
_ALL_NODES = "ff02::1"
_HOPS = 255


def announce(interface: str, address: str) -> None:
    """Tell the neighbours on this interface, once, that it has the address. Nothing is sent where
    there are no neighbours to find. Raises OSError (the interface is down, or gone)."""
    if not flags_of(interface).has_arp:
        return
    mine, told = hardware_address(interface), ipaddress.ip_address(address)
    if told.version == 6:
        _advertise(interface, mine, told.packed)
        return
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
        link.bind((interface, _ETH_P_ARP))
        for operation in (_REQUEST, _REPLY):
            # Some hosts learn from the one, some only from the other.
            link.send(gratuitous(mine, told.packed, operation))


def gratuitous(mine: bytes, address: bytes, operation: int) -> bytes:
    """The frame that says to everybody: `address` is at `mine`."""
    head = _ETHERNET.pack(_BROADCAST, mine, _ETH_P_ARP)
    target = _BROADCAST if operation == _REPLY else b"\0" * 6
    return head + _ARP.pack(1, 0x0800, 6, 4, operation, mine, address, target, address)


def _advertise(interface: str, mine: bytes, address: bytes) -> None:
    message = advertisement(mine, address)
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as link:
        # Neighbours believe only what came over no router.
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        link.bind((socket.inet_ntop(socket.AF_INET6, address), 0, 0, index))
        link.sendto(message, (_ALL_NODES, 0, 0, index))


def advertisement(mine: bytes, address: bytes) -> bytes:
    """What overrides in every neighbour what it knew; the kernel fills in the checksum."""
    flags = struct.pack("!BBHB3x", _ADVERTISEMENT, 0, 0, _OVERRIDE)
    return flags + address + struct.pack("!BB6s", _TARGET_LINK_ADDRESS, 1, mine)
