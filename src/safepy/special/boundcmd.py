"""Run a command with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

from safepy.special.usage import WrongUsage

HELP = """
Usage: boundcmd SECONDS COMMAND [ARGUMENTS]

Runs COMMAND, and ends it with all that it started (SIGTERM, SIGKILL two seconds later) when it
still runs after SECONDS.

Exit code: that of the command; 2 when it ran out of time; 128 + N when signal N killed it; 126
when it cannot be run, 127 when there is none, 1 for wrong usage.

Example: boundcmd 30 mount /srv/share
"""
#: 2 says that the time was over.
USAGE_CODE = 1
TIMEOUT_CODE = 2
CANNOT_CODE, ABSENT_CODE = 126, 127
_GRACE_S = 2.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        raise WrongUsage("a time and a command are needed")
    try:
        limit_s = float(arguments[0])
    except ValueError:
        limit_s = -1.0
    if not 0 < limit_s < 10_000_000:
        raise WrongUsage(f"{arguments[0]!r} is no number of seconds")
    try:
        # A group of its own, so that its children end with it.
        child = subprocess.Popen(arguments[1:], process_group=0)
    except OSError as error:
        print(f"boundcmd: {arguments[1]}: {error.strerror}", file=sys.stderr)
        return ABSENT_CODE if isinstance(error, FileNotFoundError) else CANNOT_CODE

    def pass_on(number: int, _frame: FrameType | None) -> None:
        _signal(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    try:
        code = child.wait(limit_s)
    except subprocess.TimeoutExpired:
        _end(child)
        return TIMEOUT_CODE
    return code if code >= 0 else 128 - code


def _end(child: subprocess.Popen[bytes]) -> None:
    """Neither the command nor what it started in its group lives any more."""
    _signal(child, signal.SIGTERM)
    deadline_s = time.monotonic() + _GRACE_S
    while _group_lives(child) and time.monotonic() < deadline_s:
        child.poll()
        time.sleep(0.02)
    _signal(child, signal.SIGKILL)
    child.wait()


def _group_lives(child: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
