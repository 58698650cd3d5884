"""The worker's event loop: epoll, timers, and a door for other threads.

Not asyncio: the data path is a tight loop over few descriptors, and asyncio's transports and
tasks cost more than the work itself (testbed 5). A callback that raises ends the process: the
daemon sees the worker die, which is the safe side (protocol F16).
"""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from safepy.host.spinning import Spinning

Callback = Callable[[], None]


class Timer:
    """A call that is due later; `cancel` makes it never happen."""

    __slots__ = ("call", "due_s")

    def __init__(self, due_s: float, call: Callback) -> None:
        self.due_s = due_s
        self.call: Callback | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """One thread turns; `post` alone may be called from others.

    A turn is: wait for descriptors, run their callbacks, run due timers, run what was posted,
    then the turn's end callbacks (where buffered output is flushed as one piece).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._posted: deque[Callback] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: Held while a thread wakes the loop, so that the descriptor does not go meanwhile.
        self._waking = threading.Lock()
        self._turn_end: list[Callback] = []
        self._running = False
        self._spinning = Spinning()
        self._thread = threading.get_ident()
        self.add_reader(self._wake_fd, self._woken)

    @property
    def now_s(self) -> float:
        return time.monotonic()

    def add_reader(self, fd: int, call: Callback) -> None:
        self._set(fd, self._readers, call)

    def remove_reader(self, fd: int) -> None:
        self._set(fd, self._readers, None)

    def add_writer(self, fd: int, call: Callback) -> None:
        self._set(fd, self._writers, call)

    def remove_writer(self, fd: int) -> None:
        self._set(fd, self._writers, None)

    def call_later(self, delay_s: float, call: Callback) -> Timer:
        timer = Timer(time.monotonic() + delay_s, call)
        heapq.heappush(self._timers, (timer.due_s, next(self._numbers), timer))
        return timer

    def post(self, call: Callback) -> None:
        """Have `call` run in the loop's thread, soon. The only method for other threads."""
        self._posted.append(call)
        if threading.get_ident() == self._thread:
            return
        with self._waking:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def fail(self, bug: Exception) -> None:
        """Raise in the loop's thread what another thread did not expect."""

        def fail() -> None:
            raise bug

        self.post(fail)

    def at_turn_end(self, call: Callback) -> None:
        """Have `call` run at the end of every turn."""
        self._turn_end.append(call)

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Turn until `stop`."""
        self._thread = threading.get_ident()
        self._running = True
        while self._running:
            self.turn()

    def turn(self, timeout_s: float | None = None) -> None:
        """One turn; waits for something to happen, at most `timeout_s`."""
        for fd, mask in self._wait(self._wait_s(timeout_s)):
            # A callback may have removed a later one of the same batch.
            if mask & ~select.EPOLLOUT and (reader := self._readers.get(fd)):
                reader()
            if mask & ~select.EPOLLIN and (writer := self._writers.get(fd)):
                writer()
        self._run_timers()
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        for call in self._turn_end:
            call()

    def close(self) -> None:
        self._epoll.close()
        # A thread that ends later finds nobody to wake, not somebody else's descriptor.
        with self._waking:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _wait(self, wait_s: float | None) -> list[tuple[int, int]]:
        """What happened; waits at most `wait_s`, awake as long as `host/spinning.py` says."""
        poll, clock, spinning = self._epoll.poll, time.monotonic, self._spinning
        if wait_s == 0.0:
            return poll(0)
        now_s = begun_s = clock()
        limit_s = spinning.limit_s(now_s)
        if limit_s and (wait_s is None or wait_s > limit_s):
            while now_s - begun_s < limit_s:
                if (events := poll(0)) or self._posted:
                    spinning.found()
                    return events
                looked_s = clock()
                os.sched_yield()
                now_s = clock()
                if spinning.is_crowded(now_s - looked_s, now_s):
                    break
            else:
                spinning.looked_in_vain()
                return poll(wait_s)
        events = poll(wait_s)
        if events:
            spinning.slept(clock() - now_s)
        return events

    def _wait_s(self, timeout_s: float | None) -> float | None:
        if self._posted:
            return 0.0
        if not self._timers:
            return timeout_s
        wait_s = max(0.0, self._timers[0][0] - time.monotonic())
        return wait_s if timeout_s is None else min(wait_s, timeout_s)

    def _run_timers(self) -> None:
        if not self._timers:
            return
        now_s = time.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)

    def _set(self, fd: int, table: dict[int, Callback], call: Callback | None) -> None:
        before = self._mask(fd)
        if call is None:
            table.pop(fd, None)
        else:
            table[fd] = call
        after = self._mask(fd)
        if before == after:
            return
        if not after:
            self._epoll.unregister(fd)
        elif not before:
            self._epoll.register(fd, after)
        else:
            self._epoll.modify(fd, after)

    def _mask(self, fd: int) -> int:
        mask = select.EPOLLIN if fd in self._readers else 0
        return mask | (select.EPOLLOUT if fd in self._writers else 0)
