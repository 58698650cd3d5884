"""Running the scripts of a module (reference: modules-states-commands 10, protocol S14).

**Where the output goes.** The script gets the log file itself, opened for appending, as its
standard output and error; there is no pipe. What `start_prim` starts in the background keeps these
descriptors for its whole life, longer than a daemon may live: a pipe would kill it (SIGPIPE) or
break its output (EPIPE) when the daemon ends, and stop it when nobody drains. With a file nothing
of that can happen, and a flood never makes the script wait.

**How the log stays bounded.** A task looks at the file four times a second. Once the file is longer
than its limit, one line that says so is written there and everything after it is cut off; because
the script's descriptor appends, its next output lands after the cut and is cut again. Between two
looks the file may grow by what the disk takes in a quarter of a second. The task ends when nobody
can write any more: the description that the script inherits carries a shared lock (flock), which
the kernel gives up with its last holder. `adopt` takes up the files that applications still hold
after a restart of the daemon.

**What ends when.** A run ends when the script itself ends, not when the last holder of its output
does: what it leaves behind is the application. Only at the time limit (or when the run is
cancelled, or after the end of a resident program) everything that the run started is killed: its
process group, its session, and whatever left both but still carries the run's mark in its
environment.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from safepy.errors import ScriptError
from safepy.host import limits
from safepy.host.tasks import Tasks

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOOK_INTERVAL_S = 0.25
#: How long the kernel is given to end what was killed (a process can be stuck in a disk).
KILL_WAIT_S = 5.0

_MARK = "SAFEPY_RUN"
_MAX_LOG_NUMBER = 1000


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How a run ended. `exit_code` is None when the script was missing or died by a signal.

    `log_path` is the file that was really written (its name was made unique), or None; then
    `log_error` says why there is none although one was wanted. A full disk stops no script.
    """

    exit_code: int | None
    timed_out: bool = False
    #: What it took more of than it may, and was killed for.
    excess: str = ""
    signal: int | None = None
    missing: bool = False
    log_path: Path | None = None
    log_error: str = ""

    @property
    def ok(self) -> bool:
        return self.missing or (self.exit_code == 0 and not self.timed_out)

    def describe(self) -> str:
        """How it ended, in words for the module log."""
        if self.missing:
            return "there is no such script"
        if self.timed_out:
            return "time limit passed, killed with everything it had started"
        if self.excess:
            return f"it took more than {self.excess}, killed with everything it had started"
        if self.signal is not None:
            return f"killed by signal {self.signal} ({signal_name(self.signal)})"
        return f"exit code {self.exit_code}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def script_environment(
    documented: Mapping[str, str], variables: Sequence[tuple[str, str]], lang: str = "C.UTF-8"
) -> dict[str, str]:
    """The whole environment of a script: nothing else of the daemon's own gets in (S14).

    `documented` are SAFE, SAFEVAR, SAFEBIN, SAFEMODULE, SAFEUSERBIN, SAFEUSERCONF, SAFEUSERVAR
    (reference 3.2); the user's variables cannot replace them, but may replace PATH and LANG.
    """
    return {"PATH": DEFAULT_PATH, "LANG": lang, **dict(variables), **documented}


def log_name(script: str, when: datetime) -> str:
    """The file name of a run's log (reference 3.1)."""
    return f"userlog_{when:%Y-%m-%dT%H%M%S}_{script}.ulog"


