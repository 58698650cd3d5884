"""copy_file_range, sendfile, splice."""

from __future__ import annotations

import os

from cases import effect, file, folder, on_both, tried


def copy(source: int, target: int, count: int, start: int, at: int) -> int:
    done = 0
    while done < count:
        step = os.copy_file_range(source, target, count - done, start + done, at + done)
        if step == 0:
            break
        done += step
    return done


@on_both
def test_ranges() -> object:
    file("a", bytes(range(256)) * 1000)
    source = os.open("a", os.O_RDONLY)
    results = []
    for count, start, at in (
        (256_000, 0, 0),
        (5000, 100, 7),
        (5000, 255_000, 10_000),
        (10, 300_000, 0),
        (0, 0, 0),
        (1, 0, 1 << 22),
    ):
        target = os.open("b", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        done = copy(source, target, count, start, at)
        results.append((count, done, os.fstat(target).st_size, os.pread(target, 20, at)))
        os.close(target)
    return results


@on_both
def test_within_one_file() -> object:
    file("f", b"0123456789" * 1000)
    fd = os.open("f", os.O_RDWR)
    return [
        tried(os.copy_file_range, fd, fd, 100, 0, 50),
        tried(os.copy_file_range, fd, fd, 100, 0, 0),
        copy(fd, fd, 5000, 0, 9000),
        copy(fd, fd, 100, 0, 200),
        os.pread(fd, 20_000, 0),
    ]


@on_both
def test_descriptors() -> object:
    file("f", b"x" * 100)
    folder("d")
    fds = {
        "read": os.open("f", os.O_RDONLY),
        "write": os.open("g", os.O_WRONLY | os.O_CREAT),
        "append": os.open("h", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        "dir": os.open("d", os.O_RDONLY),
        "path": os.open("f", os.O_PATH),
    }
    return {
        f"{a}-{b}": tried(os.copy_file_range, fds[a], fds[b], 10, 0, 0) for a in fds for b in fds
    }


@on_both
def test_what_it_stamps() -> object:
    file("a", b"x" * 10_000)
    file("b", b"y")
    source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR)
    return effect(copy, source, target, 10_000, 0, 0, watch=["b", "."])


@on_both
def test_sendfile_and_splice() -> object:
    file("a", b"0123456789" * 2000)
    source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_CREAT)
    sent = 0
    while sent < 20_000:
        sent += os.sendfile(target, source, sent, 20_000 - sent)
    reader, writer = os.pipe()
    spliced = os.splice(source, writer, 4000, offset_src=3)
    back = os.splice(reader, target, spliced, offset_dst=20_000)
    return sent, spliced, back, os.pread(target, 30_000, 0)


@on_both
def test_to_and_from_another_file_system() -> object:
    file("a", b"x" * 5000)
    other = os.memfd_create("other")
    source = os.open("a", os.O_RDWR)
    out = os.sendfile(other, source, 0, 5000)
    into = os.sendfile(source, other, 0, 5000)
    return out, into, os.fstat(source).st_size
