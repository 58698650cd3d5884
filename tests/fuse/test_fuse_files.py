"""Files: what applications do with bytes, sizes, times and modes, through the mount and without."""

# The system calls are what is tested.

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Served

pytestmark = pytest.mark.kernel

NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def as_nobody(script: str, *arguments: str | Path) -> str:
    """Run Python code as an ordinary user; what it prints. A fork, because an ordinary user may
    not be allowed to execute the interpreter."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.umask(0o022)
            with os.fdopen(writer, "w") as out:
                said = partial(print, file=out)
                argv = ["", *map(str, arguments)]
                exec(script, {"print": said, "os": os, "errno": errno, "argv": argv})
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as heard:
        text = heard.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, text
    return text.strip()


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def test_written_bytes_are_read_back(root: Path) -> None:
    file = root / "file"
    data = os.urandom(3 << 20)
    file.write_bytes(data)
    assert file.read_bytes() == data
    with file.open("r+b") as opened:
        opened.seek(4095)
        opened.write(b"across")
    assert file.read_bytes() == data[:4095] + b"across" + data[4101:]
    with file.open("ab") as opened:
        opened.write(b"end")
    assert file.read_bytes()[-6:] == data[-3:] + b"end"
    assert file.stat().st_size == len(data) + 3


def test_bytes_arrive_in_the_real_file(served: Served) -> None:
    data = os.urandom(100_000)
    (served.directory / "file").write_bytes(data)
    assert (served.door / "file").read_bytes() == data


def test_appenders_do_not_overwrite_each_other(root: Path) -> None:
    file = root / "log"
    first = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    second = os.open(file, os.O_WRONLY | os.O_APPEND)
    for number in range(50):
        os.write(first if number % 2 else second, b"%05d\n" % number)
    os.close(first)
    os.close(second)
    assert file.read_bytes() == b"".join(b"%05d\n" % number for number in range(50))


def test_truncate_shortens_extends_and_reads_zeros(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"x" * 10_000)
    os.truncate(file, 5_000)
    assert file.read_bytes() == b"x" * 5_000
    os.truncate(file, 9_000)
    assert file.read_bytes() == b"x" * 5_000 + bytes(4_000)
    with file.open("wb"):
        assert file.stat().st_size == 0
    assert file.read_bytes() == b""


def test_a_file_opened_twice_shows_the_truncation(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"x" * 8192)
    with file.open("rb") as reader:
        assert len(reader.read()) == 8192
        file.write_bytes(b"new")
        reader.seek(0)
        assert reader.read() == b"new"


def test_holes_stay_holes_and_are_found(root: Path) -> None:
    fd = os.open(root / "sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"a" * 4096, 1 << 20)
    os.fsync(fd)
    assert os.fstat(fd).st_blocks * 512 <= 64 << 10
    assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
    assert errno_of(lambda: os.lseek(fd, 2 << 20, os.SEEK_DATA)) == errno.ENXIO
    os.close(fd)


def test_fallocate_reserves_punches_and_zeroes(root: Path) -> None:
    fd = os.open(root / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20 and os.fstat(fd).st_blocks >= 2048
    fallocate(fd, 1, 1 << 20, 1 << 20)  # KEEP_SIZE
    assert os.fstat(fd).st_size == 1 << 20 and os.fstat(fd).st_blocks >= 4096
    os.pwrite(fd, b"x" * 65536, 0)
    fallocate(fd, 3, 4096, 8192)  # PUNCH_HOLE | KEEP_SIZE
    assert os.pread(fd, 16384, 0) == b"x" * 4096 + bytes(8192) + b"x" * 4096
    os.fsync(fd)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
    fallocate(fd, 0x10, 0, 4096)  # ZERO_RANGE
    assert os.pread(fd, 4096, 0) == bytes(4096)
    os.close(fd)


def test_shared_mappings_write(root: Path) -> None:
    file = root / "mapped"
    file.write_bytes(bytes(1 << 20))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[5000:5005] = b"hello"
        mapped[-1:] = b"!"
        assert opened.read(5005)[-5:] == b"hello"
        mapped.flush()
    assert file.read_bytes()[5000:5005] == b"hello" and file.read_bytes()[-1:] == b"!"


def test_mapped_bytes_reach_the_real_file(served: Served) -> None:
    (served.directory / "mapped").write_bytes(bytes(8192))
    with (
        (served.directory / "mapped").open("r+b") as opened,
        mmap.mmap(opened.fileno(), 0) as mapped,
    ):
        mapped[4096:4101] = b"hello"
        mapped.flush()
        assert (served.door / "mapped").read_bytes()[4096:4101] == b"hello"


def test_an_unlinked_open_file_lives_on(root: Path) -> None:
    file = root / "gone"
    fd = os.open(file, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"before")
    file.unlink()
    assert not file.exists() and os.listdir(root) == []
    os.write(fd, b" after")
    os.fsync(fd)
    assert os.pread(fd, 100, 0) == b"before after"
    os.ftruncate(fd, 3)
    os.fchmod(fd, 0o600)
    assert os.fstat(fd).st_size == 3 and os.fstat(fd).st_nlink == 0
    file.write_bytes(b"another")
    assert os.pread(fd, 100, 0) == b"bef"
    os.close(fd)
    assert file.read_bytes() == b"another"


def test_a_replaced_open_file_lives_on(root: Path) -> None:
    (root / "a").write_bytes(b"old")
    (root / "b").write_bytes(b"new")
    with (root / "a").open("r+b") as opened:
        os.rename(root / "b", root / "a")
        assert opened.read() == b"old"
        opened.write(b"er")
        opened.flush()
        assert (root / "a").read_bytes() == b"new"


def test_direct_io(root: Path) -> None:
    fd = os.open(root / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    page = mmap.mmap(-1, 8192)
    page[:] = b"d" * 8192
    assert os.write(fd, page) == 8192
    page[:] = bytes(8192)
    assert os.preadv(fd, [page], 0) == 8192 and page[:] == b"d" * 8192
    os.close(fd)


def test_tmpfile_gets_a_name_later(root: Path) -> None:
    fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"nameless")
    assert os.listdir(root) == [] and os.fstat(fd).st_nlink == 0
    nameless, named = os.fsencode(f"/proc/self/fd/{fd}"), os.fsencode(root / "named")
    assert _libc.linkat(-100, nameless, -100, named, 0x400) == 0  # AT_SYMLINK_FOLLOW
    os.write(fd, b" no more")
    os.close(fd)
    assert (root / "named").read_bytes() == b"nameless no more"
    assert (root / "named").stat().st_nlink == 1


def test_fsync_of_files_and_directories(root: Path) -> None:
    for path in (root / "file", root):
        fd = os.open(path, os.O_RDONLY if path == root else os.O_RDWR | os.O_CREAT)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)


def test_copy_file_range_falls_back(root: Path) -> None:
    (root / "a").write_bytes(b"x" * 100_000)
    with (root / "a").open("rb") as source, (root / "b").open("wb") as target:
        left = 100_000
        while left:
            left -= os.copy_file_range(source.fileno(), target.fileno(), left)
    assert (root / "b").read_bytes() == b"x" * 100_000


def test_modes_owners_and_times(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"")
    os.chmod(file, 0o6751)
    assert stat.S_IMODE(file.stat().st_mode) == 0o6751
    os.chown(file, 123, 456)
    assert (file.stat().st_uid, file.stat().st_gid) == (123, 456)
    assert stat.S_IMODE(file.stat().st_mode) == 0o751  # chown takes the set-id bits away
    os.chown(file, -1, 457)
    assert (file.stat().st_uid, file.stat().st_gid) == (123, 457)
    os.utime(file, ns=(1_500_000_000_123_456_789, -1_000_000_001))
    assert file.stat().st_atime_ns == 1_500_000_000_123_456_789
    assert file.stat().st_mtime_ns == -1_000_000_001
    before_ns = time.time_ns() - 50_000_000
    os.utime(file)
    assert before_ns <= file.stat().st_mtime_ns <= time.time_ns()
    assert before_ns <= file.stat().st_atime_ns <= time.time_ns()
    assert before_ns <= file.stat().st_ctime_ns <= time.time_ns()


def test_writing_moves_the_times_forward(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"1")
    os.utime(file, ns=(0, 0))
    with file.open("ab") as opened:
        opened.write(b"2")
        opened.flush()
        assert os.fstat(opened.fileno()).st_mtime_ns > 0
    os.utime(root, ns=(0, 0))
    (root / "other").write_bytes(b"")
    assert root.stat().st_mtime_ns > 0
    os.utime(root, ns=(0, 0))
    (root / "other").unlink()
    assert root.stat().st_mtime_ns > 0


def test_an_ordinary_users_write_clears_set_id_bits(root: Path) -> None:
    for number, change in enumerate(
        (
            "os.write(fd, b'x')",
            "os.ftruncate(fd, 1)",
            "os.posix_fallocate(fd, 0, 8192)",
        )
    ):
        file = root / f"program{number}"
        file.write_bytes(b"program")
        os.chmod(file, 0o6777)
        os.chmod(root, 0o755)
        assert stat.S_IMODE(file.stat().st_mode) == 0o6777
        script = f"fd = os.open(argv[1], os.O_RDWR)\n{change}\nprint(oct(os.fstat(fd).st_mode))"
        assert as_nobody(script, file) == "0o100777", change
        assert stat.S_IMODE(file.stat().st_mode) == 0o777, change


def test_the_kernel_forgets_cleared_set_id_bits(root: Path) -> None:
    # It executes by the mode that it holds, and no reply to a write carries a mode.
    file = root / "program"
    file.write_bytes(b"program")
    os.chmod(file, 0o4777)
    os.chmod(root, 0o755)
    as_nobody("os.write(os.open(argv[1], os.O_WRONLY), b'x')", file)
    answer = ctypes.create_string_buffer(256)
    assert _libc.statx(-100, os.fsencode(file), 0, 2, answer) == 0  # STATX_MODE alone
    assert int.from_bytes(answer.raw[28:30], "little") == stat.S_IFREG | 0o777


def test_any_write_takes_capabilities_away(root: Path) -> None:
    file = root / "program"
    key, value = "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    for change in (
        lambda: os.truncate(file, 1),
        lambda: file.open("ab").write(b"more"),
        lambda: os.chown(file, 1, 1),
    ):
        file.write_bytes(b"program")
        os.setxattr(file, key, value)
        assert os.getxattr(file, key) == value
        change()
        assert errno_of(lambda: os.getxattr(file, key)) == errno.ENODATA


def test_roots_write_keeps_set_id_bits(root: Path) -> None:
    file = root / "program"
    file.write_bytes(b"program")
    os.chmod(file, 0o6755)
    with file.open("ab") as opened:
        opened.write(b"more")
    assert stat.S_IMODE(file.stat().st_mode) == 0o6755


def test_a_mode_without_writing_does_not_stop_its_creator(root: Path) -> None:
    os.chmod(root, 0o777)
    script = """
