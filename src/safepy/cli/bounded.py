"""A program that is run for its output, with a limit for its time and for what it prints."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CHUNK_BYTES = 64 * 1024
_END_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """What was printed, errors included; `exit_code` None: ended for its time or its output."""

    data: bytes
    exit_code: int | None


def output_of(
    words: Sequence[str], environment: Mapping[str, str], limit_s: float, bytes_max: int
) -> Output:
    """Run it in a session of its own; whatever of that is left at the limit is killed. One that not
    even a kill ends (it waits for a dead disk) is left alone. Raises OSError: it cannot be run."""
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            return _until_end(process, process.stdout.fileno(), limit_s, bytes_max)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)


def _until_end(
    process: subprocess.Popen[bytes], descriptor: int, limit_s: float, bytes_max: int
) -> Output:
    deadline = time.monotonic() + limit_s
    data = bytearray()
    while len(data) < bytes_max:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            return Output(bytes(data), None)
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            try:
                code = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:  # it closed its output and goes on
                return Output(bytes(data), None)
            return Output(bytes(data), code)
        data += chunk
    return Output(bytes(data[:bytes_max]), None)
