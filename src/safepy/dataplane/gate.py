"""May a modification be answered now? The one place that says so (protocol 4.0).

The daemon opens the gate in a mode and an epoch until a deadline, and renews it. The deadline is
on CLOCK_BOOTTIME, which goes on while the machine sleeps: a worker that was frozen finds the
gate closed when it wakes. This is the second defence; safety itself rests on epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from safepy.model import Gate

#: Asked for every operation, so without a function of ours around it.
boottime_s: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class GateKeeper:
    """`mode`, `epoch` and `deadline_s` (on `clock_s`) are for reading."""

    def __init__(self, clock_s: Callable[[], float] = boottime_s) -> None:
        self._clock_s = clock_s
        self.mode = Gate.CLOSED
        self.epoch = 0
        self.deadline_s = 0.0
        self._closed_to_new_epoch = -1

    def open(self, mode: Gate, epoch: int, deadline_s: float) -> bool:
        """Open or renew. False, and nothing changes, if a higher epoch was seen already."""
        if epoch < self.epoch:
            return False
        self.mode, self.epoch, self.deadline_s = mode, epoch, deadline_s
        return True

    def change_mode(self, mode: Gate, epoch: int) -> None:
        """The stream joined: another mode and epoch under the same deadline."""
        if self.mode is not Gate.CLOSED and epoch >= self.epoch:
            self.mode, self.epoch = mode, epoch

    def close(self) -> None:
        self.mode = Gate.CLOSED

    def close_to_new(self) -> None:
        """In this epoch, what was begun may still be answered, but nothing new begins: not even
        after a renewal that was on its way."""
        self._closed_to_new_epoch = self.epoch

    def may_answer(self, now_s: float | None = None) -> bool:
        if self.mode is Gate.CLOSED:
            return False
        return (self._clock_s() if now_s is None else now_s) < self.deadline_s

    def may_begin(self, now_s: float | None = None) -> bool:
        if self._closed_to_new_epoch == self.epoch or self.mode is Gate.CLOSED:
            return False
        return (self._clock_s() if now_s is None else now_s) < self.deadline_s
