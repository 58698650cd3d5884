"""Signals to processes that were found by name: never to another one that got the same pid
meanwhile, never to what keeps this host or this product alive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Sequence

from safepy.host.processes import Process, family, look

INIT_PID = 1
#: What `terminate` gives a process to end by itself.
GRACE_S = 5.0
#: How long the kernel is given to end what was killed.
KILL_WAIT_S = 2.0
_POLL_S = 0.05


def spared(caller: int, daemon: int, processes: Sequence[Process]) -> frozenset[int]:
    """The pids that nothing here signals: init, the daemon and its direct children (workers,
    module scripts, checkers), and `caller` with all that it was called from: the script that
    asks to kill every `sh` is one."""
    children = {each.pid for each in processes if daemon and each.parent == daemon}
    return frozenset({0, INIT_PID, daemon, os.getpid(), *children, *family(caller, processes)})


def send(process: Process, number: int) -> bool:
    """Whether this very process lived and has got the signal. Raises PermissionError."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        now = look(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def terminate(processes: Collection[Process], grace_s: float = GRACE_S) -> list[Process]:
    """Ask each to end, and kill what has not after `grace_s`. Returns those that still live (the
    kernel cannot end them yet). Blocks. Raises PermissionError."""
    for process in processes:
        send(process, signal.SIGTERM)
    left = _ended(processes, grace_s)
    for process in left:
        send(process, signal.SIGKILL)
    return _ended(left, KILL_WAIT_S) if left else []


def kill(processes: Collection[Process]) -> list[Process]:
    """As `terminate`, without asking first."""
    for process in processes:
        send(process, signal.SIGKILL)
    return _ended(processes, KILL_WAIT_S)


def _ended(processes: Collection[Process], wait_s: float) -> list[Process]:
    """Those that live still after `wait_s` at most. A zombie does not."""
    deadline_s = time.monotonic() + wait_s
    while True:
        left = [each for each in processes if _lives(each)]
        if not left or time.monotonic() >= deadline_s:
            return left
        time.sleep(_POLL_S)


def _lives(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.started == process.started
