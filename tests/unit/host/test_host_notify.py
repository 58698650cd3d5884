"""Messages to the service manager arrive on its socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from safepy.host.notify import Notifier


def test_messages(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        told = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000"})
        assert told.watchdog_s == 20.0
        told.ready()
        told.status("web PRIM Ready\nREADY=0")
        told.alive()
        told.stopping()
        heard = [manager.recv(1000) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=web PRIM Ready READY=0", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket() -> None:
    name = f"safepy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert manager.recv(100) == b"READY=1"


def test_outside_of_a_service_and_with_a_deaf_manager(tmp_path: Path) -> None:
    Notifier({}).ready()
    deaf = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")})
    deaf.ready()
    assert deaf.failed == 1


def test_a_watchdog_of_another_process() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "x"}).watchdog_s is None
