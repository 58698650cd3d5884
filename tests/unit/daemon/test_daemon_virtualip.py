"""Virtual addresses in the kernel: real interfaces of network namespaces (root)."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path

import pytest
from hosts import HERE, HERE6, THERE, VIP, VIP6, Other, ip, on_two_hosts, run, until

from safepy.errors import LocalFault
from safepy.host import arp, connections, virtualip
from safepy.host.netlink import own_interfaces
from safepy.host.virtualip import Wanted


def everything() -> tuple[str, ...]:
    """What a module must leave as it was: addresses and routes."""
    addresses = ip("-o", "addr", "show", "dev", "eth0").replace("tentative", "")
    lines = ip("route", "show", "table", "all") + ip("-6", "route", "show", "table", "all")
    # The kernel keeps no order among IPv6 addresses, and none that matters among routes.
    told = [" ".join(line.split()) for line in (addresses + lines).splitlines()]
    return tuple(sorted(line for line in told if "fe80" not in line and "ff00" not in line))


def shown(address: str) -> str:
    lines = ip("-o", "addr", "show").splitlines()
    return " ".join("".join(line for line in lines if f" {address}/" in line).split())


@pytest.mark.parametrize(("address", "prefix"), [(VIP, 24), (VIP6, 64)])
def test_an_alias_comes_and_goes_and_nothing_else_changes(
    address: str, prefix: int, tmp_path: Path
) -> None:
    def play(_: Other) -> None:
        memory = virtualip.boot_memory(tmp_path)
        before = everything()
        assert not virtualip.clear(address, memory), "nothing was there"
        for _round in range(2):
            assert virtualip.place(Wanted(address), memory) == Wanted(address, "eth0", prefix)
            line = shown(address)
            assert f"{address}/{prefix}" in line and "tentative" not in line
            assert ("secondary eth0:vip" in line) or ("deprecated" in line), line
        assert virtualip.is_here(address)
        assert address not in [str(each.ip) for each in own_interfaces()], "no address of its own"
        for was_there in (True, False):
            assert virtualip.clear(address, memory) is was_there
            assert everything() == before
        assert not list(tmp_path.iterdir()), "routes were not touched"

    on_two_hosts(play)


def test_interface_and_mask_may_be_named_and_a_wrong_place_is_corrected(tmp_path: Path) -> None:
    def play(_: Other) -> None:
        memory = virtualip.boot_memory(tmp_path)
        ip("link", "add", "eth1", "type", "veth", "peer", "name", "far1")
        ip("addr", "add", "198.51.100.1/25", "dev", "eth1")
        ip("link", "set", "eth1", "up")
        assert virtualip.place(Wanted(VIP, "eth1", 28), memory).interface == "eth1"
        assert "eth1" in shown(VIP) and f"{VIP}/28" in shown(VIP)
        assert virtualip.place(Wanted(VIP), memory).interface == "eth0"
        assert f"{VIP}/24" in shown(VIP) and "eth1" not in shown(VIP)
        # A named interface that is in another network: the address stands for itself.
        assert virtualip.place(Wanted(VIP6, "eth1"), memory).interface == "eth1"
        assert f"{VIP6}/128" in shown(VIP6)
        assert virtualip.place(Wanted("198.51.100.7"), memory).interface == "eth1"
        assert "198.51.100.7/25" in shown("198.51.100.7")

    on_two_hosts(play)


@pytest.mark.parametrize("promote", ["0", "1"])
def test_an_address_that_came_later_to_the_same_network_stays(promote: str, tmp_path: Path) -> None:
    """The virtual address came first, so it is the network's own one, and the kernel takes those
    that stand beside it away with it: the node's address after a renewed lease, or that of another
    module."""

    def play(_: Other) -> None:
        ip("link", "add", "eth1", "type", "veth", "peer", "name", "far1")
        ip("link", "set", "eth1", "up")
        ip("link", "set", "far1", "up")
        run("sysctl", "-w", f"net.ipv4.conf.eth1.promote_secondaries={promote}")
        run("sysctl", "-w", f"net.ipv4.conf.all.promote_secondaries={promote}")
        memory = virtualip.boot_memory(tmp_path)
        virtualip.place(Wanted("198.51.100.50", "eth1", 24), memory)
        ip("addr", "add", "198.51.100.1/24", "dev", "eth1")
        ip("addr", "add", "198.51.100.60/24", "dev", "eth1", "label", "eth1:vip")
        ip("route", "add", "203.0.113.0/24", "via", "198.51.100.9")
        assert "secondary" in shown("198.51.100.1")
        assert virtualip.clear("198.51.100.50", memory)
        assert not shown("198.51.100.50")
        assert "198.51.100.1/24" in shown("198.51.100.1")
        assert "secondary" not in shown("198.51.100.1")
        assert "eth1:vip" in shown("198.51.100.60")
        assert "src 198.51.100.1" in ip("route", "show", "198.51.100.0/24")

    on_two_hosts(play)


def test_what_cannot_be_set_says_what_to_do(tmp_path: Path) -> None:
    def play(_: Other) -> None:
        memory = virtualip.boot_memory(tmp_path)
        with pytest.raises(LocalFault, match="has no interface eth7") as named:
            virtualip.place(Wanted(VIP, "eth7"), memory)
        with pytest.raises(LocalFault, match="no interface of this node is in its network"):
            virtualip.place(Wanted("203.0.113.9"), memory)
        assert "name another one" in named.value.hint

    on_two_hosts(play)


def _more_routes() -> None:
    ip("route", "add", "default", "via", THERE)
    ip("route", "add", "10.77.0.0/16", "via", THERE, "metric", "50", "mtu", "1400")
    ip("addr", "add", "198.51.100.1/24", "dev", "eth0")
    ip("route", "add", "10.78.0.0/16", "via", THERE, "src", "198.51.100.1")
    ip("route", "add", "10.79.0.0/16", "via", THERE, "src", HERE, "table", "100")
    ip("-6", "route", "add", "2001:db8:7::/48", "via", "2001:db8::2")


def test_one_side_is_the_source_of_what_is_sent_and_routes_come_back(tmp_path: Path) -> None:
    """Reference: userconfig 21.3."""

    def play(_: Other) -> None:
        _more_routes()
        memory = virtualip.boot_memory(tmp_path)
        before = everything()
        for _round in range(2):
            for address in (VIP, VIP6):
                virtualip.place(Wanted(address, source=True), memory)
        routes = ip("route", "show", "table", "all").splitlines()
        for beginning in ("default via", "192.0.2.0/24 dev eth0 proto kernel", "10.77.", "10.79."):
            (route,) = [line for line in routes if line.startswith(beginning)]
            assert f"src {VIP}" in route, route
        for beginning in ("10.78.", "198.51.100.0/24 dev eth0 proto kernel"):
            (route,) = [line for line in routes if line.startswith(beginning)]
            assert "src 198.51.100.1" in route, route
        assert f"src {VIP}" in ip("route", "get", "10.1.2.3")
        assert f"src {VIP6}" in ip("-6", "route", "get", "2001:db8:7::1")
        # The daemon that removes it may be another one than the one that set it.
        for address in (VIP, VIP6):
            assert virtualip.clear(address, virtualip.boot_memory(tmp_path))
        assert everything() == before
        assert not list(tmp_path.iterdir())

    on_two_hosts(play)


def test_routes_come_back_when_somebody_removed_the_address_by_hand(tmp_path: Path) -> None:
    def play(_: Other) -> None:
        _more_routes()
        memory = virtualip.boot_memory(tmp_path)
        before = everything()
        virtualip.place(Wanted(VIP, source=True), memory)
        ip("addr", "del", f"{VIP}/24", "dev", "eth0")
        assert "default" not in ip("route"), "the kernel threw the routes away"
        assert virtualip.clear(VIP, memory)
        assert everything() == before

    on_two_hosts(play)


def test_a_route_that_came_later_is_not_lost_and_a_deleted_one_stays_deleted(
    tmp_path: Path,
) -> None:
    def play(_: Other) -> None:
        _more_routes()
        memory = virtualip.boot_memory(tmp_path)
        virtualip.place(Wanted(VIP, source=True), memory)
        ip("route", "add", "10.80.0.0/16", "via", THERE, "src", VIP)
        ip("route", "del", "10.77.0.0/16")
        virtualip.clear(VIP, memory)
        routes = ip("route")
        assert "10.80.0.0/16" in routes and "10.77." not in routes and VIP not in routes

    on_two_hosts(play)


def test_what_was_kept_before_a_reboot_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text('{"boot": "another", "routes": {"192.0.2.50": [{}]}}')
    assert virtualip.boot_memory(tmp_path).load() == {}
    for damaged in ("", "[]", "{", '{"boot": 1}'):
        (tmp_path / "routes.json").write_text(damaged)
        assert virtualip.boot_memory(tmp_path).load() == {}


#: Connects, says so, and then says how the connection ended.
CLIENT = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
link = socket.create_connection((address, port), timeout=20)
print("connected")
try:
    print("ended" if not link.recv(1) else "data")
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize(
    ("bound", "family", "address"),
    [
        (VIP, socket.AF_INET, VIP),
        ("::", socket.AF_INET6, VIP),  # an IPv4 connection of an IPv6 socket
        (VIP6, socket.AF_INET6, VIP6),
    ],
)
def test_connections_of_the_address_are_reset_and_no_others(
    bound: str, family: socket.AddressFamily, address: str, tmp_path: Path
) -> None:
    def play(other: Other) -> None:
        memory = virtualip.boot_memory(tmp_path)
        virtualip.place(Wanted(address), memory)
        accepted: list[socket.socket] = []
        both = bound == "::"
        with socket.create_server((bound, 0), family=family, dualstack_ipv6=both) as server:
            port = server.getsockname()[1]

            def accept() -> None:
                for _ in range(3 if bound == "::" else 2):
                    accepted.append(server.accept()[0])

            threading.Thread(target=accept, daemon=True).start()
            clients = [other.python(CLIENT, address, str(port)) for _ in range(2)]
            kept = [other.python(CLIENT, HERE, str(port))] if bound == "::" else []
            for client in (*clients, *kept):
                assert client.stdout is not None and client.stdout.readline() == "connected\n"
            until(lambda: len(accepted) == len(clients) + len(kept))
            assert connections.count(address) == 2
            assert connections.reset(address) == 2
            for client in clients:
                assert client.stdout is not None
                assert client.stdout.readline() == f"{errno.ECONNRESET}\n"
            assert connections.count(address) == connections.reset(address) == 0
            if kept:
                assert connections.count(HERE) == 1
            for each in accepted:
                each.close()
            for client in (*clients, *kept):
                assert client.stdout is not None and client.stdin is not None
                client.kill()
                client.wait()
                client.stdout.close()
                client.stdin.close()

    on_two_hosts(play)


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_the_neighbours_learn_where_the_address_is(address: str, tmp_path: Path) -> None:
    def play(other: Other) -> None:
        wrong = "02:00:00:00:00:99"
        other.ip("neigh", "replace", address, "lladdr", wrong, "dev", "eth0", "nud", "stale")
        virtualip.place(Wanted(address), virtualip.boot_memory(tmp_path))
        assert other.neighbour(address) == wrong
        arp.announce("eth0", address)
        words = ip("-o", "link", "show", "eth0").split()
        until(lambda: other.neighbour(address) == words[words.index("link/ether") + 1])

    on_two_hosts(play)


def test_an_interface_that_is_down_says_so() -> None:
    def play(_: Other) -> None:
        arp.announce("lo", "127.0.0.1")  # nobody to tell
        with pytest.raises(OSError):
            arp.announce("eth7", VIP)
        ip("link", "set", "eth0", "down")
        with pytest.raises(OSError):
            arp.announce("eth0", VIP)

    on_two_hosts(play)


def test_addresses_that_stand_beside_others_are_not_its_own() -> None:
    def play(_: Other) -> None:
        assert {HERE, HERE6} <= {str(each.ip) for each in own_interfaces()}
        run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
        assert "192.0.2.77" not in {str(each.ip) for each in own_interfaces()}

    on_two_hosts(play)
