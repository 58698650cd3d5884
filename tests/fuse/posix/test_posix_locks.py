"""flock, fcntl and open file description locks, leases."""

from __future__ import annotations

import fcntl
import os
import struct
import time

from cases import file, on_both, opened, tried

GETLK, SETLK = fcntl.F_GETLK, fcntl.F_SETLK
OFD_GETLK, OFD_SETLK = 36, 37


def lock(fd: int, kind: int, start: int, length: int, command: int = SETLK) -> str:
    raw = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    try:
        answer = fcntl.fcntl(fd, command, raw)
    except OSError as error:
        return error.strerror or "?"
    found = struct.unpack("hhqqi4x", answer)
    return str(found[:4]) if command in (GETLK, OFD_GETLK) else "ok"


def other(work: object) -> object:
    """What another process gets from `work`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(work()).encode())  # type: ignore[operator]
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        return said.read()


@on_both
def test_flock() -> object:
    file("f")
    one, two = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    results = []
    for first in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        for second in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            fcntl.flock(one, first)
            results.append(tried(fcntl.flock, two, second | fcntl.LOCK_NB))
            results.append(other(lambda second=second: tried(fcntl.flock, two, second | 4)))
            fcntl.flock(one, fcntl.LOCK_UN)
            fcntl.flock(two, fcntl.LOCK_UN)
    fcntl.flock(one, fcntl.LOCK_EX)
    copy = os.dup(one)
    os.close(one)
    results.append(tried(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(copy)
    results.append(tried(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB))
    return results


@on_both
def test_record_locks_between_processes() -> object:
    file("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    results: list[object] = [lock(fd, fcntl.F_WRLCK, 10, 10), lock(fd, fcntl.F_RDLCK, 50, 10)]

    def ask() -> list[str]:
        mine = os.open("f", os.O_RDWR)
        return [
            lock(mine, kind, start, length, command)
            for command in (GETLK, SETLK)
            for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)
            for start, length in ((0, 10), (15, 1), (0, 0), (55, 1), (60, 0))
        ]

    results.append(other(ask))
    results.append(lock(fd, fcntl.F_UNLCK, 12, 3))
    results.append(other(lambda: lock(os.open("f", os.O_RDWR), fcntl.F_WRLCK, 12, 3)))
    # Closing any descriptor of the file gives all of the process's locks back.
    os.close(os.open("f", os.O_RDONLY))
    results.append(other(ask))
    return results


@on_both
def test_open_file_description_locks() -> object:
    file("f")
    one, two = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
    results = [
        lock(one, fcntl.F_WRLCK, 0, 10, OFD_SETLK),
        lock(two, fcntl.F_WRLCK, 5, 1, OFD_SETLK),
        lock(two, fcntl.F_WRLCK, 5, 1, OFD_GETLK),
        lock(two, fcntl.F_WRLCK, 10, 1, OFD_SETLK),
        lock(two, fcntl.F_WRLCK, 5, 1, SETLK),
    ]
    os.close(os.open("f", os.O_RDONLY))
    results.append(lock(two, fcntl.F_WRLCK, 5, 1, OFD_SETLK))
    os.close(one)
    results.append(lock(two, fcntl.F_WRLCK, 5, 1, OFD_SETLK))
    return results


@on_both
def test_rights_a_lock_needs() -> object:
    file("f")
    results = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH):
        fd = os.open("f", flags)
        for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            results.append((flags, kind, lock(fd, kind, 0, 1)))
        results.append(tried(fcntl.flock, fd, fcntl.LOCK_EX))
        os.close(fd)
    return results


@on_both
def test_a_dead_process_holds_no_lock() -> object:
    file("f")
    fd = os.open("f", os.O_RDWR)
    other(lambda: lock(os.open("f", os.O_RDWR), fcntl.F_WRLCK, 0, 0))
    other(lambda: fcntl.flock(os.open("f", os.O_RDWR), fcntl.LOCK_EX))
    return lock(fd, fcntl.F_WRLCK, 0, 0), tried(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@on_both
def test_waiting_for_a_lock() -> object:
    file("f")
    fd = os.open("f", os.O_RDWR)
    lock(fd, fcntl.F_WRLCK, 0, 0)
    child = os.fork()
    if child == 0:
        mine = os.open("f", os.O_RDWR)
        raw = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(mine, fcntl.F_SETLKW, raw)
        os.write(mine, b"got it")
        os._exit(7)
    time.sleep(0.1)
    before = os.pread(fd, 9, 0)
    lock(fd, fcntl.F_UNLCK, 0, 0)
    return before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.pread(fd, 9, 0)


@on_both
def test_two_that_wait_for_each_other() -> object:
    file("f")
    fd = os.open("f", os.O_RDWR)
    lock(fd, fcntl.F_WRLCK, 0, 1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        mine = os.open("f", os.O_RDWR)
        lock(mine, fcntl.F_WRLCK, 1, 1)
        os.write(writer, b"1")
        raw = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        fcntl.fcntl(mine, fcntl.F_SETLKW, raw)
        os._exit(0)
    os.read(reader, 1)
    time.sleep(0.1)
    raw = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1, 1, 0)
    outcome = tried(fcntl.fcntl, fd, fcntl.F_SETLKW, raw)
    lock(fd, fcntl.F_UNLCK, 0, 0)
    os.waitpid(child, 0)
    return outcome


@on_both
def test_a_locked_file_can_be_renamed_and_removed() -> object:
    file("f")
    fd = os.open("f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename("f", "g")
    again = os.open("g", os.O_RDWR)
    moved = tried(fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.unlink("g")
    file("g")
    return moved, tried(fcntl.flock, os.open("g", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)


@on_both
def test_flags_of_descriptors() -> object:
    file("f", b"x")
    fd = os.open("f", os.O_RDWR)
    results = []
    for flags in (os.O_APPEND, os.O_NONBLOCK, os.O_APPEND | os.O_NONBLOCK, 0):
        results.append(tried(fcntl.fcntl, fd, fcntl.F_SETFL, flags))
        results.append(fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK))
    return results, opened("f", os.O_RDONLY)
