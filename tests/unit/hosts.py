"""Two hosts on one wire, made of network namespaces: the test's thread leaves for the first."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

_CLONE_NEWNET = 0x40000000
HERE, THERE = "192.0.2.1", "192.0.2.2"
HERE6, THERE6 = "2001:db8::1", "2001:db8::2"
VIP, VIP6 = "192.0.2.50", "2001:db8::50"


def run(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, timeout=20, text=True)
    return done.stdout


def ip(*words: str) -> str:
    return run("ip", *words)


def until(holds: Callable[[], object], limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.05)


async def later(holds: Callable[[], object], limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "not within the time"
        await asyncio.sleep(0.05)


class Other:
    """The host at the other end."""

    def __init__(self, pid: int) -> None:
        self._enter = ("nsenter", "-t", str(pid), "-n")

    def ip(self, *words: str) -> str:
        return run(*self._enter, "ip", *words)

    def python(self, program: str, *words: str) -> subprocess.Popen[str]:
        """A program there; whatever it prints is to be read in lines."""
        argv = [*self._enter, sys.executable, "-uc", program, *words]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def believe(self, address: str, mac: str) -> None:
        self.ip("neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "stale")

    def neighbour(self, address: str) -> str:
        """The hardware address that it believes `address` to have."""
        words = self.ip("neigh", "show", address).split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""


@contextmanager
def wire() -> Iterator[Other]:
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
        other.ip("link", "set", "lo", "up")
        other.ip("link", "set", "there", "name", "eth0")
        for host, address, address6 in ((ip, HERE, HERE6), (other.ip, THERE, THERE6)):
            host("addr", "add", f"{address}/24", "dev", "eth0")
            host("addr", "add", f"{address6}/64", "dev", "eth0", "nodad")
            host("link", "set", "eth0", "up")
        yield other
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


def on_two_hosts(play: Callable[[Other], Coroutine[Any, Any, None] | None]) -> None:
    """Run `play` in a thread on the first host (what it starts is there too), and raise what it
    raised."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            with wire() as other:
                work = play(other)
                if work is not None:
                    asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    for error in raised:
        raise error
