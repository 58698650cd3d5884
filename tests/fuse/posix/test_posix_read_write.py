"""read, write, pread, pwrite, vectors, append: results, bytes, sizes, stamps."""

from __future__ import annotations

import os
import resource
import signal

from cases import effect, file, folder, look, on_both, tried, user


@on_both
def test_what_a_write_stamps() -> object:
    file("f", b"0123456789")
    fd = os.open("f", os.O_RDWR)
    watch = ["f", ".", fd]
    return [
        effect(os.pwrite, fd, b"xx", 0, watch=watch),
        effect(os.pwrite, fd, b"", 0, watch=watch),
        effect(os.pwrite, fd, b"beyond", 100, watch=watch),
        effect(os.pread, fd, 5, 0, watch=["."]),
        effect(os.pwrite, fd, b"x" * 200_000, 4095, watch=watch),
    ]


@on_both
def test_reads_around_the_end() -> object:
    file("f", b"x" * 10_000)
    fd = os.open("f", os.O_RDWR)
    places = (0, 1, 4095, 4096, 8191, 9_999, 10_000, 10_001, 1 << 40, (1 << 63) - 1)
    return [len(tried(os.pread, fd, 4096, offset)) for offset in places], os.read(fd, 0)  # type: ignore[arg-type]


@on_both
def test_bad_descriptors_offsets_and_kinds() -> object:
    file("f", b"x")
    folder("d")
    reading, writing = os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    directory, path = os.open("d", os.O_RDONLY), os.open("f", os.O_PATH)
    return [
        (name, tried(os.pread, fd, 1, at), tried(os.pwrite, fd, b"y", at))
        for name, fd in (("r", reading), ("w", writing), ("d", directory), ("p", path), ("no", 999))
        for at in (0, -1)
    ]


@on_both
def test_a_write_beyond_the_end_leaves_zeros() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"begin")
    os.pwrite(fd, b"end", 100_000)
    os.lseek(fd, 50_000, os.SEEK_SET)
    os.write(fd, b"middle")
    return os.fstat(fd).st_size, os.pread(fd, 200_000, 0)


@on_both
def test_vectors() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    parts = [b"a" * 10, b"", b"b" * 5000, b"c"]
    first = os.writev(fd, parts), os.pwritev(fd, parts, 3)
    room = [bytearray(7), bytearray(5000), bytearray(100)]
    return first, os.preadv(fd, room, 2), [bytes(part) for part in room]


@on_both
def test_the_limit_of_a_process() -> object:
    """RLIMIT_FSIZE: part of a write is done, the next ends with EFBIG and a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    results = [
        tried(os.pwrite, fd, b"x" * 4000, 0),
        tried(os.pwrite, fd, b"x" * 4000, 4000),
        tried(os.pwrite, fd, b"x", 5000),
        tried(os.ftruncate, fd, 5001),
        tried(os.truncate, "f", 5001),
        tried(os.posix_fallocate, fd, 0, 5001),
        tried(os.ftruncate, fd, 5000),
    ]
    return results, look(fd)


@on_both
def test_the_largest_file() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    results = []
    for at in ((1 << 44) - 4096, (1 << 44) - 4097, 1 << 44, (1 << 63) - 2, (1 << 63) - 1):
        results.append(tried(os.pwrite, fd, b"x", at))
        results.append(os.fstat(fd).st_size)
        os.ftruncate(fd, 0)
    return results


@on_both
def test_several_append_without_overwriting_each_other() -> object:
    children = []
    file("log")
    for number in range(4):
        child = os.fork()
        if child == 0:
            fd = os.open("log", os.O_WRONLY | os.O_APPEND)
            for count in range(100):
                os.write(fd, b"%d-%03d\n" % (number, count))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    with open("log", "rb") as log:
        lines = log.read().split(b"\n")
    os.unlink("log")  # the order of the lines is anybody's
    return sorted(lines), [line for line in lines if line.startswith(b"2")]


@on_both
def test_an_ordinary_users_write_takes_set_id_bits_away() -> object:
    results = []
    for mode in (0o6777, 0o4777, 0o2777, 0o2767, 0o6767, 0o4666, 0o2666, 0o1777):
        for uid, gid in ((1001, 1001), (0, 1001), (0, 0)):
            name = f"{mode:o}-{uid}-{gid}"
            file(name, b"program", mode, uid, gid)
            for who in ((1001, 1001), (1002, 1002)):
                os.chmod(name, mode)
                with user(*who):
                    fd = os.open(name, os.O_RDWR)
                    os.write(fd, b"x")
                    results.append((name, who, oct(os.fstat(fd).st_mode)))
                    os.close(fd)
    return results


@on_both
def test_roots_write_keeps_set_id_bits() -> object:
    file("f", b"program", 0o6777, 1001, 1001)
    with open("f", "ab") as opened:
        opened.write(b"x")
    return look("f")


@on_both
def test_direct_io_of_whole_blocks() -> object:
    import mmap

    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    page = mmap.mmap(-1, 3 * 4096)
    page[:] = b"d" * len(page)
    written = os.pwrite(fd, page, 0), os.pwrite(fd, page, 8192)
    page[:] = bytes(len(page))
    read = [os.preadv(fd, [page], at) for at in (0, 12288, 16384, 20480, 40960)]
    with open("f", "rb") as cached:
        return written, read, cached.read() == b"d" * 20480


@on_both
def test_a_synchronous_write_is_a_write() -> object:
    results = []
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = os.open("f", os.O_RDWR | os.O_CREAT | flag)
        results += [os.write(fd, b"x" * 5000), os.fstat(fd).st_size]
        os.close(fd)
    return results
