"""Requests that have not begun, so that a program that is being killed need not wait for them.

A program in a system call on the mount cannot die before its request is answered. While the gate
is closed that may be long, so a request that nobody has begun is taken back if its caller is
being killed. Any other signal takes nothing back: an fsync or a write that ends with EINTR is
more than programs expect of files.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path

from safepy.fuse.interfaces import Answer

_KILL_BIT = 1 << (signal.SIGKILL - 1)


def is_being_killed(pid: int) -> bool:
    """Whether SIGKILL, or another signal that ends it, waits for this thread."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:  # gone, or of another pid namespace (0)
        return False
    pending = [line.split()[1] for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(int(mask, 16) & _KILL_BIT for mask in pending)


class Waiting:
    """`withdraw(answer)` takes an operation back, or says False because it was begun."""

    def __init__(self, withdraw: Callable[[Answer], bool]) -> None:
        self._withdraw = withdraw
        self._requests: deque[tuple[int, int, Answer]] = deque()
        self._interrupted: dict[int, tuple[int, Answer]] = {}

    def add(self, unique: int, pid: int, answer: Answer, waiting: int) -> None:
        """A request waits, as one of `waiting` in order: what is older than those has begun."""
        self._requests.append((unique, pid, answer))
        while len(self._requests) > waiting:
            self._requests.popleft()

    def interrupt(self, interrupted: int) -> None:
        """The caller of this request got a signal. The kernel says so once, at the first."""
        for unique, pid, answer in self._requests:
            if unique == interrupted:
                self._interrupted[unique] = (pid, answer)
                self.end_killed()
                return

    def end_killed(self) -> None:
        """Look again: a signal that kills may have come after one that did not."""
        for unique, (pid, answer) in list(self._interrupted.items()):
            if is_being_killed(pid):
                self._withdraw(answer)
                del self._interrupted[unique]
        if not self._requests:
            self._interrupted.clear()
