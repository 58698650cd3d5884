"""A large directory, listed while names come and go.

SAFEPY_LARGE_DIRECTORY=1000000 makes the long form.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Served

from safepy.storage import syscalls
from safepy.storage.listing import _parse

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(3600)]

ENTRIES = int(os.environ.get("SAFEPY_LARGE_DIRECTORY", "30000"))
#: Short names in 32 KiB.
MOST_AT_ONCE = 1400

#: Makes and removes names until it is ended: none of those that stay.
CHURN = """
import itertools, os, sys
os.chdir(sys.argv[1])
for number in itertools.count():
    open(f"new{number}", "x").close()
    if number >= 50:
        os.unlink(f"new{number - 50}")
    os.rename(f"goes{number % 1000}", f"goes{number % 1000}x")
    os.rename(f"goes{number % 1000}x", f"goes{number % 1000}")
    if number == 60:
        print("churning", flush=True)
"""


def fill(folder: Path, count: int) -> None:
    at = os.open(folder, os.O_RDONLY)
    for number in range(count):
        os.mknod(f"stays{number}", dir_fd=at)
    for number in range(1000):
        os.mknod(f"goes{number}", dir_fd=at)
    os.close(at)


def test_what_stays_is_listed_exactly_once_while_other_names_come_and_go(covered: Served) -> None:
    fill(covered.door, ENTRIES)
    covered.start()
    assert covered.process
    status = Path(f"/proc/{covered.process.pid}/statm")
    before = int(status.read_text().split()[1])
    assert sum(1 for _ in os.scandir(covered.directory)) == ENTRIES + 1000
    grown_bytes = (int(status.read_text().split()[1]) - before) * resource.getpagesize()
    assert grown_bytes < ENTRIES * 100, "somebody keeps a picture of all names"
    churn = subprocess.Popen(
        [sys.executable, "-c", CHURN, str(covered.directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert churn.stdout and churn.stdout.readline() == "churning\n"
        seen = bytearray(ENTRIES)
        others: set[str] = set()
        with os.scandir(covered.directory) as entries:
            for entry in entries:
                if entry.name.startswith("stays"):
                    seen[int(entry.name[5:])] += 1
                elif not entry.name.startswith("goes"):  # renamed, it may be met again
                    assert entry.name not in others
                    others.add(entry.name)
        assert seen == b"\1" * ENTRIES
        assert churn.poll() is None
    finally:
        churn.kill()
        churn.wait()


def test_a_request_is_answered_with_some_hundred_names_at_most(covered: Served) -> None:
    """Whatever room its caller has: other requests wait meanwhile."""
    fill(covered.door, 5000)
    covered.start()
    buffer = ctypes.create_string_buffer(1 << 20)
    fd = os.open(covered.directory, os.O_RDONLY)
    counts = []
    while records := syscalls.getdents(fd, buffer):
        counts.append(len(_parse(records)))
    os.close(fd)
    assert sum(counts) == 6002
    assert max(counts) <= MOST_AT_ONCE


def test_a_position_told_before_is_gone_back_to(root: Path) -> None:
    """telldir and seekdir, also after the names around it are gone."""
    for number in range(2000):
        os.mknod(root / f"n{number}")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(root)))
    assert stream.value

    def read() -> bytes | None:
        record = libc.readdir(stream)
        return ctypes.string_at(record + 19) if record else None

    told = []
    for _ in itertools.count():
        position = libc.telldir(stream)
        name = read()
        if name is None:
            break
        told.append((position, name))
    assert len(told) == 2002
    for index in (1500, 3, 900, 0):
        libc.seekdir(stream, ctypes.c_long(told[index][0]))
        assert read() == told[index][1]
    gone = [name for _, name in told[1001:1500] if name not in (b".", b"..")]
    for name in gone:
        os.unlink(os.fsencode(root) + b"/" + name)
    libc.seekdir(stream, ctypes.c_long(told[1000][0]))
    assert read() == told[1000][1]
    libc.seekdir(stream, ctypes.c_long(told[1500][0]))
    assert read() == told[1500][1]
    libc.closedir(stream)
