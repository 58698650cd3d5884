"""Where words go: the daemon's own log, and the lines of the modules.

The daemon writes to standard error with the `<N>` priority prefix that journald understands
(dependencies 4.3); under a terminal, without it. A module's lines go to its own log, and those of
the normal log also to the system log as `MODULE | ORIGIN | TEXT` (reference 15.1).

A thread writes: the loop that sends the heartbeats never waits for a journald that hangs. What does
not fit into its queue is dropped, counted and told.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import sys
import threading
from typing import TextIO

from safepy.model import Level
from safepy.storage.modulelog import NORMAL_LEVELS, ModuleLog

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_SYSTEM_LEVELS = {Level.CRITICAL: logging.WARNING}

system = logging.getLogger("safekit")


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        # Every line of a stack trace needs the prefix of its own.
        return "\n".join(prefix + line for line in text.splitlines())


_QUEUE_MAX = 10_000
#: The end of the process waits for its last words so long.
LAST_WORDS_S = 2.0


class Background(logging.Handler):
    """Hands lines to a thread that writes them to `stream`."""

    def __init__(self, stream: TextIO, queue_max: int = _QUEUE_MAX) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(queue_max)
        self._dropped = 0
        threading.Thread(target=self._work, name="system log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as logging.StreamHandler does
            self.handleError(record)

    def written(self, timeout_s: float) -> bool:
        """Wait until everything said before is written; False if it took too long."""
        done = threading.Event()
        try:
            self._lines.put(done, timeout=timeout_s)
        except queue.Full:
            return False
        return done.wait(timeout_s)

    def _work(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            # A stream that refuses (a full disk behind it) costs the line.
            with contextlib.suppress(OSError, ValueError):
                dropped, self._dropped = self._dropped, 0
                if dropped:
                    self._stream.write(f"<4>{dropped} lines of the system log were lost\n")
                self._stream.write(line + "\n")
                self._stream.flush()


def set_up(level: str) -> None:
    """Logging for this process, once. `level` is debug, info, warning or error."""
    handler = Background(sys.stderr)
    atexit.register(handler.written, LAST_WORDS_S)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    else:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Malformed requests from the network are no news, and their stack traces are long.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class Sparing:
    """Lines that could come thousands of times a second: of each key the first BURST are said, then
    one in REFILL_S. What was kept back is told with the next one that is said."""

    BURST = 20
    REFILL_S = 5.0
    #: Keys that were silent so long that all their lines may come again are forgotten.
    _KEYS_MAX = 10_000

    def __init__(self) -> None:
        #: By key: lines that may be said, at which time that was so, lines kept back since.
        self._left: dict[str, tuple[float, float, int]] = {}

    def say(self, key: str, text: str, now_s: float) -> str | None:
        """`text`, with the number of those that were kept back; None: keep this one back."""
        left, at_s, kept = self._left.get(key, (self.BURST, now_s, 0))
        left = min(self.BURST, left + (now_s - at_s) / self.REFILL_S)
        if left < 1.0:
            self._left[key] = (left, now_s, kept + 1)
            return None
        if len(self._left) >= self._KEYS_MAX:
            self._left.clear()
        self._left[key] = (left - 1.0, now_s, 0)
        return f"{text} (and {kept} changes before it that were too many to log)" if kept else text


class Voice:
    """Writes the lines of one module."""

    def __init__(self, module: str, log: ModuleLog) -> None:
        self._module = module
        self._log = log

    def say(self, origin: str, level: Level, text: str) -> None:
        self._log.write(origin, level, text)
        if level in NORMAL_LEVELS:
            system.log(
                _SYSTEM_LEVELS.get(level, logging.INFO), "%s | %s | %s", self._module, origin, text
            )

    def clear(self) -> None:
        """Forget all lines of the module's own log."""
        self._log.clear()

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        self._log.close()
