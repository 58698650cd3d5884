"""The bandwidth of a resynchronisation (`reiallowedbw`): one rate for all its transfers."""

from __future__ import annotations

import threading
import time

#: A waiting transfer looks so often whether it is still wanted.
_LOOK_S = 0.25
#: What may be sent at once after a pause.
_BURST_S = 0.05


class Pace:
    """Bytes go out at `bytes_s` in all (0: as fast as they can). Thread-safe."""

    def __init__(self, bytes_s: int = 0) -> None:
        self._bytes_s = bytes_s
        self._free_s = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def wait(self, size: int) -> None:
        """Wait until so many bytes may be sent. The first one may at once, the next ones after
        the time that it takes at this rate."""
        if not self._bytes_s:
            return
        with self._lock:
            now_s = time.monotonic()
            start_s = max(self._free_s, now_s - _BURST_S)
            self._free_s = start_s + size / self._bytes_s
        while (left_s := start_s - time.monotonic()) > 0:
            if self._stopped.wait(min(left_s, _LOOK_S)):
                return

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopped.set()
