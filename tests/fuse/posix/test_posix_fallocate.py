"""fallocate: reserving, punching, zeroing; SEEK_DATA and SEEK_HOLE."""

from __future__ import annotations

import errno
import itertools
import os

from cases import effect, file, folder, look, on_both, tried, user

from safepy.storage.syscalls import fallocate

KEEP, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
MIB = 1 << 20


def extents(fd: int) -> list[tuple[int, int]]:
    os.fsync(fd)
    found, at, end = [], 0, os.fstat(fd).st_size
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


@on_both
def test_each_mode_over_data_holes_and_the_end() -> object:
    results = []
    modes = (0, KEEP, PUNCH | KEEP, PUNCH, ZERO, ZERO | KEEP, 4, 64, PUNCH | ZERO | KEEP)
    places = ((0, 4096), (4096, 8192), (100, 5000), (30_000, 100_000), (200_000, 4096), (65_536, 1))
    for mode, (offset, length) in itertools.product(modes, places):
        fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.pwrite(fd, b"a" * 50_000, 0)
        os.pwrite(fd, b"b" * 10_000, 131_072)
        outcome = tried(fallocate, fd, mode, offset, length)
        data = os.pread(fd, 400_000, 0)
        zeros = [at for at in range(0, len(data), 512) if not any(data[at : at + 512])]
        results.append((mode, offset, outcome, os.fstat(fd).st_size, len(zeros), extents(fd)))
        os.close(fd)
    return results


@on_both
def test_ranges_that_cannot_be() -> object:
    file("f", b"x" * 5000)
    fd = os.open("f", os.O_RDWR)
    results = []
    for mode in (0, KEEP, PUNCH | KEEP, ZERO):
        for offset, length in ((-1, 10), (0, 0), (0, -1), (1 << 62, 1 << 62), (1 << 44, 4096)):
            results.append((mode, offset, length, tried(fallocate, fd, mode, offset, length)))
    return results, look(fd)


@on_both
def test_descriptors() -> object:
    file("f", b"x")
    folder("d")
    os.mkfifo("p")
    fds = {
        "read": os.open("f", os.O_RDONLY),
        "path": os.open("f", os.O_PATH),
        "append": os.open("f", os.O_WRONLY | os.O_APPEND),
        "dir": os.open("d", os.O_RDONLY),
        "pipe": os.open("p", os.O_RDWR),
    }
    return {
        name: [tried(fallocate, fd, mode, 0, 4096) for mode in (0, PUNCH | KEEP)]
        for name, fd in fds.items()
    }


@on_both
def test_what_it_stamps() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 20_000)
    return [
        effect(fallocate, fd, mode, offset, 8192, watch=["f", "."])
        for mode, offset in (
            (0, 0),
            (0, 16_384),
            (KEEP, 100_000),
            (PUNCH | KEEP, 4096),
            (PUNCH | KEEP, 200_000),
            (ZERO, 4096),
            (ZERO | KEEP, 300_000),
        )
    ]


@on_both
def test_reserved_blocks_are_counted_and_read_as_zeros() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, MIB)
    results = [look(fd), os.fstat(fd).st_blocks]
    fallocate(fd, KEEP, MIB, MIB)
    results += [look(fd), os.fstat(fd).st_blocks, any(os.pread(fd, MIB, 0))]
    os.ftruncate(fd, 5000)
    results.append(os.fstat(fd).st_blocks)
    return results


@on_both
def test_an_ordinary_users_call_takes_set_id_bits_away() -> object:
    results = []
    for mode, call in itertools.product((0o6777, 0o2767, 0o2666), (0, PUNCH | KEEP, ZERO)):
        name = f"{mode:o}-{call}"
        file(name, b"x" * 10_000, mode)
        with user():
            fd = os.open(name, os.O_RDWR)
            results += [(name, tried(fallocate, fd, call, 0, 4096)), look(fd)]
    return results


@on_both
def test_seeking_data_and_holes() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"a" * 4096, 65_536)
    os.pwrite(fd, b"b" * 100, 262_144)
    os.fsync(fd)
    places = (
        0,
        1,
        65_535,
        65_536,
        69_632,
        100_000,
        262_143,
        262_144,
        262_243,
        262_244,
        1 << 40,
        -1,
    )
    results = [
        (at, tried(os.lseek, fd, at, os.SEEK_DATA), tried(os.lseek, fd, at, os.SEEK_HOLE))
        for at in places
    ]
    return results, extents(fd)


@on_both
def test_seeking_in_what_was_not_yet_written_to_disk() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 8192, 1 << 20)
    return os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 1 << 20, os.SEEK_HOLE)


@on_both
def test_seeking_at_all() -> object:
    file("f", b"0123456789")
    fd = os.open("f", os.O_RDWR)
    results = []
    for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 7):
        # The kernel lets a FUSE file have more than 16 TiB as far as seeking goes.
        for offset in (0, 5, -3, 1 << 40, -(1 << 40)):
            results.append((whence, offset, tried(os.lseek, fd, offset, whence)))
    return results
