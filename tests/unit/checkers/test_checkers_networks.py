"""ping, splitbrain, intf, ip on two hosts of network namespaces (root, as all tests here)."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hosts import HERE, HERE6, THERE, THERE6, Other, ip, on_two_hosts, run

from safepy.checkers.base import Names, Test, outcome
from safepy.checkers.intf import IntfTest
from safepy.checkers.ip import IpTest, probe
from safepy.checkers.ping import PingTest, any_answers
from safepy.checkers.splitbrain import Witnesses
from safepy.checkers.tcp import TcpTest
from safepy.config.schema import IntfCheck, IpCheck, PingCheck, SplitbrainCheck, TcpCheck
from safepy.errors import LocalFault
from safepy.host import arp
from safepy.host.neighbours import answer, question

#: One that nobody has.
NOBODY = "192.0.2.99"


async def until(test: Test, holds: Callable[[str], bool], limit_s: float = 20.0) -> str:
    """The first result of which this holds."""
    async with asyncio.timeout(limit_s):
        while True:
            why = await outcome(test, 5)
            if holds(why):
                return why
            await asyncio.sleep(0.05)


def up(why: str) -> bool:
    return not why


def down(why: str) -> bool:
    return bool(why)


def ping(addr: str) -> PingTest:
    return PingTest(PingCheck(ident="p", when="pre", addr=addr))


def intf(addr: str) -> IntfTest:
    return IntfTest(IntfCheck(ident="i", when="pre", local_addr=addr))


# -- ping and splitbrain ------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["1 0", "0 2147483647"])
def test_ping_over_a_wire_with_and_without_a_raw_socket(groups: str) -> None:
    async def play(other: Other) -> None:
        run("sysctl", "-w", f"net.ipv4.ping_group_range={groups}")
        for address in (THERE, THERE6):
            assert await until(ping(address), up) == ""
        assert await outcome(ping(NOBODY), 0.5) == "no answer within 0.5 s"
        other.ip("link", "set", "eth0", "down")
        for address in (THERE, THERE6):
            assert await outcome(ping(address), 0.5) == "no answer within 0.5 s"
        other.ip("link", "set", "eth0", "up")
        assert await until(ping(THERE), up) == ""

    on_two_hosts(play)


def test_an_address_without_a_route_is_down_at_once() -> None:
    async def play(_: Other) -> None:
        assert await outcome(ping("198.51.100.1"), 5) == "Network is unreachable"
        test = TcpTest(TcpCheck(ident="t", when="pre", addr="198.51.100.1", port=1))
        assert await outcome(test, 5) == "198.51.100.1 port 1: Network is unreachable"

    on_two_hosts(play)


def named(*hosts: str) -> dict[str, Names]:
    return {host: Names() for host in hosts}


def test_a_witness_by_name_answers_though_no_name_server_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    free = threading.Event()

    def once(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if len(asked) > 1:
            assert free.wait(20)
        return [(socket.AF_INET, 1, 6, "", (THERE, 0))]

    async def play(other: Other) -> None:
        await until(ping(THERE), up)
        monkeypatch.setattr(socket, "getaddrinfo", once)
        check = SplitbrainCheck(ident="w", when="pre", witnesses=("router.example",), timeout_s=0.5)
        witnesses = Witnesses(check, lambda *_: None)
        keeping = asyncio.ensure_future(witnesses.keep_names())
        await asyncio.sleep(0.2)
        before = threading.active_count()
        for _round in range(3):
            await witnesses.ask()
        other.ip("link", "set", "eth0", "down")
        for _round in range(3):
            with pytest.raises(LocalFault):
                await witnesses.ask()
        assert len(asked) == 2 and threading.active_count() <= before + 1, "one thread hangs"
        keeping.cancel()
        free.set()

    on_two_hosts(play)


def test_witnesses() -> None:
    async def play(other: Other) -> None:
        await until(ping(THERE), up)
        assert await any_answers(named(NOBODY, "198.51.100.1", THERE), 5) == THERE
        assert await any_answers(named(NOBODY, "198.51.100.1"), 0.3) == ""
        said: list[tuple[str, str, str]] = []
        check = SplitbrainCheck(ident="w", when="pre", witnesses=(NOBODY, THERE), timeout_s=1)
        witnesses = Witnesses(check, lambda *words: said.append(words))
        await witnesses.ask()
        other.ip("link", "set", "eth0", "down")
        with pytest.raises(LocalFault, match=f"no answer from {NOBODY}, {THERE} within 1 s"):
            await witnesses.ask()
        assert [value for _, value, _ in said] == ["up", "down"]
        assert {(name, who) for name, _, who in said} == {("splitbrain.w", "splitbraincheck")}

    on_two_hosts(play)


# -- intf ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_the_link_of_an_interface(address: str) -> None:
    async def play(other: Other) -> None:
        assert await until(intf(address), up) == ""
        other.ip("link", "set", "eth0", "down")  # the cable is out
        assert await until(intf(address), down) == "the interface eth0 has no link"
        other.ip("link", "set", "eth0", "up")
        assert await until(intf(address), up) == ""
        ip("addr", "del", f"{address}/{64 if ':' in address else 24}", "dev", "eth0")
        assert await until(intf(address), down) == f"no interface has the address {address}"

    on_two_hosts(play)


def test_an_interface_that_is_switched_off_and_one_that_has_a_label() -> None:
    async def play(_: Other) -> None:
        ip("addr", "add", "192.0.2.7/24", "dev", "eth0", "label", "eth0:vip")
        assert await until(intf("192.0.2.7"), up) == ""
        ip("link", "set", "eth0", "down")
        assert await outcome(intf("192.0.2.7"), 5) == "the interface eth0 is switched off"
        ip("link", "del", "eth0")
        assert "no interface has the address" in await outcome(intf("192.0.2.7"), 5)

    on_two_hosts(play)


# -- ip -----------------------------------------------------------------------------------------


def ip_test(addr: str, conflicts: list[str], conflict: str = "log") -> IpTest:
    check = IpCheck(ident="v", when="prim", addr=addr, conflict=conflict)
    return IpTest(check, conflicts.append)


@pytest.mark.parametrize("address", [HERE, HERE6, "127.0.0.1"])
def test_an_address_that_is_here_and_is_taken_away(address: str) -> None:
    async def play(_: Other) -> None:
        conflicts: list[str] = []
        test = ip_test(address, conflicts)
        assert await outcome(test, 5) == ""
        ip("addr", "flush", "to", address)
        assert await outcome(test, 5) == f"no interface has the address {address}"
        assert conflicts == []

    on_two_hosts(play)


def test_another_host_with_the_same_ipv4_address_is_named() -> None:
    async def play(other: Other) -> None:
        await until(ping(THERE), up)
        other.ip("link", "set", "eth0", "address", "02:00:00:00:00:66")
        other.ip("addr", "add", f"{HERE}/24", "dev", "eth0")
        conflicts: list[str] = []
        test, strict = ip_test(HERE, conflicts), ip_test(HERE, [], "down")
        said = f"another host answers for {HERE}: 02:00:00:00:00:66"
        assert await until(strict, down) == said
        # By itself it is no failure, and it is said once.
        assert await outcome(test, 5) == "" and await outcome(test, 5) == ""
        assert conflicts == [said]
        other.ip("addr", "del", f"{HERE}/24", "dev", "eth0")
        assert await outcome(test, 5) == "" and conflicts == [said, ""]

    on_two_hosts(play)


def test_an_ipv6_address_that_the_kernel_found_elsewhere() -> None:
    async def play(other: Other) -> None:
        await until(ping(THERE6), up)
        conflicts: list[str] = []
        ip("addr", "add", f"{THERE6}/64", "dev", "eth0")
        test = ip_test(THERE6, conflicts)
        said = f"another host has the address {THERE6}"
        assert await until(test, down) == said
        assert conflicts[-1] == said  # While the kernel was looking, the other host answered.

    on_two_hosts(play)


def test_another_host_with_the_same_ipv6_address_is_named() -> None:
    """A virtual address is set without the kernel's own detection, which would take a second."""

    async def play(other: Other) -> None:
        await until(ping(THERE6), up)
        conflicts: list[str] = []
        test, strict = ip_test(HERE6, conflicts), ip_test(HERE6, [], "down")
        assert await outcome(strict, 5) == "" and await outcome(test, 5) == ""
        other.ip("link", "set", "eth0", "address", "02:00:00:00:00:66")
        other.ip("addr", "add", f"{HERE6}/64", "dev", "eth0", "nodad")
        said = f"another host answers for {HERE6}: 02:00:00:00:00:66"
        assert await until(strict, down) == said
        assert await outcome(test, 5) == "" and await outcome(test, 5) == ""
        assert conflicts == [said]
        other.ip("addr", "del", f"{HERE6}/64", "dev", "eth0")
        assert await outcome(test, 5) == "" and conflicts == [said, ""]

    on_two_hosts(play)


