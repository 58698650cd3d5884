"""Tries to write through the public path of a directory, over and over, and notes how it went.

Three answers are possible: `served` (the replicated file system took the write), `bare` (the real
disk beneath took it) and `refused` (nobody did). Each change of the answer is a line
"answer node begun ended" with moments of the machine's monotonic clock, which all nodes of a lab
share; while it stays `served` or `bare`, each success is a line of its own.

Usage: acceptor.py DIRECTORY BARE-DIRECTORY NOTES   (the second lies on the bare file system)
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time

PAUSE_S = 0.025


def attempt(probe: str, device: int) -> str:
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError:
        return "refused"  # read-only, not connected, not there
    try:
        answer = "bare" if os.fstat(handle).st_dev == device else "served"
        os.pwrite(handle, f"{time.monotonic():.4f}\n".encode(), 0)
    except OSError as error:
        # The mount went away meanwhile. A full disk that is open for writing is open all the same.
        answer = "bare" if error.errno == errno.ENOSPC else "refused"
    with contextlib.suppress(OSError):
        os.close(handle)
    return answer


def main(directory: str, bare: str, notes: str) -> int:
    device = os.stat(bare).st_dev
    node = socket.gethostname()
    probe = os.path.join(directory, f".probe-{node}")
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    before = ""
    while True:
        begun = time.monotonic()
        answer = attempt(probe, device)
        if answer != before or answer != "refused":
            os.write(out, f"{answer} {node} {begun:.4f} {time.monotonic():.4f}\n".encode())
        before = answer
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
