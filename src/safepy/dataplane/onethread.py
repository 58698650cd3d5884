"""Blocking work beside the loop, one piece after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from safepy.errors import LocalFault
from safepy.host.loop import Loop

_Job = tuple[Callable[[], None], Callable[[], None]]


class OneThread:
    """A queue of jobs. `on_fault(reason)`: a job raised LocalFault; it was the last. `on_idle()`:
    nothing is left to do. Both, and what follows a job, run on the loop; there any other error of
    a job is raised, too: what waits for the job would wait for ever."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        on_fault: Callable[[str], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._on_fault = on_fault
        self._on_idle = on_idle
        self._pool = ThreadPoolExecutor(1, name)
        self._jobs: deque[_Job] = deque()
        self._running = self._closed = False

    @property
    def busy(self) -> bool:
        return self._running or bool(self._jobs)

    def queue(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        if not self._closed:
            self._jobs.append((work, then))
            self._next()

    def stop(self) -> None:
        """The job that runs is the last one, and nothing follows it."""
        self._closed = True
        self._jobs.clear()

    def join(self) -> None:
        """After `stop`: wait for that job, in any thread."""
        self._pool.shutdown(wait=True)

    def _next(self) -> None:
        if self._running or not self._jobs:
            return
        self._running = True
        work, then = self._jobs.popleft()

        def run() -> None:
            try:
                work()
            except LocalFault as fault:
                reason = str(fault)
                self._loop.post(lambda: self._failed(reason))
            except Exception as bug:  # noqa: BLE001 - it ends the process
                self._loop.fail(bug)
            else:
                self._loop.post(lambda: self._did(then))

        self._pool.submit(run)

    def _did(self, then: Callable[[], None]) -> None:
        self._running = False
        if self._closed:
            return
        then()
        self._next()
        if not self.busy:
            self._on_idle()

    def _failed(self, reason: str) -> None:
        if not self._closed:
            self._jobs.clear()
            self._closed = True
            self._on_fault(reason)
