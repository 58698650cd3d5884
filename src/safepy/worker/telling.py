"""The progress of a resynchronisation in the module log, on both nodes: now and then a line."""

from __future__ import annotations

from collections.abc import Callable

from safepy.core.words import progress_text, size
from safepy.model import Progress

#: The first line comes after this, then one at each such interval: a short synchronisation is
#: told by its end alone.
LINE_INTERVAL_S = 10.0


class ProgressLog:
    """One for each resynchronisation. `log` takes a level and a text."""

    def __init__(self, log: Callable[[str, str], None], now_s: float) -> None:
        self._log = log
        self._line_at_s = now_s + LINE_INTERVAL_S

    def began(self, paths: list[str]) -> None:
        for path in paths:
            self._log("E", f"Updating directory tree from {path}")

    def seen(self, progress: Progress, now_s: float) -> None:
        if now_s >= self._line_at_s:
            self._line_at_s = now_s + LINE_INTERVAL_S
            self._log("E", f"Synchronisation, {progress_text(progress)}")

    def copied(self, files: int, files_copied: int, bytes_copied: int, seconds: float) -> None:
        self._log(
            "E",
            f"Copied {files_copied} files of {files}, {size(bytes_copied)} in {seconds:.1f} s",
        )
