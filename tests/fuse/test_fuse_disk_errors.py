"""A disk that fails under the data path, by a seam in front of its calls in one real worker."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_pair import Job, Pair, pair_up

from safepy.worker import messages

pytestmark = pytest.mark.kernel

#: Reads of the real file "bad" end with EIO.
UNREADABLE = """
import errno
import safepy.dataplane.reading as reading

class Disk:
    def __getattr__(self, name):
        return getattr(os, name)

    def pread(self, fd, size, offset):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/bad"):
            raise OSError(errno.EIO, "Input/output error")
        return os.pread(fd, size, offset)

reading.os = Disk()
"""


def cool(*paths: Path | str) -> None:
    """Nothing of these files is in memory."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def told(text: str) -> Callable[[messages.Report], bool]:
    return lambda r: isinstance(r, messages.Log) and text in r.text


def test_f45_what_the_disk_refuses_is_read_from_the_secondary(pair: Pair) -> None:
    a, b = pair.worker("a", prelude=UNREADABLE), pair.worker("b")
    pair_up(a, b)
    content = os.urandom(300_000)
    bad = a.public / "bad"
    read: list[bytes] = []
    Job(lambda: bad.write_bytes(content)).finish(a, b)

    def refused() -> list[messages.Log]:
        return [r for r in a.reports if isinstance(r, messages.Log) and "refuses" in r.text]

    def read_until(enough: Callable[[], bool]) -> None:
        """The kernel may keep a file in memory however it is asked not to."""
        until_s = time.monotonic() + 30
        while not enough():
            assert time.monotonic() < until_s, f"refused only {len(refused())} times"
            Job(lambda: cool(bad, f"{a.door}/bad")).finish(a, b)
            Job(lambda: read.append(bad.read_bytes())).finish(a, b)
            assert read.pop() == content
            a.pump(0.01)

    read_until(lambda: bool(refused()))
    assert refused()[0].level == "C" and "bad" in refused()[0].text
    # So often is no accident any more: the disk is not trusted (F43).
    read_until(lambda: any(isinstance(r, messages.DiskFault) for r in a.reports))
    fault = a.wait(lambda r: isinstance(r, messages.DiskFault))
    assert isinstance(fault, messages.DiskFault) and "refused" in fault.reason


def test_without_a_secondary_the_error_is_the_applications(pair: Pair) -> None:
    a = pair.worker("a", prelude=UNREADABLE)
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    bad = a.public / "bad"
    Job(lambda: bad.write_bytes(b"x" * 300_000)).finish(a)
    error: OSError | None = None
    until_s = time.monotonic() + 20
    while error is None:
        assert time.monotonic() < until_s, "the file stays in memory"
        Job(lambda: cool(bad, f"{a.door}/bad")).finish(a)
        job = Job(bad.read_bytes)
        try:
            job.finish(a)
        except OSError as raised:
            error = raised
    assert error.errno == errno.EIO
    a.wait(told("refuses to read"))