def test_our_own_announcements_are_no_conflict() -> None:
    async def play(_: Other) -> None:
        await until(ping(THERE6), up)
        for address in (HERE, HERE6):
            probing = asyncio.ensure_future(probe("eth0", address))
            await asyncio.sleep(0.1)
            for _round in range(3):
                await asyncio.to_thread(arp.announce, "eth0", address)
            assert await probing == ""

    on_two_hosts(play)


def test_only_an_arp_answer_for_our_address_counts() -> None:
    mine, wanted = bytes(range(6)), IPv4Address("192.0.2.1")
    asked = question(mine, wanted)
    assert len(asked) == 42 and answer(asked, wanted) is None
    theirs = b"\x02\0\0\0\0\x66"
    frame = bytearray(asked)
    frame[20:22] = b"\0\x02"
    frame[22:28], frame[28:32] = theirs, wanted.packed
    assert answer(bytes(frame), wanted) == theirs
    assert answer(bytes(frame), IPv4Address("192.0.2.2")) is None
    assert answer(bytes(frame[:41]), wanted) is None


def test_only_an_advertisement_from_this_wire_counts() -> None:
    wanted, theirs = IPv6Address("2001:db8::1"), b"\x02\0\0\0\0\x66"
    asked = question(bytes(range(6)), wanted)
    assert len(asked) == 14 + 40 + 24 and answer(asked, wanted) is None
    told = bytearray(asked + b"\x02\x01" + theirs)
    told[18:20], told[54] = b"\0\x20", 136
    assert answer(bytes(told), wanted) == theirs
    assert answer(bytes(told[:-8]), wanted) == asked[6:12], "without its option: who sent it"
    assert answer(bytes(told), IPv6Address("2001:db8::2")) is None
    assert answer(bytes(told[:70]), wanted) is None
    told[21] = 254
    assert answer(bytes(told), wanted) is None, "it came over a router"


def test_nobody_is_asked_where_there_is_no_arp() -> None:
    async def play(_: Other) -> None:
        assert await probe("lo", "127.0.0.1") == ""
        with pytest.raises(OSError, match="No such device"):
            await probe("eth9", HERE)

    on_two_hosts(play)