class ScriptRunner:
    """Runs scripts, and keeps the logs bounded that their applications still write."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._bounds = limits.Bounds(tasks)

    async def run(
        self,
        script_path: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        timeout_s: float | None,
        log_path: Path | None,
        max_log_bytes: int,
        resident: bool = False,
    ) -> ScriptResult:
        """Run a script to its end or its time limit. `resident`: a program that is to run without
        end, within bounds (`limits`), and leaves nothing behind. What an earlier run of it wrote to
        the log stays; once it is half full, it is put aside as `NAME.old`.

        A missing script is no error. Raises ScriptError if it must not (S14) or cannot be run.
        """
        path = checked_script(script_path)
        if path is None:
            return ScriptResult(None, missing=True)
        if resident and log_path is not None:
            _put_aside(log_path, max_log_bytes // 2)
        log_fd, log_path, log_error = _open_log(log_path, script_path.name, resident)
        try:
            run_id = secrets.token_hex(16)
            process = await _spawn(path, arguments, {**environment, _MARK: run_id}, log_fd)
        finally:
            os.close(log_fd)
        (limits.confine if resident else limits.be_ordinary)(process.pid)
        if log_path is not None:
            self._keep_bounded(log_path, max_log_bytes)
        timed_out, excess = False, ""
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    if resident:
                        excess = await self._end_or_excess(process)
                    else:
                        await process.wait()
            except TimeoutError:
                timed_out = True
            if timed_out or resident:
                await _kill_run(process, run_id)
        except BaseException:
            await _kill_run(process, run_id)
            raise
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        return ScriptResult(
            exit_code=code if code >= 0 else None,
            timed_out=timed_out,
            excess=excess,
            signal=-code if code < 0 else None,
            log_path=log_path,
            log_error=log_error,
        )

    async def _end_or_excess(self, process: asyncio.subprocess.Process) -> str:
        """What it takes too much of; "": it has ended."""
        ended = asyncio.ensure_future(process.wait())
        excess = asyncio.ensure_future(self._bounds.exceeded(process.pid))
        try:
            await asyncio.wait((ended, excess), return_when=asyncio.FIRST_COMPLETED)
            return "" if ended.done() else excess.result()
        finally:
            ended.cancel()
            excess.cancel()

    @staticmethod
    def drop_old_logs(directory: Path, count_max: int, bytes_max: int, kept_min: int) -> int:
        """Remove the oldest script logs in `directory` beyond a number and a size in all; how many.
        The newest `kept_min` stay, and those that a process still writes."""
        logs = sorted(directory.glob("userlog_*.ulog"), reverse=True)
        total, dropped = 0, 0
        for index, path in enumerate(logs):
            with suppress(OSError):
                total += path.lstat().st_size
                beyond = index >= count_max or total > bytes_max
                if index < kept_min or not beyond or path.is_symlink() or _is_held(path):
                    continue
                path.unlink()
                dropped += 1
        return dropped

    def adopt(self, directory: Path, max_log_bytes: int) -> int:
        """Bound the script logs in `directory` that some process still holds; how many."""
        found = 0
        for path in directory.glob("userlog_*.ulog"):
            if not path.is_symlink() and _is_held(path):
                self._keep_bounded(path, max_log_bytes)
                found += 1
        return found

    def _keep_bounded(self, path: Path, max_log_bytes: int) -> None:
        self._tasks.start(f"log of {path.name}", _keep_bounded(path, max_log_bytes))


def checked_script(path: Path) -> Path | None:
    """The real path of a script that may be run, or None if there is none (S14).

    It and all folders above belong to root (or to who runs the daemon), and nobody else can write
    to them; a sticky folder such as /tmp is accepted, for nothing in it can be replaced by others.
    """
    if not os.path.lexists(path):
        return None
    try:
        real = path.resolve(strict=True)
        status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ScriptError(f"{path}: no file, so it cannot be run")
        if not status.st_mode & stat.S_IXUSR:
            raise ScriptError(f"{path}: not executable", "chmod 755, then configure the module")
        for each in (real, *real.parents):
            _check_owner(path, each)
    except OSError as exc:
        raise ScriptError(f"{path}: {exc.strerror}") from exc
    return real


def _check_owner(script: Path, path: Path) -> None:
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        text = f"{script}: is not run, because {path} belongs to user {status.st_uid}"
        raise ScriptError(text, "it has to belong to root")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    group_writes = status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid())
    if (status.st_mode & stat.S_IWOTH or group_writes) and not sticky:
        text = f"{script}: is not run, because others than root may write to {path}"
        raise ScriptError(text, f"chmod go-w {path}")


def _put_aside(path: Path, limit_bytes: int) -> None:
    with suppress(OSError):  # no such log, or no room: the bound holds all the same
        if path.lstat().st_size > limit_bytes:
            path.replace(path.with_name(f"{path.name}.old"))


def _open_log(path: Path | None, script: str, append: bool = False) -> tuple[int, Path | None, str]:
    """The descriptor for the output, the log's real path, and why there is no log."""
    if path is None:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), None, ""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    header = f"----------- {datetime.now():%Y-%m-%dT%H:%M:%S} {script}\n"
    fd = -1
    try:
        if append:
            fd = os.open(path, flags & ~os.O_EXCL, 0o640)
        else:
            fd, path = _create(path, flags)
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.write(fd, header.encode())
    except OSError as exc:
        if fd >= 0:  # made, but there is no room for its first line
            os.close(fd)
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), None, f"{path}: {exc.strerror}"
    return fd, path, ""


