"""Where words go: the daemon's own log, and the lines of the modules.

The daemon writes to standard error with the `<N>` priority prefix that journald understands
(dependencies 4.3); under a terminal, without it. A module's lines go to its own log, and those of
the normal log also to the system log as `MODULE | ORIGIN | TEXT` (reference 15.1).
"""

from __future__ import annotations

import logging
import sys

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


def set_up(level: str) -> None:
    """Logging for this process, once. `level` is debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
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
