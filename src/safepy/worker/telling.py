"""The progress of a resynchronisation in the module log, on both nodes: now and then a line."""

from __future__ import annotations

import threading
from collections.abc import Callable

from safepy.core.words import progress_text, size
from safepy.dataplane.resync.tree import Path, shown
from safepy.host.loop import Loop
from safepy.model import Progress

#: The first line comes after this, then one at each such interval: a short synchronisation is
#: told by its end alone.
LINE_INTERVAL_S = 10.0


#: Names a second in the log; more are counted.
DETAIL_NAMES_MAX = 200
DETAIL_INTERVAL_S = 1.0


class Detail:
    """`reidetail`: names the files that are copied. `log` takes a level and a text; `paths` are
    those of the directories, as the application sees them."""

    def __init__(self, loop: Loop, log: Callable[[str, str], None], paths: list[str]) -> None:
        self._loop = loop
        self._log = log
        self._paths = paths
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._more = 0

    def copied(self, tree: int, path: Path) -> None:
        """From any thread."""
        with self._lock:
            first = not self._names
            if len(self._names) < DETAIL_NAMES_MAX:
                self._names.append(f"{self._paths[tree]}/{shown(path)}")
            else:
                self._more += 1
        if first:
            self._loop.post(self._tell_soon)

    def _tell_soon(self) -> None:
        self._loop.call_later(DETAIL_INTERVAL_S, self._tell)

    def _tell(self) -> None:
        with self._lock:
            names, self._names = self._names, []
            more, self._more = self._more, 0
        for name in names:
            self._log("I", f"Copied {name}")
        if more:
            self._log("I", f"Copied {more} more files")


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
            self._log("E", f"{progress.bytes_copied >> 20}MB copied")  # in the reference's words
            self._log("E", f"Synchronisation, {progress_text(progress)}")

    def copied(self, files: int, files_copied: int, bytes_copied: int, seconds: float) -> None:
        self._log(
            "E",
            f"Copied {files_copied} files of {files}, {size(bytes_copied)} in {seconds:.1f} s",
        )