def _create(path: Path, flags: int) -> tuple[int, Path]:
    for candidate in _unique_names(path):
        with suppress(FileExistsError):
            return os.open(candidate, flags, 0o640), candidate
    raise FileExistsError(17, "too many logs of this second", str(path))


def _unique_names(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, _MAX_LOG_NUMBER):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


async def _spawn(
    path: Path, arguments: Sequence[str], environment: Mapping[str, str], output_fd: int
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            str(path),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output_fd,
            stderr=output_fd,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            close_fds=True,
            umask=0o022,
        )
    except OSError as exc:
        hint = "does it begin with #!/bin/sh?" if exc.errno == 8 else ""
        raise ScriptError(f"{path}: cannot be run: {exc.strerror}", hint) from exc


async def _kill_run(process: asyncio.subprocess.Process, run_id: str) -> None:
    """Nothing that the run started lives any more, unless the kernel cannot end it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KILL_WAIT_S
    while True:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # In a thread: reading /proc can wait for a process that is stuck in the kernel.
        members = await asyncio.to_thread(_members_of_run, process.pid, run_id)
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if (not members and process.returncode is not None) or loop.time() > deadline:
            return
        await asyncio.sleep(0.02)


def _members_of_run(session: int, run_id: str) -> list[int]:
    """Living processes of the run: in its session, or with its mark in their environment."""
    mark = f"{_MARK}={run_id}".encode()
    return [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and _belongs(Path("/proc", entry), session, mark)
    ]


def _belongs(process: Path, session: int, mark: bytes) -> bool:
    try:
        # pid (comm) state ppid pgrp session ...; comm may hold anything, also parentheses.
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return False
        return int(fields[3]) == session or mark in (process / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it has ended meanwhile, or is none of ours


async def _keep_bounded(path: Path, max_bytes: int) -> None:
    """Cut the log at its limit as long as somebody holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        notice = f"\n----------- more than {max_bytes} bytes: the rest is discarded\n".encode()
        while True:
            held = _is_held_fd(fd)
            _cut(fd, max_bytes, notice)
            if not held:
                return
            await asyncio.sleep(LOOK_INTERVAL_S)
    finally:
        os.close(fd)


def _cut(fd: int, max_bytes: int, notice: bytes) -> None:
    """If the file is over its limit: the notice at the limit, and nothing after it.

    This descriptor does not append, so the notice lands exactly there, over what is discarded.
    """
    size = os.fstat(fd).st_size
    if size <= max_bytes:
        return
    noticed = os.pread(fd, len(notice), max_bytes) == notice
    if noticed and size <= max_bytes + len(notice):
        return
    try:
        os.pwrite(fd, notice, max_bytes)
    except OSError:
        # No room even for this line (a sparse or compressed file): the bound itself matters more.
        os.ftruncate(fd, max_bytes)
    else:
        os.ftruncate(fd, max_bytes + len(notice))


def _is_held(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _is_held_fd(fd)
    finally:
        os.close(fd)


def _is_held_fd(fd: int) -> bool:
    """Whether a process still has the description that the script inherited."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
