"""How far a resynchronisation is, in all: the engine tells of one round, people want the whole."""

from __future__ import annotations

import threading
from dataclasses import replace

from safepy.dataplane.resync.source import RoundResult
from safepy.model import Progress


class Measure:
    """Of one attempt. `seen` may be called from any thread."""

    def __init__(self, trees: int, now_s: float) -> None:
        self.mode = self.reason = ""
        self._trees = trees
        self._lock = threading.Lock()
        #: Of the rounds that ended.
        self._whole = Progress(trees_total=trees)
        self._round_began_s = self._seen_s = now_s
        self._copied = 0
        #: Of the round that runs: how long content travelled.
        self._copy_s = 0.0

    def round_began(self, now_s: float) -> None:
        with self._lock:
            self._round_began_s = self._seen_s = now_s
            self._copied, self._copy_s = 0, 0.0

    def seen(self, progress: Progress, now_s: float) -> Progress:
        """What is told of the attempt. How far it is, is that of the round; what was copied, and
        how long it took, is that of all of them."""
        with self._lock:
            if progress.bytes_copied > self._copied:
                self._copy_s += now_s - self._seen_s
            self._copied, self._seen_s = progress.bytes_copied, now_s
            whole = self._whole
            return replace(
                progress,
                files_copied=whole.files_copied + progress.files_copied,
                bytes_copied=whole.bytes_copied + progress.bytes_copied,
                trees_done=whole.trees_done,
                trees_total=self._trees,
                scan_s=whole.scan_s + now_s - self._round_began_s,
                copy_s=whole.copy_s + self._copy_s,
                mode=self.mode,
                reason=self.reason,
            )

    def round_over(self, result: RoundResult) -> None:
        """The first round has looked at every directory; the later ones at what changed since."""
        with self._lock:
            copy_s = self._copy_s
            if result.bytes_copied and not copy_s:
                copy_s = result.seconds  # too short for a progress to be told of it
            whole = self._whole
            self._whole = replace(
                whole,
                files_done=whole.files_done + result.files,
                bytes_done=whole.bytes_done + result.bytes_compared,
                files_copied=whole.files_copied + result.files_copied,
                bytes_copied=whole.bytes_copied + result.bytes_copied,
                trees_done=self._trees,
                scan_s=whole.scan_s + result.seconds,
                copy_s=whole.copy_s + copy_s,
            )

    @property
    def whole(self) -> Progress:
        """What was done in all rounds: the last progress of an attempt."""
        return replace(self._whole, mode=self.mode, reason=self.reason)
