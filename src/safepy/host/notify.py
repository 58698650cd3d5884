"""Messages to the service manager: one datagram to `$NOTIFY_SOCKET` (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Says READY, STATUS, WATCHDOG and STOPPING; does nothing outside of a service."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        address = found.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        #: How often the manager wants to hear of us; None without a watchdog.
        self.watchdog_s = _watchdog_s(found)
        self.failed = 0

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows: one sentence."""
        self._send("STATUS=" + sentence.replace("\n", " "))

    def alive(self) -> None:
        """Answer the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as channel:
                channel.sendto(message.encode(), self._address)
        except OSError:
            # A manager that does not listen must not hurt the service; it will miss us itself.
            self.failed += 1


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The manager's limit, if it is meant for this process."""
    usec = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000
