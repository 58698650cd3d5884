"""System calls that Python's `os` lacks, each raising `OSError` with the kernel's errno.

Only 64-bit Linux is meant (off_t and time_t are 64 bits wide). Calls interrupted by a signal are
made again, as `os` does (PEP 475).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_COLLAPSE_RANGE = 0x08
FALLOC_ZERO_RANGE = 0x10
FALLOC_INSERT_RANGE = 0x20

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
#: Resolution that can neither leave the directory nor follow any link (protocol S8).
RESOLVE_STRICT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

_AT_EMPTY_PATH = 0x1000
_SYNC_FILE_RANGE_WRITE = 2
_SYS_OPENAT2 = 437  # the same number on every architecture
_UTIME_OMIT = (1 << 30) - 2
_NS = 1_000_000_000
_OPEN_HOW = struct.Struct("=QQQ")
_TIMES = struct.Struct("=qqqq")

_libc = ctypes.CDLL(None, use_errno=True)


def _declare(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> Any:
    function = getattr(_libc, name)
    function.argtypes = argtypes
    function.restype = restype
    return function


_int, _str, _i64 = ctypes.c_int, ctypes.c_char_p, ctypes.c_int64
_renameat2 = _declare("renameat2", _int, _str, _int, _str, ctypes.c_uint)
_fallocate = _declare("fallocate", _int, _int, _i64, _i64)
_syncfs = _declare("syncfs", _int)
_sync_file_range = _declare("sync_file_range", _int, _i64, _i64, ctypes.c_uint)
_linkat = _declare("linkat", _int, _str, _int, _str, _int)
_utimensat = _declare("utimensat", _int, _str, _str, _int)
_futimens = _declare("futimens", _int, _str)
_getdents64 = _declare(
    "getdents64", _int, ctypes.c_void_p, ctypes.c_size_t, restype=ctypes.c_ssize_t
)
_openat2 = _declare(
    "syscall",
    ctypes.c_long,
    ctypes.c_long,
    _str,
    _str,
    ctypes.c_size_t,
    restype=ctypes.c_long,
)


def _call(function: Any, *arguments: Any) -> int:
    while True:
        result: int = function(*arguments)
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def renameat2(dir_fd: int, name: bytes, new_dir_fd: int, new_name: bytes, flags: int) -> None:
    _call(_renameat2, dir_fd, name, new_dir_fd, new_name, flags)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _call(_fallocate, fd, mode, offset, length)


def syncfs(fd: int) -> None:
    """Flush the whole file system that holds `fd`; reports its write errors (Linux 5.8)."""
    _call(_syncfs, fd)


def sync_all(fds: Iterable[int]) -> None:
    """Every file system that one of these is on is durable. Raises OSError."""
    for fd in fds:
        syncfs(fd)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write a part of a file to the disk. Nothing is durable by it, and
    errors of the disk are left for the flush that is to come."""
    _call(_sync_file_range, fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def link_descriptor(fd: int, new_dir_fd: int, new_name: bytes) -> None:
    """Give the object behind `fd` (O_PATH will do) a further name."""
    _call(_linkat, fd, b"", new_dir_fd, new_name, _AT_EMPTY_PATH)


def set_times(fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set times of the object behind `fd` (O_PATH will do); None leaves one as it is."""
    times = _TIMES.pack(*_timespec(atime_ns), *_timespec(mtime_ns))
    if _utimensat(fd, b"", times, _AT_EMPTY_PATH) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_mtime(fd: int, mtime_ns: int) -> None:
    """`set_times` of an ordinary descriptor for the hot path: two thirds of its time."""
    if _futimens(fd, _TIMES.pack(0, _UTIME_OMIT, *divmod(mtime_ns, _NS))) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def getdents(fd: int, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
    """The next records (struct linux_dirent64) of a directory that fit; none at its end."""
    count = _call(_getdents64, fd, buffer, len(buffer))
    return ctypes.string_at(buffer, count)


def _timespec(time_ns: int | None) -> tuple[int, int]:
    return (0, _UTIME_OMIT) if time_ns is None else divmod(time_ns, _NS)


def openat2(dir_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open beneath `dir_fd` without following any link, not even in the middle (S8)."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, RESOLVE_STRICT)
    return _call(_openat2, _SYS_OPENAT2, dir_fd, path, how, len(how))


def data_extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is not a hole between `start` and `end`."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end of the file
                return
            raise
        if start >= end:
            return
        stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        yield start, stop - start
        start = stop
