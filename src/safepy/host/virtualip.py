"""A virtual address on an interface of this node, and away again. Everything here blocks; see
`netlink`.

An address that is the source of what this node sends (`one_side`) changes routes. What they were is
kept in a file first: the kernel throws routes away whose preferred source it loses, and a daemon
that was killed must be able to put them back (reference: userconfig 21.3).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

from safepy.errors import LocalFault
from safepy.host.netlink import (
    Entry,
    Interface,
    Link,
    Netlink,
    Route,
    conversation,
    key,
    preferred_source,
)
from safepy.storage.private import private_opener

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """`interface` "": the one whose network contains the address. `prefix` None: that of the
    network. `source`: what this node sends to other hosts has this address. `index`: the kernel's
    number of the interface that it was placed on, which stays when its name changes (0: none)."""

    address: str
    interface: str = ""
    prefix: int | None = None
    source: bool = False
    index: int = field(default=0, compare=False)


class Memory:
    """The routes as they were before `one_side`, by address; of this boot only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, list[Route]]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads(self._path.read_text())
            if told["boot"] == _boot_id():
                return {str(address): list(routes) for address, routes in told["routes"].items()}
        return {}

    def save(self, routes: dict[str, list[Route]]) -> None:
        if not routes:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.new")
        with open(fresh, "w", encoding="utf-8", opener=private_opener) as file:
            json.dump({"boot": _boot_id(), "routes": routes}, file)
        fresh.rename(self._path)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def place(wanted: Wanted, memory: Memory) -> Wanted:
    """The address is on its interface. Returns where it is in full: an interface that comes back
    may lack what told the place. Raises LocalFault, OSError."""
    with conversation() as kernel:
        entries = kernel.entries()
        link = _link(wanted, kernel.links(), entries)
        interface = _interface(wanted, link, entries)
        there = False
        for entry in entries:
            if entry.interface.ip != interface.ip:
                continue
            if entry.index == link.index and entry.interface == interface:
                there = True
            else:
                kernel.drop(entry)  # of another interface, or with another mask
        if not there:
            kernel.add(link, interface, source=wanted.source)
        if wanted.source:
            _be_source(kernel, link, interface, entries, memory)
        prefix = interface.network.prefixlen
        return replace(wanted, interface=link.name, prefix=prefix, index=link.index)


def clear(address: str, memory: Memory) -> bool:
    """The address is on no interface, and routes are as they were before it came. Whether
    anything had to be done. Raises OSError."""
    wanted = ipaddress.ip_address(address)
    known = memory.load()
    with conversation() as kernel:
        here = [entry for entry in kernel.entries() if entry.interface.ip == wanted]
        if not here and address not in known:
            return False
        _give_back(kernel, here, address, known.get(address, []))
        for entry in here:
            kernel.drop(entry)
    if known.pop(address, None) is not None:
        memory.save(known)
    return True


def interface_for(wanted: Wanted) -> str:
    """The interface that `place` would take. Raises LocalFault, OSError."""
    with conversation() as kernel:
        return _link(wanted, kernel.links(), kernel.entries()).name


def name_of(placed: Wanted) -> str:
    """What the interface is called now that an address was placed on. One that was removed is
    believed to come back under its name."""
    try:
        return socket.if_indextoname(placed.index)
    except OSError:
        return placed.interface


def is_here(address: str) -> bool:
    """Whether an interface of this node has the address. Raises OSError."""
    wanted = ipaddress.ip_address(address)
    with conversation() as kernel:
        return any(entry.interface.ip == wanted for entry in kernel.entries())


def _link(wanted: Wanted, links: list[Link], entries: list[Entry]) -> Link:
    by_index = {link.index: link for link in links}
    if wanted.index in by_index:
        return by_index[wanted.index]
    if wanted.interface:
        for link in links:
            if link.name == wanted.interface:
                return link
        raise LocalFault(
            f"{wanted.address}: this node has no interface {wanted.interface}",
            "bring it up, or name another one in <interface name=...>",
        )
    home = _home(wanted, entries, {link.index for link in links if not link.loopback})
    if home is None:
        raise LocalFault(
            f"{wanted.address}: no interface of this node is in its network",
            "bring the interface up (ip address), or name it in <interface name=...>",
        )
    return by_index[home.index]


def _home(wanted: Wanted, entries: list[Entry], among: set[int]) -> Entry | None:
    """The entry whose network contains the address; the smallest one before larger ones."""
    address = ipaddress.ip_address(wanted.address)
    fitting = [
        entry
        for entry in entries
        if entry.index in among
        and address in entry.interface.network
        and entry.interface.ip != address
        and entry.interface.network.prefixlen < address.max_prefixlen
    ]
    return max(fitting, key=lambda each: (each.own, each.interface.network.prefixlen), default=None)


def _interface(wanted: Wanted, link: Link, entries: list[Entry]) -> Interface:
    prefix = wanted.prefix
    if prefix is None:
        home = _home(wanted, entries, {link.index})
        # A named interface in another network: the address stands for itself.
        whole = ipaddress.ip_address(wanted.address).max_prefixlen
        prefix = whole if home is None else home.interface.network.prefixlen
    return ipaddress.ip_interface(f"{wanted.address}/{prefix}")


def _be_source(
    kernel: Netlink, link: Link, interface: Interface, entries: list[Entry], memory: Memory
) -> None:
    """The preferred source of the network's own route, of routes over the interface that name
    none, and of those that name the former address of that network."""
    address = str(interface.ip)
    former = _home(Wanted(address), entries, {link.index})
    family = Entry(link.index, interface, False).family
    known = memory.load()
    kept = known.get(address, [])
    change = [
        route
        for route in kernel.routes(family, link.index)
        if preferred_source(route) is None
        or (former is not None and preferred_source(route) == str(former.interface.ip))
    ]
    names = {key(route) for route in change}
    known[address] = [route for route in kept if key(route) not in names] + change
    if change:
        memory.save(known)
    for route in change:
        kernel.put_route(route, address)


def _give_back(kernel: Netlink, here: list[Entry], address: str, kept: list[Route]) -> None:
    """Before the address goes: with it the kernel would throw away every route that prefers it.
    If somebody removed it by hand that has happened, and the routes are made anew."""
    family = Entry(0, ipaddress.ip_interface(address), False).family
    was = {key(route): route for route in kept}
    indices = {entry.index for entry in here}
    indices |= {int(value) for route in kept for name, value in route["attrs"] if name == "RTA_OIF"}
    if not here:
        names = {key(route) for index in indices for route in kernel.routes(family, index)}
        # The network's own route first: gateways have to be within reach.
        for route in sorted(kept, key=_has_gateway):
            if key(route) not in names:
                _put_back(kernel, route, preferred_source(route))
    for index in indices:
        for route in kernel.routes(family, index):
            if preferred_source(route) == address:
                before = was.get(key(route))
                _put_back(kernel, route, None if before is None else preferred_source(before))


def _has_gateway(route: Route) -> bool:
    return any(name in ("RTA_GATEWAY", "RTA_VIA") for name, _ in route["attrs"])


def _put_back(kernel: Netlink, route: Route, source: str | None) -> None:
    """An interface that is down or gone has no routes; whoever brings it up again brings them."""
    try:
        kernel.put_route(route, source)
    except OSError as error:
        log.warning("a route could not be put back: %s: %s", error.strerror, route)


def boot_memory(state_dir: str | os.PathLike[str]) -> Memory:
    """Where a module keeps it."""
    return Memory(Path(state_dir) / "routes.json")
