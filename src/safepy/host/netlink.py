"""Interfaces, addresses and routes of this node, as the kernel's rtnetlink has them.

The one place that knows the library. It is imported when it is first used: it costs 0.2 s and
25 MB, and most modules have no virtual address. Everything here blocks, as long as a driver that
hangs holds the kernel's lock of the network configuration: call it in a thread, and not in the one
whose loop sends heartbeats.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safepy.host.settings import write_setting

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
#: A route in the kernel's own words, fit for JSON: header fields, and "attrs" as [name, value].
Route = dict[str, Any]

_IFF_LOOPBACK = 0x8
_IFA_F_SECONDARY = 0x01
_IFA_F_NODAD = 0x02
_IFA_F_DEPRECATED = 0x20
_IFA_F_NOPREFIXROUTE = 0x200
_FOREVER = 0xFFFFFFFF
_RTM_NEWROUTE = 24
_RT_TABLE_LOCAL = 255
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 0x4
#: What names a route among all others (the address family comes before).
_HEADER = ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type")
_LABEL_CHARACTERS = 15
#: What the kernel tells about a route and nobody may set.
_TOLD = ("RTA_CACHEINFO", "RTA_PREFSRC")


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    loopback: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """An address of this node. `own`: not one that only stands beside another one of the same
    network, as an alias does."""

    index: int
    interface: Interface
    own: bool

    @property
    def family(self) -> int:
        return socket.AF_INET if self.interface.version == 4 else socket.AF_INET6

    def same_place(self, other: Entry) -> bool:
        """One and the same address, which may have become its network's own meanwhile."""
        return (self.index, self.interface) == (other.index, other.interface)


class Netlink:
    """One conversation with the kernel. Whatever it refuses is raised as OSError."""

    def __init__(self, ipr: Any) -> None:
        self._ipr = ipr

    def links(self) -> list[Link]:
        with _refused():
            return [
                Link(
                    int(link["index"]),
                    str(link.get_attr("IFLA_IFNAME")),
                    bool(link["flags"] & _IFF_LOOPBACK),
                )
                for link in self._ipr.get_links()
            ]

    def entries(self) -> list[Entry]:
        """The kernel's order: of each interface and network, what was there first comes first."""
        found = []
        with _refused():
            for told in self._ipr.get_addr():
                text = told.get_attr("IFA_LOCAL") or told.get_attr("IFA_ADDRESS")
                flags = told.get_attr("IFA_FLAGS") or told["flags"]
                beside = _IFA_F_SECONDARY if told["family"] == socket.AF_INET else _IFA_F_DEPRECATED
                interface = ipaddress.ip_interface(f"{text}/{told['prefixlen']}")
                found.append(Entry(int(told["index"]), interface, not flags & beside))
        return found

    def add(self, link: Link, interface: Interface, *, source: bool) -> None:
        """The interface has the address, and uses it at once: whether somebody else has it is
        asked otherwise, the kernel's own question takes a second. `source`: it may be the source of
        what this node sends by itself."""
        named: dict[str, Any] = {}
        if interface.version == 4:
            label = f"{link.name}:vip"
            if len(label) <= _LABEL_CHARACTERS:
                named["label"] = label
        else:
            named["IFA_FLAGS"] = _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE
            lasting = _FOREVER if source else 0
            named["IFA_CACHEINFO"] = {"ifa_preferred": lasting, "ifa_valid": _FOREVER}
        self._address("add", link.index, interface, named)

    def drop(self, entry: Entry) -> None:
        """Nothing to drop is fine. The other addresses of the interface stay."""
        with _others_promoted(entry):
            with contextlib.suppress(OSError):
                self._address("del", entry.index, entry.interface, {})
            if any(entry.same_place(each) for each in self.entries()):
                self._address("del", entry.index, entry.interface, {})

    def _address(self, verb: str, index: int, interface: Interface, named: dict[str, Any]) -> None:
        with _refused():
            self._ipr.addr(
                verb,
                index=index,
                address=str(interface.ip),
                prefixlen=interface.network.prefixlen,
                family=socket.AF_INET if interface.version == 4 else socket.AF_INET6,
                **named,
            )

    def routes(self, family: int, index: int) -> list[Route]:
        """The routes over an interface, but for those of the kernel for addresses themselves."""
        found = []
        with _refused():
            for told in self._ipr.get_routes(family=family):
                route = _plain(told)
                if _attribute(route, "RTA_OIF") != index or route["type"] != _RTN_UNICAST:
                    continue
                target = _attribute(route, "RTA_DST") or ""
                if _attribute(route, "RTA_TABLE") == _RT_TABLE_LOCAL:
                    continue
                if target.startswith(("fe80:", "ff")):
                    continue
                found.append(route)
        return found

    def put_route(self, route: Route, source: str | None) -> None:
        """The route, in place of the one of the same name, with this preferred source."""
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        message = rtmsg()
        for field in (*_HEADER, "flags"):
            message[field] = route[field]
        attributes = [(name, _tuples(value)) for name, value in route["attrs"]]
        if source is not None:
            attributes.append(("RTA_PREFSRC", source))
        message["attrs"] = attributes
        message["header"]["type"] = _RTM_NEWROUTE
        message.encode()
        with _refused():
            # As `ip route restore` does it: each one replaces the one of its name.
            self._ipr.route_loads(bytes(message.data), fmt="raw")


