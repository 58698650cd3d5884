"""ping, splitbrain, intf, ip in networks of their own: a thread that leaves the host's network for
one where nothing is but a wire to a second one (root, as all tests of this project)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from safepy.checkers.base import Test, outcome
from safepy.checkers.intf import IntfTest
from safepy.checkers.ip import IpTest, answer, arp_probe, probe
from safepy.checkers.ping import PingTest, any_answers
from safepy.checkers.splitbrain import Witnesses
from safepy.checkers.tcp import TcpTest
from safepy.config.schema import IntfCheck, IpCheck, PingCheck, SplitbrainCheck, TcpCheck
from safepy.errors import LocalFault

_CLONE_NEWNET = 0x40000000
#: Ours, the other end's, and one that nobody has.
HERE, THERE, NOBODY = "192.0.2.1", "192.0.2.2", "192.0.2.99"
HERE6, THERE6 = "2001:db8::1", "2001:db8::2"


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


def ip(*words: str) -> None:
    run("ip", *words)


class Other:
    """The network at the other end of the wire."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def ip(self, *words: str) -> None:
        run("nsenter", "-t", str(self.pid), "-n", "ip", *words)


@contextmanager
def wire() -> Iterator[Other]:
    """In a new network: `eth0` with HERE, and at its other end `eth0` with THERE."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 300"], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        other = Other(holder.pid)
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "there")
        ip("link", "set", "there", "netns", str(holder.pid))
        other.ip("link", "set", "there", "name", "eth0")
        ip("addr", "add", f"{HERE}/24", "dev", "eth0")
        ip("addr", "add", f"{HERE6}/64", "dev", "eth0", "nodad")
        ip("link", "set", "eth0", "up")
        other.ip("addr", "add", f"{THERE}/24", "dev", "eth0")
        other.ip("addr", "add", f"{THERE6}/64", "dev", "eth0", "nodad")
        other.ip("link", "set", "eth0", "up")
        yield other
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def elsewhere(play: Callable[[Other], Coroutine[Any, Any, None]]) -> None:
    """Run `play` in a thread with networks of its own, and raise what it raised. What the thread
    starts, threads and programs, is there too."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            with wire() as other:
                asyncio.run(play(other))
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(100)
    assert not thread.is_alive()
    for error in raised:
        raise error


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

    elsewhere(play)


def test_an_address_without_a_route_is_down_at_once() -> None:
    async def play(_: Other) -> None:
        assert await outcome(ping("198.51.100.1"), 5) == "Network is unreachable"
        test = TcpTest(TcpCheck(ident="t", when="pre", addr="198.51.100.1", port=1))
        assert await outcome(test, 5) == "198.51.100.1 port 1: Network is unreachable"

    elsewhere(play)


def test_witnesses() -> None:
    async def play(other: Other) -> None:
        await until(ping(THERE), up)
        assert await any_answers((NOBODY, "198.51.100.1", THERE), 5) == THERE
        assert await any_answers((NOBODY, "198.51.100.1"), 0.3) == ""
        said: list[tuple[str, str, str]] = []
        check = SplitbrainCheck(ident="w", when="pre", witnesses=(NOBODY, THERE), timeout_s=1)
        witnesses = Witnesses(check, lambda *words: said.append(words))
        await witnesses.ask()
        other.ip("link", "set", "eth0", "down")
        with pytest.raises(LocalFault, match=f"no answer from {NOBODY}, {THERE} within 1 s"):
            await witnesses.ask()
        assert [value for _, value, _ in said] == ["up", "down"]
        assert {(name, who) for name, _, who in said} == {("splitbrain.w", "splitbraincheck")}

    elsewhere(play)


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

    elsewhere(play)


def test_an_interface_that_is_switched_off_and_one_that_has_a_label() -> None:
    async def play(_: Other) -> None:
        ip("addr", "add", "192.0.2.7/24", "dev", "eth0", "label", "eth0:vip")
        assert await until(intf("192.0.2.7"), up) == ""
        ip("link", "set", "eth0", "down")
        assert await outcome(intf("192.0.2.7"), 5) == "the interface eth0 is switched off"
        ip("link", "del", "eth0")
        assert "no interface has the address" in await outcome(intf("192.0.2.7"), 5)

    elsewhere(play)


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

    elsewhere(play)


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

    elsewhere(play)


def test_an_ipv6_address_that_the_kernel_found_elsewhere() -> None:
    async def play(other: Other) -> None:
        await until(ping(THERE6), up)
        conflicts: list[str] = []
        ip("addr", "add", f"{THERE6}/64", "dev", "eth0")
        test = ip_test(THERE6, conflicts)
        said = f"another host has the address {THERE6}"
        assert await until(test, down) == said
        assert conflicts == [said]

    elsewhere(play)


def test_only_an_arp_answer_for_our_address_counts() -> None:
    mine, wanted = bytes(range(6)), bytes([192, 0, 2, 1])
    asked = arp_probe(mine, wanted)
    assert len(asked) == 42 and answer(asked, wanted) is None
    theirs = b"\x02\0\0\0\0\x66"
    frame = bytearray(asked)
    frame[20:22] = b"\0\x02"
    frame[22:28], frame[28:32] = theirs, wanted
    assert answer(bytes(frame), wanted) == theirs
    assert answer(bytes(frame), bytes([192, 0, 2, 2])) is None
    assert answer(bytes(frame[:41]), wanted) is None


def test_nobody_is_asked_where_there_is_no_arp() -> None:
    async def play(_: Other) -> None:
        assert await probe("lo", "127.0.0.1") == ""
        with pytest.raises(OSError, match="No such device"):
            await probe("eth9", HERE)

    elsewhere(play)
