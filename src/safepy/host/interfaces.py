"""The addresses of this node, the interfaces that carry them, and whether these have a link.

Only what the kernel answers without a netlink library, so that a checker costs no memory. All of it
may wait for a driver that hangs: ask in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass

import psutil

_SIOCGIFFLAGS = 0x8913
_SIOCGIFHWADDR = 0x8927
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_IFF_LOOPBACK = 0x8
_IFF_NOARP = 0x80
_IFNAMSIZ = 16
#: Flags of /proc/net/if_inet6 (include/uapi/linux/if_addr.h).
_IFA_F_DADFAILED = 0x08


@dataclass(frozen=True, slots=True)
class Flags:
    up: bool
    #: There is a link (a cable, an access point), or the interface has none to lose.
    running: bool
    #: Neighbours are found by ARP.
    has_arp: bool


def interface_of(address: str) -> str | None:
    """The interface on which `address` is configured; None: on none."""
    wanted = ipaddress.ip_address(address)
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            with contextlib.suppress(ValueError):
                here = ipaddress.ip_address(entry.address.partition("%")[0])
                if here == _without_scope(wanted):
                    # An address may have a label, as in eth0:1.
                    return name.partition(":")[0]
    return None


def _without_scope(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(str(address).partition("%")[0])


def flags_of(interface: str) -> Flags:
    """Raises OSError for an interface that is gone."""
    flags = struct.unpack_from("H", _ioctl(interface, _SIOCGIFFLAGS), _IFNAMSIZ)[0]
    return Flags(
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_UP and flags & _IFF_RUNNING),
        has_arp=not flags & (_IFF_LOOPBACK | _IFF_NOARP),
    )


def hardware_address(interface: str) -> bytes:
    """Six bytes. Raises OSError."""
    return _ioctl(interface, _SIOCGIFHWADDR)[_IFNAMSIZ + 2 : _IFNAMSIZ + 8]


def _ioctl(interface: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack(f"{_IFNAMSIZ}s24x", interface.encode()[: _IFNAMSIZ - 1])
        return fcntl.ioctl(any_socket, request, asked)


def duplicate_found(address: str) -> bool:
    """Whether the kernel found that another host has this IPv6 address. Raises OSError."""
    wanted = ipaddress.ip_address(address.partition("%")[0])
    # Of this thread: its network may not be that of the process.
    with open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if ipaddress.IPv6Address(int(fields[0], 16)) == wanted:
                return bool(int(fields[4], 16) & _IFA_F_DADFAILED)
    return False