@contextlib.contextmanager
def conversation() -> Iterator[Netlink]:
    """Raises OSError."""
    from pyroute2 import IPRoute

    with _refused(), IPRoute() as ipr:
        yield Netlink(ipr)


@contextlib.contextmanager
def _others_promoted(entry: Entry) -> Iterator[None]:
    """While an address goes that came first to its network: by default the kernel takes those that
    came later with it, the node's own after a renewed lease, or those of another module."""
    if entry.interface.version == 6 or not entry.own:
        yield
        return
    before = ""
    setting = None
    with contextlib.suppress(OSError):  # the interface is gone, or a container may set nothing
        name = socket.if_indextoname(entry.index)
        setting = Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries")
        before = setting.read_text()
        write_setting(str(setting), "1")
    try:
        yield
    finally:
        if setting is not None and before:
            with contextlib.suppress(OSError):
                write_setting(str(setting), before)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[-1])) from error
    except NetlinkDecodeError as error:
        raise OSError(f"the kernel's answer cannot be read: {error}") from error


def own_interfaces() -> tuple[Interface, ...]:
    """The addresses of this node with their networks, aliases left out. Raises OSError."""
    with conversation() as kernel:
        return tuple(entry.interface for entry in kernel.entries() if entry.own)


def preferred_source(route: Route) -> str | None:
    """The source address that the route gives to what has none."""
    return route.get("source")


def key(route: Route) -> tuple[object, ...]:
    """Two routes with the same key are one for the kernel."""
    names = ("RTA_DST", "RTA_PRIORITY", "RTA_GATEWAY", "RTA_VIA", "RTA_OIF", "RTA_TABLE")
    attributes = tuple(repr(_attribute(route, name)) for name in names)
    return (route["family"], route["dst_len"], route["tos"], *attributes)


def _attribute(route: Route, name: str) -> Any:
    return next((value for known, value in route["attrs"] if known == name), None)


def _plain(told: Any) -> Route:
    """A route as JSON would give it back, so that what was saved can be compared with what is."""
    route: Route = {field: int(told[field]) for field in _HEADER}
    route["flags"] = int(told["flags"]) & _RTNH_F_ONLINK
    route["attrs"] = [[name, _lists(value)] for name, value in told["attrs"] if name not in _TOLD]
    route["source"] = told.get_attr("RTA_PREFSRC")
    return route


def _lists(value: Any) -> Any:
    """A value of the library without its types; nested attributes are pairs."""
    if isinstance(value, Mapping):
        return {
            name: [[pair[0], _lists(pair[1])] for pair in inner] if name == "attrs" else inner
            for name, inner in value.items()
            if name not in ("header", "event")
        }
    return value


def _tuples(value: Any) -> Any:
    """The library wants its nested attributes as tuples."""
    if isinstance(value, dict):
        return {
            name: [(pair[0], _tuples(pair[1])) for pair in inner] if name == "attrs" else inner
            for name, inner in value.items()
        }
    return value
