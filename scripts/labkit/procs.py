"""Commands, and processes recognised again by id and start time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class LabError(Exception):
    """Something the lab was asked to do did not work; the message is meant for a person."""


class CommandError(LabError):
    """A command ended with another code than 0."""

    def __init__(self, argv: tuple[str, ...], code: int, output: str) -> None:
        shown = " ".join(argv)
        super().__init__(f"`{shown}` ended with {code}: {output.strip()[-2000:]}")
        self.code = code
        self.output = output


def run(
    *argv: str,
    check: bool = True,
    stdin: str | bytes | None = None,
    timeout_s: float = 120.0,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output as text (undecodable bytes are kept)."""
    try:
        done = subprocess.run(
            argv,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout_s:g} s") from late
    text = subprocess.CompletedProcess(
        done.args,
        done.returncode,
        done.stdout.decode(errors="surrogateescape"),
        done.stderr.decode(errors="surrogateescape"),
    )
    if check and text.returncode != 0:
        raise CommandError(argv, text.returncode, text.stderr or text.stdout)
    return text


def wait_until(
    what: str, holds: Callable[[], object], at_most_s: float, every_s: float = 0.1
) -> float:
    """Wait until `holds()` is true; return the seconds it took. Raises `LabError` when late."""
    begun = time.monotonic()
    while True:
        if holds():
            return time.monotonic() - begun
        if time.monotonic() - begun > at_most_s:
            raise LabError(f"not within {at_most_s:g} s: {what}")
        time.sleep(every_s)


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same id by its start time (clock ticks)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        fields = _stat(pid)
        return cls(pid, int(fields[19])) if fields else None

    def alive(self) -> bool:
        fields = _stat(self.pid)
        return fields is not None and int(fields[19]) == self.started and fields[0] != "Z"

    def kill(self) -> None:
        """SIGKILL, unless it is gone already."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor pins the process: checked after it was opened, it is the right one.
            if self.alive():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def _stat(pid: int) -> list[str] | None:
    """Fields 3 and later of /proc/PID/stat (the name before them may hold anything)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
