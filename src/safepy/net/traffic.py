"""What all replication streams of this process carried: for people, not for decisions."""

from __future__ import annotations

import threading


class Traffic:
    """Bytes as the kernel took and gave them, encrypted, since the start of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # transfers are threads
        self.sent_bytes = 0
        self.received_bytes = 0

    def sent(self, count: int) -> None:
        with self._lock:
            self.sent_bytes += count

    def received(self, count: int) -> None:
        with self._lock:
            self.received_bytes += count


TRAFFIC = Traffic()
