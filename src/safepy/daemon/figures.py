"""The figures of the replication as resources: traffic, and the synchronisation that runs or ran
last (reference 12).

They change with every report of the worker, so they are written only now and then, and the history
gets no more than the figures at the end of a synchronisation.
"""

from __future__ import annotations

from collections import deque

from safepy.model import Progress
from safepy.storage.resources import Resources
from safepy.worker.messages import Alive

#: Bandwidths are means over this long (reference 12).
WINDOW_S = 3.0
#: A figure is written again after this long at the earliest.
WRITE_EVERY_S = 3.0


class Meter:
    """The rate of a counter that only grows; one that begins anew is another counter."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, total: int, now_s: float) -> float:
        """Units a second, over the last `WINDOW_S`."""
        samples = self._samples
        if samples and total < samples[-1][1]:
            samples.clear()
        samples.append((now_s, total))
        while len(samples) > 2 and samples[1][0] <= now_s - WINDOW_S:
            samples.popleft()
        began_s, before = samples[0]
        return (total - before) / (now_s - began_s) if now_s > began_s else 0.0


class Figures:
    """Of one module."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._net_in, self._net_out, self._replicated, self._copied = (Meter() for _ in range(4))
        self._last: Progress | None = None
        self._written_s = float("-inf")

    def heard(
        self, alive: Alive, progress: Progress | None, finished: Progress | None, now_s: float
    ) -> None:
        """A report of the worker, which says something each second: of a synchronisation that
        runs, of one that has come to its end."""
        copied = 0 if progress is None else progress.bytes_copied
        bandwidths = {
            "netin_bandwidth": self._net_in.rate(alive.net_in_bytes, now_s),
            "netout_bandwidth": self._net_out.rate(alive.net_out_bytes, now_s),
            "rep_bandwidth": self._replicated.rate(alive.replicated_bytes, now_s),
            "rei_bandwidth": self._copied.rate(copied, now_s),
        }
        broken_off = self._last if progress is None else None
        self._last = progress
        if (ended := finished or broken_off) is not None:
            self._synchronisation(ended, final=True)
        if now_s - self._written_s < WRITE_EVERY_S:
            return
        self._written_s = now_s
        for name, bytes_s in bandwidths.items():
            self._set(name, str(round(bytes_s / 1024)), "rfs", final=False)
        if progress is not None:
            self._synchronisation(progress, final=False)

    def begin(self) -> None:
        """What an earlier run of the daemon knew of the traffic is old."""
        for name in ("netin", "netout", "rep", "rei"):
            self._set(f"{name}_bandwidth", "0", "rfs", final=False)

    def last_rate_bytes_s(self) -> float:
        """How fast content travelled in the last synchronisation that told it; 0 if none did."""
        size = self._resources.get("rfs.rei_copy_size_metric") or ""
        time = self._resources.get("rfs.rei_copy_time_metric") or ""
        if not (size.isdecimal() and time.isdecimal() and int(time)):
            return 0.0
        return int(size) * 1024 / int(time)

    def _synchronisation(self, progress: Progress, final: bool) -> None:
        trees = f"{progress.trees_done} ({progress.trees_done}/{progress.trees_total})"
        for name, value in {
            "rei_syncdir_count_metric": trees,
            "rei_scan_count_metric": str(progress.files_done),
            "rei_scan_time_metric": str(round(progress.scan_s)),
            "rei_copy_count_metric": str(progress.files_copied),
            "rei_copy_size_metric": str(round(progress.bytes_copied / 1024)),
            "rei_copy_time_metric": str(round(progress.copy_s)),
            "rei_mode": progress.mode,
            "rei_reason": progress.reason,
        }.items():
            if value:
                self._set(name, value, "reintegre", final)

    def _set(self, name: str, value: str, who: str, final: bool) -> None:
        name = f"rfs.{name}"
        if final or self._resources.get(name) != value:
            self._resources.set(name, value, who, log=final)
