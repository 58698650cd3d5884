"""The daemon's end of a worker process: start it, speak with it, notice its death (F16, F35b).

The worker gets one end of a SOCK_SEQPACKET socket pair as descriptor 3 and nothing else of ours.
When this process dies the other end sees EOF and the worker ends itself; a worker that outlived an
earlier daemon all the same (frozen) is killed before a new one starts, by the pid and start
time noted in the module's state folder (F16b).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence

from safepy.errors import LocalFault
from safepy.host.clock import until_next
from safepy.storage.private import private_opener
from safepy.worker import messages

CONTROL_FD = 3
MESSAGE_BYTES_MAX = 64 * 1024
#: Reports `Alive` come once a second: less patience than this would kill healthy workers.
SILENCE_S_MIN = 2.5
#: Until its first word: it serves nothing yet, and on a busy machine an interpreter takes its time.
FIRST_WORD_S = 30.0
_WATCH_EVERY_S = 0.25
_ORDERS_MAX = 1_000
_OLD_WORKER_LIMIT_S = 5.0
_KILL_LIMIT_S = 1.0
_EOF_GRACE_S = 0.2

log = logging.getLogger(__name__)


class WorkerHandle:
    """One running worker.

    `on_report` gets everything it says; `on_death` is called once, with a reason, when it ends by
    whatever way (the owner knows whether that was wanted). `silence_s`: how long it may say
    nothing before it is killed.
    """

    def __init__(
        self,
        module: str,
        pid_path: str,
        silence_s: float,
        on_report: Callable[[messages.Report], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._module = module
        self._pid_path = pid_path
        self._silence_s = max(silence_s, SILENCE_S_MIN)
        self._on_report = on_report
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self._reason = ""
        self._silent_s = 0.0
        self._spoke = False
        self._watch: asyncio.TimerHandle | None = None
        self._sock: socket.socket
        self._pid_fd = -1
        self.pid = 0

    @classmethod
    async def start(
        cls,
        module: str,
        pid_path: str,
        silence_s: float,
        on_report: Callable[[messages.Report], None],
        on_death: Callable[[str], None],
        argv: Sequence[str] = (sys.executable, "-m", "safepy.worker"),
    ) -> WorkerHandle:
        """Raises LocalFault when the process cannot be started or an old one does not die."""
        await end_old_worker(pid_path)
        handle = cls(module, pid_path, silence_s, on_report, on_death)
        handle._spawn(argv)
        return handle

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def send(self, order: messages.Order) -> bool:
        """Queue an order; orders arrive in the order of these calls. False: nobody is there."""
        if not self.alive:
            return False
        self._waiting.append(messages.encode(order))
        if len(self._waiting) > _ORDERS_MAX:
            self.kill("it takes no orders")
        else:
            self._flush()
        return True

    def kill(self, reason: str) -> None:
        """SIGKILL; `on_death` follows with `reason`, at the latest after a second: a process
        that hangs in the kernel with SIGKILL pending never answers anything again."""
        if self.alive and not self._reason:
            self._reason = reason
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pid_fd, signal.SIGKILL)
            self._loop.call_later(_KILL_LIMIT_S, self._gone, "it hangs in the kernel")

    async def ended(self, timeout_s: float) -> bool:
        """Wait for its end; False if it still runs after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def _spawn(self, argv: Sequence[str]) -> None:
        try:
            self._sock, self.pid, self._pid_fd = _started(argv)
        except OSError as error:
            raise LocalFault(f"the worker cannot be started: {error}") from error
        _note_pid(self._pid_path, self.pid)
        self._loop.add_reader(self._sock, self._readable)
        self._loop.add_reader(self._pid_fd, self._died)
        self._watch_later()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._sock.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                # It is dying; its pidfd says so in a moment.
                self._waiting.clear()
                break
            self._waiting.popleft()
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # EOF: it is dying, or of no use any more.
            self._loop.remove_reader(self._sock)
            self._loop.call_later(_EOF_GRACE_S, self.kill, "it closed its control socket")
            return
        try:
            report = messages.REPORT.decode(data)
        except messages.UNREADABLE as error:
            self.kill(f"it said what cannot be understood: {error}")
            return
        self._silent_s = 0.0
        self._spoke = True
        self._on_report(report)

    def _watch_silence(self) -> None:
        """Counts turns of this loop, not time: while this process itself is frozen (F35),
        nothing is held against the worker."""
        self._silent_s += _WATCH_EVERY_S
        limit_s = self._silence_s if self._spoke else max(self._silence_s, FIRST_WORD_S)
        if self._silent_s >= limit_s:
            self.kill(f"it was silent for {self._silent_s:.1f} s")
        self._watch_later()

    def _watch_later(self) -> None:
        delay_s = until_next(_WATCH_EVERY_S, self._loop.time())
        self._watch = self._loop.call_later(delay_s, self._watch_silence)

    def _died(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._loop.remove_reader(self._pid_fd)
        os.close(self._pid_fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_path)
        self._gone(_ending(status))

    def _gone(self, how: str) -> None:
        """It will never act again: say so, once."""
        if not self.alive:
            return
        self._drain()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if self._watch is not None:
            self._watch.cancel()
        self._ended.set()
        self._on_death(f"{self._reason}; {how}" if self._reason else how)

    def _drain(self) -> None:
        """What it said before it died is heard before its death is."""
        with contextlib.suppress(OSError):
            while data := self._sock.recv(MESSAGE_BYTES_MAX):
                try:
                    self._on_report(messages.REPORT.decode(data))
                except messages.UNREADABLE as error:
                    self._reason = self._reason or f"it said what cannot be understood: {error}"
                    return


def _started(argv: Sequence[str]) -> tuple[socket.socket, int, int]:
    """Our end of a new worker's control socket, its pid and its pidfd. Raises OSError; then
    nothing of it is left, neither a process nor a descriptor."""
    ours, theirs = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        with theirs:
            theirs.setblocking(True)
            # posix_spawn instead of fork: this process has threads. Our own descriptors are
            # close-on-exec; dup2 takes that mark off the one that is handed over.
            actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_FD)]
            actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable_fds()]
            pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions, setpgroup=0)
        return ours, pid, _watched(pid)
    except OSError:
        ours.close()
        raise


