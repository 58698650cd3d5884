"""The virtual addresses of a module while it lives: announced, looked after, counted, removed in
bounded time; and what happens to them without a daemon. Real interfaces of network namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hosts import HERE, VIP, VIP6, Other, ip, later, on_two_hosts, until

from safepy.config import userconfig
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import Cluster, Lan, LanNode, Vip, VipInterface, VirtualAddress
from safepy.daemon import addresses as daemon_addresses
from safepy.daemon import releasing, virtual
from safepy.daemon.addresses import Addresses, orders
from safepy.errors import ConfigError, LocalFault, RequestRefused
from safepy.host import arp, connections, virtualip
from safepy.model import Active, Level, Record
from safepy.storage.record import RecordFile

Patch = pytest.MonkeyPatch
BOTH = Vip((VipInterface((VirtualAddress(VIP, connections=True), VirtualAddress(VIP6))),))


class Module:
    """What the daemon is to its addresses."""

    def __init__(self, vip: Vip, state_dir: Path) -> None:
        self.lines: list[tuple[Level, str]] = []
        self.resources: dict[str, str] = {}
        order = orders(vip, state_dir)
        self.addresses = Addresses("app", vip, order, self.say, self.note)

    def say(self, who: str, level: Level, text: str) -> None:
        assert who == "vipplug"
        self.lines.append((level, text))

    def note(self, resource: str, value: str, who: str) -> None:
        self.resources[resource] = value

    def texts(self) -> list[str]:
        return [text for _, text in self.lines]


@contextlib.asynccontextmanager
async def module(vip: Vip, state_dir: Path) -> AsyncIterator[Module]:
    made = Module(vip, state_dir)
    running = asyncio.create_task(made.addresses.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


def here(address: str) -> bool:
    return f" {address}/" in ip("-o", "addr", "show")


def mac(interface: str = "eth0") -> str:
    words = ip("-o", "link", "show", interface).split()
    return words[words.index("link/ether") + 1]


def test_set_announces_counts_and_remove_undoes_it(tmp_path: Path) -> None:
    async def play(other: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            await made.addresses.set()
            assert here(VIP) and here(VIP6)
            assert made.texts() == [f"Virtual IP {VIP} set", f"Virtual IP {VIP6} set"]
            await later(lambda: made.resources.get(f"connections.{VIP}") == "0")
            # The first announcement may be lost; later ones are not.
            wrong = "02:00:00:00:00:99"
            for address in (VIP, VIP6):
                other.ip(
                    "neigh", "replace", address, "lladdr", wrong, "dev", "eth0", "nud", "stale"
                )
            for address in (VIP, VIP6):
                await later(lambda address=address: other.neighbour(address) == mac())
            await made.addresses.set()
            server = socket.create_server((VIP, 0))
            with server, socket.create_connection(server.getsockname()) as client:
                await made.addresses.remove()
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            assert f"Connections to {VIP} were reset: 1" in made.texts()
            assert not here(VIP) and not here(VIP6)
            said = len(made.lines)
            await made.addresses.remove()
            assert len(made.lines) == said, "nothing to remove, nothing to tell"

    on_two_hosts(play)


def test_without_tcpreset_connections_stay(tmp_path: Path) -> None:
    async def play(_: Other) -> None:
        async with module(replace(BOTH, tcpreset=False), tmp_path) as made:
            await made.addresses.set()
            server = socket.create_server((VIP, 0))
            with server, socket.create_connection(server.getsockname()):
                await made.addresses.remove()
                assert connections.count(VIP) == 1

    on_two_hosts(play)


def test_arpreroute_reminds_the_clients_for_a_while(tmp_path: Path, monkeypatch: Patch) -> None:
    told: list[str] = []
    monkeypatch.setattr(arp, "announce", lambda _, address: told.append(address))
    monkeypatch.setattr(daemon_addresses, "ANNOUNCE_AT_S", (0.01, 0.02))

    async def play(_: Other) -> None:
        pair = (VirtualAddress(VIP), VirtualAddress(VIP6))
        interface = VipInterface(pair, arpreroute=True, arpinterval_s=0.1, arpelapse_s=0.45)
        async with module(Vip((interface,)), tmp_path) as made:
            await made.addresses.set()
            await asyncio.sleep(0.9)
        # At once, twice at growing distances, and then in periods (IPv4 only).
        counts = {address: told.count(address) for address in (VIP, VIP6)}
        assert counts[VIP6] == 3 and 3 + 2 <= counts[VIP] <= 3 + 4, counts

    on_two_hosts(play)


def test_an_interface_that_comes_back_gets_everything_again(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(daemon_addresses, "LINK_EVERY_S", 0.05)

    async def play(other: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            await made.addresses.set()
            ip("link", "set", "eth0", "down")
            await asyncio.sleep(0.3)
            assert not here(VIP6), "the kernel drops IPv6 addresses"
            wrong = "02:00:00:00:00:99"
            other.believe(VIP, wrong)
            ip("link", "set", "eth0", "up")
            await later(lambda: here(VIP6))
            await later(lambda: other.neighbour(VIP) == mac())
            assert f"Interface eth0 is back: {VIP} again" in made.texts()
            # The other end of the cable, too.
            other.ip("link", "set", "eth0", "down")
            await asyncio.sleep(0.3)
            before = len(made.lines)
            other.ip("link", "set", "eth0", "up")
            await later(lambda: len(made.lines) > before)
            await made.addresses.remove()
            assert not here(VIP)

    on_two_hosts(play)


def test_an_interface_that_gets_another_name_is_followed(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(daemon_addresses, "LINK_EVERY_S", 0.05)

    async def play(other: Other) -> None:
        named = replace(BOTH.interfaces[0], name="eth0", arpreroute=True, arpinterval_s=0.1)
        async with module(Vip((named,)), tmp_path) as made:
            await made.addresses.set()
            ip("link", "set", "eth0", "down")
            await asyncio.sleep(0.3)
            ip("link", "set", "eth0", "name", "lan0")
            # The old name may be somebody else's now.
            ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
            ip("link", "set", "eth0", "up")
            other.believe(VIP, "02:00:00:00:00:99")
            ip("link", "set", "lan0", "up")
            await later(lambda: f"Interface lan0 is back: {VIP} again" in made.texts())
            await later(lambda: here(VIP6))
            assert f" {VIP6}/" in ip("-o", "addr", "show", "dev", "lan0")
            await later(lambda: other.neighbour(VIP) == mac("lan0"))
            # And the announcements of `arpreroute` go on.
            other.believe(VIP, "02:00:00:00:00:99")
            await later(lambda: other.neighbour(VIP) == mac("lan0"))
            await made.addresses.remove()
            assert not here(VIP) and not here(VIP6)

    on_two_hosts(play)


def test_it_is_announced_under_the_name_that_the_interface_has_now(tmp_path: Path) -> None:
    def play(other: Other) -> None:
        placed = virtualip.place(virtualip.Wanted(VIP), virtualip.boot_memory(tmp_path))
        ip("link", "set", "eth0", "down")
        ip("link", "set", "eth0", "name", "lan0")
        ip("link", "set", "lan0", "up")
        assert (placed.interface, virtualip.name_of(placed)) == ("eth0", "lan0")
        other.believe(VIP, "02:00:00:00:00:99")

        def learned() -> bool:
            daemon_addresses._announce(placed)  # the link may not be there yet
            return other.neighbour(VIP) == mac("lan0")

        until(learned)

    on_two_hosts(play)


def test_an_interface_that_is_removed_and_made_anew_is_found_by_its_name(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(daemon_addresses, "LINK_EVERY_S", 0.05)

    async def play(_: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            await made.addresses.set()
            ip("link", "del", "eth0")
            await asyncio.sleep(0.3)
            ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
            ip("link", "set", "far0", "up")
            ip("link", "set", "eth0", "up")
            await later(lambda: here(VIP) and here(VIP6))
            await made.addresses.remove()
            assert not here(VIP)

    on_two_hosts(play)


@pytest.mark.parametrize("how", ["down", "gone", "by hand"])
def test_removal_never_waits_for_an_interface(how: str, tmp_path: Path) -> None:
    async def play(_: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            await made.addresses.set()
            if how == "down":
                ip("link", "set", "eth0", "down")
            elif how == "gone":
                ip("link", "del", "eth0")
            else:
                ip("addr", "del", f"{VIP}/24", "dev", "eth0")
            begun = time.monotonic()
            await made.addresses.remove()
            assert time.monotonic() - begun < daemon_addresses.REMOVE_LIMIT_S
            assert not here(VIP) and not here(VIP6)

    on_two_hosts(play)


def test_what_cannot_be_set_is_refused_and_what_could_be_goes_again(tmp_path: Path) -> None:
    async def play(_: Other) -> None:
        elsewhere = VipInterface((VirtualAddress("203.0.113.9"),), name="eth7")
        vip = Vip((*BOTH.interfaces, elsewhere))
        async with module(vip, tmp_path) as made:
            with pytest.raises(LocalFault, match="no interface eth7"):
                await made.addresses.set()
            assert here(VIP)
            await made.addresses.remove()
            assert not here(VIP)

    on_two_hosts(play)


def test_a_kernel_that_hangs_stops_nobody_and_late_orders_keep_their_order(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(daemon_addresses, "SET_LIMIT_S", 0.2)
    monkeypatch.setattr(daemon_addresses, "REMOVE_LIMIT_S", 0.2)
    goes_on = threading.Event()
    place = virtualip.place

    def slow(wanted: virtualip.Wanted, memory: virtualip.Memory) -> virtualip.Wanted:
        assert goes_on.wait(20)
        return place(wanted, memory)

    monkeypatch.setattr(virtualip, "place", slow)

    async def play(_: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            for order, what in ((made.addresses.set, "set"), (made.addresses.remove, "removed")):
                with pytest.raises(LocalFault, match=f"has not {what} it within"):
                    await order()
            goes_on.set()
            # Set late, and then removed all the same: the later order is the last one.
            monkeypatch.setattr(daemon_addresses, "REMOVE_LIMIT_S", 10.0)
            await made.addresses.remove()
            assert not here(VIP)
            removed = [text for text in made.texts() if "removed" in text]
            assert not removed, "the order that nobody waited for has done it"

    on_two_hosts(play)


def test_a_kernel_that_cannot_reset_says_so_and_the_address_goes(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    def cannot(_: str) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(connections, "reset", cannot)

    async def play(_: Other) -> None:
        async with module(BOTH, tmp_path) as made:
            await made.addresses.set()
            await made.addresses.remove()
            text = f"Connections to {VIP} cannot be reset: the kernel has no SOCK_DESTROY"
            assert (Level.EVENT, text) in made.lines
            assert not here(VIP)

    on_two_hosts(play)


# -- without the daemon ----------------------------------------------------------------------------

XML = f"""<safe><service mode="mirror"><heart><heartbeat name="default"/></heart>
<vip><interface_list><interface><real_interface>
<virtual_addr addr="{VIP}" where="one_side_alias"/>
<virtual_addr addr="{VIP6}" where="one_side"/>
</real_interface></interface></interface_list></vip><user/></service></safe>"""


def configured(tmp_path: Path) -> tuple[Paths, ModulePaths]:
    paths = Paths(tmp_path / "safe", tmp_path / "var")
    found = paths.module("app")
    for folder in (found.conf, found.bin, found.var, paths.run):
        folder.mkdir(parents=True)
    found.safeconf.write_text(XML)
    config = userconfig.parse(XML.encode(), "safeconf.xml", {})
    given = [("SAFE", str(paths.safe)), ("SAFEVAR", str(paths.safevar))]
    given += [("SAFEUSERBIN", str(found.bin)), ("PYTHONPATH", os.environ.get("PYTHONPATH", ""))]
    for name, data in releasing.wrappers(found, config, given).items():
        (found.bin / name).write_bytes(data)
        (found.bin / name).chmod(0o755)
    for name in ("start_prim", "stop_prim"):
        script = found.bin / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/ran"\n')
        script.chmod(0o755)
    return paths, found


def test_what_a_dead_daemon_left_is_released(tmp_path: Path) -> None:
    async def play(_: Other) -> None:
        paths, found = configured(tmp_path)
        before = ip("route") + ip("-6", "route")
        vip = userconfig.parse(XML.encode(), "safeconf.xml", {}).vip
        assert vip is not None
        await asyncio.to_thread(orders(vip, found.state_dir).set)
        assert here(VIP) and f"src {VIP6}" in ip("-6", "route")
        assert await asyncio.to_thread(releasing.release_all, paths)
        assert not here(VIP) and not here(VIP6)
        assert ip("route") + ip("-6", "route") == before
        assert await asyncio.to_thread(releasing.release_all, paths), "nothing left"

    on_two_hosts(play)


def test_wrappers_set_run_and_remove(tmp_path: Path) -> None:
    def play(other: Other) -> None:
        _, found = configured(tmp_path)
        start, stop = found.bin / "app_start_wrapper.sh", found.bin / "app_stop_wrapper.sh"
        subprocess.run([start], check=True, timeout=20)
        assert here(VIP) and here(VIP6)
        subprocess.run([stop], check=True, timeout=20)
        assert not here(VIP)
        ran = (tmp_path / "ran").read_text().splitlines()
        assert ran == ["start_prim WAIT ALONE start", "stop_prim ALONE WAIT stop"]
        # Somebody else has it: the module leads there, perhaps.
        other.ip("addr", "add", f"{VIP}/24", "dev", "eth0")
        done = subprocess.run([start], capture_output=True, text=True, timeout=20)
        assert done.returncode != 0 and f"another host has {VIP}" in done.stderr
        assert (tmp_path / "ran").read_text().splitlines() == ran
        until(lambda: not here(VIP))

    on_two_hosts(play)


def test_wrappers_leave_a_module_alone_that_may_run(tmp_path: Path) -> None:
    paths, found = configured(tmp_path)
    found.state_dir.mkdir(mode=0o700)
    RecordFile(str(found.record)).save(Record(module="app", active=Active.PRIMARY))
    with pytest.raises(RequestRefused, match="was running when the daemon ended"):
        releasing.by_hand(paths, "app", "set")
    with pytest.raises(RequestRefused, match="not configured"):
        releasing.by_hand(paths, "other", "set")


def test_a_configuration_is_held_against_this_node(tmp_path: Path) -> None:
    """At `safekit config`: the address is nobody's yet, and there is a place for it."""

    def notes(xml: str, paths: ModulePaths) -> list[str]:
        parsed = userconfig.read(xml.encode(), "userconfig.xml", {})
        nodes = (LanNode("alpha", HERE), LanNode("beta", "localhost"))
        return virtual.check(parsed, "userconfig.xml", Cluster((Lan("default", nodes),)), paths)

    def play(_: Other) -> None:
        found = Paths(tmp_path / "safe", tmp_path / "var").module("app")
        assert notes(XML, found) == []
        with pytest.raises(ConfigError, match=r"which is of node alpha on lan default"):
            notes(XML.replace(VIP, HERE), found)
        (note,) = notes(XML.replace(VIP, "203.0.113.9"), found)
        assert "no interface of this node is in its network" in note and note.startswith("line 3")
        ip("addr", "add", f"{VIP}/24", "dev", "eth0")
        with pytest.raises(ConfigError, match="this node has this address already"):
            notes(XML, found)
        # Its own active configuration has it: the module leads, or a wrapper set it.
        found.conf.mkdir(parents=True)
        found.safeconf.write_text(XML)
        assert notes(XML, found) == []

    on_two_hosts(play)
