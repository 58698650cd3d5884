"""The virtual addresses of one module: set and removed as the core says, announced, and counted
(reference: userconfig 10, 21).

What asks the kernel runs in one thread of the module's own, one thing after the other: a driver
that hangs stops neither the daemon's loop nor other modules, and an order to remove that was given
later is never overtaken by one to set that was slow. The waiting for it is bounded; what was
ordered still happens once the kernel goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from safepy.config.schema import Vip, VipInterface, VirtualAddress
from safepy.errors import LocalFault
from safepy.host import arp, connections, virtualip
from safepy.host.interfaces import flags_of
from safepy.host.tasks import Tasks
from safepy.host.virtualip import Wanted
from safepy.model import Level

WHO = "vipplug"
#: How long the kernel may take for an order before the core hears that it failed.
SET_LIMIT_S = 10.0
REMOVE_LIMIT_S = 5.0
#: When the neighbours are told after a take-over, whatever `arpreroute` says: an announcement is
#: one packet that nobody confirms.
ANNOUNCE_AT_S = (0.2, 0.5, 1.0, 2.0, 4.0)
#: How often is looked whether the link of an interface came back.
LINK_EVERY_S = 1.0
COUNT_EVERY_S = 10.0

#: (resource, value, who): into the store, without a line in the log.
Note = Callable[[str, str, str], object]
Say = Callable[[str, Level, str], None]
T = TypeVar("T")

log = logging.getLogger(__name__)


class Order:
    """What the kernel is asked for, for all addresses of a module. Blocks."""

    def __init__(
        self, wanted: Sequence[Wanted], tcpreset: bool, state_dir: str | os.PathLike[str]
    ) -> None:
        self.wanted = tuple(wanted)
        self._tcpreset = tcpreset
        self._memory = virtualip.boot_memory(state_dir)

    def set(self) -> list[Wanted]:
        """Every address is here and was announced once; where they are. Raises LocalFault,
        OSError."""
        return [self.set_one(wanted) for wanted in self.wanted]

    def set_one(self, wanted: Wanted) -> Wanted:
        placed = virtualip.place(wanted, self._memory)
        with contextlib.suppress(OSError):  # the interface is down: its return will tell
            arp.announce(placed.interface, wanted.address)
        return placed

    def remove(self) -> list[tuple[Level, str]]:
        """No address is here, and with `tcpreset` no connection of one. Lines for the log. What can
        be removed is, whatever happens to the others. Raises OSError."""
        lines: list[tuple[Level, str]] = []
        failed: OSError | None = None
        for wanted in self.wanted:
            try:
                if self._tcpreset and virtualip.is_here(wanted.address):
                    lines += _reset(wanted.address)
                if virtualip.clear(wanted.address, self._memory):
                    lines.append((Level.INFO, f"Virtual IP {wanted.address} removed"))
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed
        return lines


def orders(vip: Vip, state_dir: str | os.PathLike[str]) -> Order:
    wanted = [_wanted(each, address) for each in vip.interfaces for address in each.addresses]
    return Order(wanted, vip.tcpreset, state_dir)


def _wanted(interface: VipInterface, address: VirtualAddress) -> Wanted:
    source = address.where == "one_side"
    return Wanted(address.addr, interface.name, address.prefix, source)


def _reset(address: str) -> Iterator[tuple[Level, str]]:
    """Before the address goes, while what tells the clients can still be sent."""
    try:
        ended = connections.reset(address)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            # Clients then hear it from the other node, at the next packet that they send.
            why = "the kernel has no SOCK_DESTROY"
        yield Level.EVENT, f"Connections to {address} cannot be reset: {why}"
        return
    if ended:
        yield Level.INFO, f"Connections to {address} were reset: {ended}"


class Addresses:
    """Not for other threads. `run` has to be there before the core does anything."""

    def __init__(
        self,
        module: str,
        vip: Vip,
        order: Order,
        say: Say,
        note: Note,
    ) -> None:
        self._module = module
        self._order = order
        self._all = [
            (interface, address) for interface in vip.interfaces for address in interface.addresses
        ]
        self._say = say
        self._note = note
        self._thread = ThreadPoolExecutor(1, f"{module}-vip")
        self._tasks = Tasks()
        #: While set: the tasks that announce, look after the link, and count.
        self._watching: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Own the tasks until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._tasks.close()
            self._thread.shutdown(wait=False, cancel_futures=False)

    # -- the core's orders -------------------------------------------------------------------------

    async def set(self) -> None:
        """Every address is here and was announced once. Raises LocalFault."""
        await self._end_watching()
        placed = await self._bounded(self._order.set, SET_LIMIT_S, "set")
        for (interface, address), where in zip(self._all, placed, strict=True):
            self._say(WHO, Level.INFO, f"Virtual IP {address.addr} set")
            self._start("announce", self._announce(interface, where), where)
            self._start("link", self._after_recovery(interface, where), where)
            if address.connections:
                self._start("connections", self._count(address.addr), where)

    async def remove(self) -> None:
        """No address is here, and with `tcpreset` no connection of one. Raises LocalFault."""
        await self._end_watching()
        for _, address in self._all:
            if address.connections:
                self._note(f"connections.{address.addr}", "0", WHO)
        told = await self._bounded(self._order.remove, REMOVE_LIMIT_S, "removed")
        for level, text in told:
            self._say(WHO, level, text)

    async def _bounded(self, work: Callable[[], T], limit_s: float, what: str) -> T:
        loop = asyncio.get_running_loop()
        order = loop.run_in_executor(self._thread, work)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(order)
        except TimeoutError:
            order.add_done_callback(lambda ended: _forgotten(ended.exception()))
            raise LocalFault(
                f"the kernel has not {what} it within {limit_s:g} s",
                "see dmesg: a network driver may hang",
            ) from None
        except OSError as error:
            raise LocalFault(f"it could not be {what}: {error.strerror or error}") from error

    # -- while the addresses are here --------------------------------------------------------------

    def _start(self, what: str, work: Coroutine[Any, Any, None], where: Wanted) -> None:
        name = f"{self._module} {what} {where.address}"
        self._watching.append(self._tasks.start(name, work))

    async def _end_watching(self) -> None:
        tasks, self._watching = self._watching, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _announce(self, interface: VipInterface, where: Wanted) -> None:
        """A few at growing distances; with `arpreroute` again and again, for a while."""
        begun = _now()
        for at_s in ANNOUNCE_AT_S:
            await asyncio.sleep(begun + at_s - _now())
            await self._tell(where)
        if not interface.arpreroute or ":" in where.address:
            return  # IPv6 relies on neighbour discovery (reference: userconfig 21.1).
        while _now() + interface.arpinterval_s <= begun + interface.arpelapse_s:
            await asyncio.sleep(interface.arpinterval_s)
            await self._tell(where)

    async def _tell(self, where: Wanted) -> None:
        with contextlib.suppress(OSError):  # the link is looked after elsewhere
            await asyncio.to_thread(_announce, where)

    async def _after_recovery(self, interface: VipInterface, where: Wanted) -> None:
        """An interface that was down may have lost what it had (IPv6 addresses, routes), and the
        neighbours may have learned something else: set and announce once more. Names are given
        while an interface is down, as a rule: it is followed by its number."""
        address = where.address
        _, was = await asyncio.to_thread(_running, where)
        while True:
            await asyncio.sleep(LINK_EVERY_S)
            name, now = await asyncio.to_thread(_running, where)
            if now and not was:
                self._say(WHO, Level.INFO, f"Interface {name} is back: {address} again")
                again = partial(self._order.set_one, where)
                try:
                    where = await self._bounded(again, SET_LIMIT_S, "set")
                except LocalFault as error:
                    self._say(WHO, Level.EVENT, f"{address}: {error}")
                    now = False  # once more in a second
                else:
                    self._start("announce again", self._announce(interface, where), where)
            was = now

    async def _count(self, address: str) -> None:
        failed = ""
        while True:
            try:
                number = await asyncio.to_thread(connections.count, address)
            except OSError as error:
                if str(error) != failed:
                    failed = str(error)
                    log.warning("%s: connections of %s: %s", self._module, address, error)
            else:
                self._note(f"connections.{address}", str(number), WHO)
            await asyncio.sleep(COUNT_EVERY_S)


def _announce(where: Wanted) -> None:
    arp.announce(virtualip.name_of(where), where.address)


def _running(where: Wanted) -> tuple[str, bool]:
    """What the interface is called, and whether it has a link."""
    name = virtualip.name_of(where)
    try:
        return name, flags_of(name).running
    except OSError:
        return name, False  # gone


def _now() -> float:
    return asyncio.get_running_loop().time()


def _forgotten(error: BaseException | None) -> None:
    """Of an order that nobody waits for any more."""
    if error is not None:
        log.warning("a late order to the kernel failed: %s", error)