def _watched(pid: int) -> int:
    """The pidfd of a child of ours, which ends if there is none to be had: nobody would notice its
    death, nor be able to cause it."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        # Not waited for yet: nobody else can have got this pid.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _inheritable_fds() -> list[int]:
    """What whoever started this process left open for its children."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        with contextlib.suppress(OSError):  # the one that listed the folder
            if fd > CONTROL_FD and os.get_inheritable(fd):
                found.append(fd)
    return found


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {each.value: each.name for each in signal.Signals}  # most real-time ones have none
        return f"ended by {names.get(number, f'signal {number}')}"
    return f"ended with code {os.WEXITSTATUS(status)}"


def _note_pid(path: str, pid: int) -> None:
    """For a later daemon: who the worker is. Best effort: without the note the worker still ends
    by itself."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w", encoding="ascii", opener=private_opener) as file:
            file.write(f"{pid} {_start_time(pid)}\n")
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)


def _start_time(pid: int) -> str:
    """The kernel's start time: a pid is an identity only together with it. "" for a zombie."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _noted_pid(path: str) -> tuple[int, str]:
    with open(path, encoding="ascii") as file:
        number, start = file.read().split()
    return int(number), start


async def end_old_worker(pid_path: str) -> None:
    """No worker noted at `pid_path` lives. Raises LocalFault if it does not die."""
    try:
        pid, start = _noted_pid(pid_path)
        pid_fd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        if _is_alive(pid, start):
            log.warning("killing worker %d that outlived its daemon", pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pid_fd, signal.SIGKILL)
            if not await _readable_within(pid_fd, _OLD_WORKER_LIMIT_S):
                raise LocalFault(f"worker {pid} of an earlier daemon does not die")
    finally:
        os.close(pid_fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pid_path)


def _is_alive(pid: int, start: str) -> bool:
    try:
        return _start_time(pid) == start
    except OSError:
        return False


async def _readable_within(fd: int, limit_s: float) -> bool:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(limit_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True