fd = os.open(argv[1], os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o444)
os.write(fd, b'mine')
print(os.fstat(fd).st_uid, oct(os.fstat(fd).st_mode))
"""
    assert as_nobody(script, root / "file") == f"{NOBODY} 0o100444"
    assert (root / "file").read_bytes() == b"mine"


def test_umask_holds(root: Path) -> None:
    before = os.umask(0o027)
    try:
        os.close(os.open(root / "file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(root / "dir", 0o777)
        os.mkfifo(root / "pipe", 0o666)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((root / name).stat().st_mode) for name in ("file", "dir", "pipe")]
    assert modes == [0o640, 0o750, 0o640]


def test_special_files(root: Path) -> None:
    os.mkfifo(root / "pipe", 0o600)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o600 | stat.S_IFBLK, os.makedev(259, 70_000))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    listener.listen()
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "disk").stat().st_rdev == os.makedev(259, 70_000)
    assert stat.S_ISBLK((root / "disk").stat().st_mode)
    (root / "null").write_bytes(b"swallowed")
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(root / "socket"))
    caller.close()
    listener.close()


def test_flock_and_posix_locks_are_local(root: Path) -> None:
    import fcntl

    with (root / "lock").open("w") as first, (root / "lock").open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.lockf(first, fcntl.LOCK_EX)


def test_statvfs_is_that_of_the_real_file_system(root: Path) -> None:
    real, here = os.statvfs("/var/tmp"), os.statvfs(root)
    assert (here.f_blocks, here.f_bsize, here.f_namemax) == (real.f_blocks, real.f_bsize, 255)


def test_what_is_not_in_memory_is_read_beside_the_loop(served: Served) -> None:
    """Whole reads, and one that ends at the end of the file, cold in part or altogether."""
    data = os.urandom((1 << 20) + 1234)
    path, beneath = served.directory / "file", os.open(served.door, os.O_RDONLY)
    path.write_bytes(data)
    os.sync()
    real = os.open("file", os.O_RDONLY, dir_fd=beneath)
    with path.open("rb", buffering=0) as file:
        for warm_bytes in (0, 4096, 300_000, len(data)):
            for fd in (file.fileno(), real):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(real, 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(real, warm_bytes, 0)
            for offset in (0, 4096, 1 << 20, len(data), len(data) + 5):
                assert os.pread(file.fileno(), 1 << 20, offset) == data[offset : offset + (1 << 20)]
    os.close(real)
    os.close(beneath)
