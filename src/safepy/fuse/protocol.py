"""Requests of the kernel's FUSE protocol (major 7): bytes to values. Pure.

The layouts are those of linux/fuse.h for minor 41. Every decoder takes the *body* of a request
(what follows the header) and raises `ProtocolError`, and nothing else, on bytes that are not a
request. What is decoded thousands of times a second comes as a plain tuple.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from safepy.errors import LocalFault

MAJOR = 7
MINOR = 41

#: The largest WRITE and READ, in bytes; the kernel's own limit without tuning (256 pages).
MAX_WRITE_BYTES = 1 << 20
#: What a read of the device must offer: the largest request, its header and its names.
BUFFER_BYTES = MAX_WRITE_BYTES + 8192


class ProtocolError(LocalFault):
    """The kernel sent what is not a request of this protocol."""


# INIT flags (both directions unless said otherwise).
ASYNC_READ = 1 << 0
BIG_WRITES = 1 << 5
DONT_MASK = 1 << 6
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
ASYNC_DIO = 1 << 15
NO_OPEN_SUPPORT = 1 << 17  # the kernel tells that OPEN may be answered with ENOSYS
PARALLEL_DIROPS = 1 << 18
POSIX_ACL = 1 << 20
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
HANDLE_KILLPRIV_V2 = 1 << 28
SETXATTR_EXT = 1 << 29
INIT_EXT = 1 << 30

# SETATTR: which fields are meant.
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_ATIME_NOW = 1 << 7
FATTR_MTIME_NOW = 1 << 8
FATTR_KILL_SUIDGID = 1 << 11
#: Everything that SETATTR can change.
FATTR_ANY = 0x3F | FATTR_KILL_SUIDGID

WRITE_KILL_SUIDGID = 1 << 2
FSYNC_DATA_ONLY = 1 << 0
SETXATTR_ACL_KILL_SGID = 1 << 0

#: What system calls take: the kernel has checked it, and other numbers would not be a request.
_OFFSET_MAX = (1 << 63) - 1
_INT_MAX = (1 << 31) - 1
_READ_BYTES_MAX = 4 * MAX_WRITE_BYTES
_MODE = 0xFFFF
_PERMISSIONS = 0o777

_TIME_MIN_NS = -(1 << 63)
_TIME_MAX_NS = (1 << 64) - 1

HEADER = Struct("<IIQQIIIHH")
HEADER_BYTES = HEADER.size
INT_REQ_BIT = 1

_UNIQUE = Struct("<Q")
_PID = Struct("<I")
_INIT = Struct("<IIII")
_INIT_EXT = Struct("<I")
_U64 = Struct("<Q")
_U32_PAIR = Struct("<II")
_FORGET_ONE = Struct("<QQ")
_SETATTR = Struct("<IIQQQqqqIIIIIIII")
_MKNOD = Struct("<IIII")
_RENAME2 = Struct("<QII")
_CREATE = Struct("<IIII")
_RELEASE = Struct("<QIIQ")
_READ = Struct("<QQIIQII")
_WRITE = Struct("<QQIIQII")
_FSYNC = Struct("<QII")
_SETXATTR = Struct("<II")
_SETXATTR_EXT = Struct("<IIII")
_FALLOCATE = Struct("<QQQII")
_LSEEK = Struct("<QqII")

_WRITE_BYTES = _WRITE.size


class Header(NamedTuple):
    """What precedes every request. `uid`, `gid` and `pid` are those of the caller."""

    length: int
    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    extension_bytes: int


class Init(NamedTuple):
    major: int
    minor: int
    max_readahead_bytes: int
    flags: int


class SetAttrIn(NamedTuple):
    """`valid` says which of the others count (FATTR_*)."""

    valid: int
    size: int
    atime_ns: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


class MakeIn(NamedTuple):
    """MKNOD, MKDIR, CREATE and TMPFILE. The mode is not yet masked by `umask`."""

    name: bytes
    mode: int
    rdev: int
    umask: int


class RenameIn(NamedTuple):
    name: bytes
    new_parent: int
    new_name: bytes
    flags: int


class SetXattrIn(NamedTuple):
    name: bytes
    value: bytes
    flags: int
    kill_sgid: bool


class FallocateIn(NamedTuple):
    offset: int
    length: int
    mode: int


def header(request: bytes | bytearray | memoryview) -> Header:
    """The header of a whole request, checked against its length."""
    size = memoryview(request).nbytes
    if size < HEADER_BYTES:
        raise ProtocolError(f"a FUSE request of {size} bytes is shorter than its header")
    length, opcode, unique, node, uid, gid, pid, extensions, _ = HEADER.unpack_from(request)
    if length != size or HEADER_BYTES + extensions * 8 > length:
        raise ProtocolError(f"a FUSE request of {size} bytes says that it has {length}")
    return Header(length, opcode, unique, node, uid, gid, pid, extensions * 8)


def caller(request: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(unique, thread id of the caller) of a whole request, the header of which was checked."""
    return _UNIQUE.unpack_from(request, 8)[0], _PID.unpack_from(request, 32)[0]


def interrupt(body: memoryview) -> int:
    """INTERRUPT: which request's caller got a signal."""
    unique: int = _take(_U64, body)[0]
    return unique


def init(body: memoryview) -> Init:
    major, minor, max_readahead_bytes, flags = _take(_INIT, body)
    if flags & INIT_EXT and len(body) >= _INIT.size + _INIT_EXT.size:
        flags |= _INIT_EXT.unpack_from(body, _INIT.size)[0] << 32
    return Init(major, minor, max_readahead_bytes, flags)


def name(body: memoryview) -> bytes:
    """The one name that is the whole body: LOOKUP, UNLINK, RMDIR."""
    return _names(body, 0, 1)[0]


def xattr_name(body: memoryview) -> bytes:
    """REMOVEXATTR."""
    return _strings(body, 0, 1)[0]


def forget(body: memoryview) -> int:
    """How many lookups the kernel gives back."""
    lookups: int = _take(_U64, body)[0]
    return lookups


def batch_forget(body: memoryview) -> list[tuple[int, int]]:
    """(node, lookups) pairs."""
    count = _take(_U32_PAIR, body)[0]
    end = _U32_PAIR.size + count * _FORGET_ONE.size
    if end > len(body):
        raise ProtocolError(f"BATCH_FORGET of {count} nodes in {len(body)} bytes")
    return list(_FORGET_ONE.iter_unpack(body[_U32_PAIR.size : end]))


def setattr_(body: memoryview) -> SetAttrIn:
    (
        valid,
        _,
        _fh,
        size,
        _lock_owner,
        atime_s,
        mtime_s,
        _ctime_s,
        atime_ns,
        mtime_ns,
        _ctime_ns,
        mode,
        _,
        uid,
        gid,
        _,
    ) = _take(_SETATTR, body)
    if valid & FATTR_SIZE and size > _OFFSET_MAX:
        raise ProtocolError(f"SETATTR of a size of {size} bytes")
    return SetAttrIn(
        valid,
        size,
        _time_ns(atime_s, atime_ns),
        _time_ns(mtime_s, mtime_ns),
        mode,
        uid,
        gid,
    )


def symlink(body: memoryview) -> tuple[bytes, bytes]:
    """(name, target)."""
    link_name, target = _strings(body, 0, 2)
    return _checked_name(link_name), target


def mknod(body: memoryview) -> MakeIn:
    mode, rdev, umask, _ = _take(_MKNOD, body)
    return MakeIn(_names(body, _MKNOD.size, 1)[0], mode & _MODE, rdev, umask & _PERMISSIONS)


def mkdir(body: memoryview) -> MakeIn:
    mode, umask = _take(_U32_PAIR, body)
    return MakeIn(_names(body, _U32_PAIR.size, 1)[0], mode & _MODE, 0, umask & _PERMISSIONS)


def create(body: memoryview) -> MakeIn:
    _flags, mode, umask, _open_flags = _take(_CREATE, body)
    return MakeIn(_names(body, _CREATE.size, 1)[0], mode & _MODE, 0, umask & _PERMISSIONS)


def tmpfile(body: memoryview) -> MakeIn:
    """The kernel sends the name "/" with it, which means nothing."""
    _flags, mode, umask, _open_flags = _take(_CREATE, body)
    return MakeIn(b"", mode & _MODE, 0, umask & _PERMISSIONS)


def rename(body: memoryview) -> RenameIn:
    new_parent = _take(_U64, body)[0]
    old, new = _names(body, _U64.size, 2)
    return RenameIn(old, new_parent, new, 0)


def rename2(body: memoryview) -> RenameIn:
    new_parent, flags, _ = _take(_RENAME2, body)
    old, new = _names(body, _RENAME2.size, 2)
    return RenameIn(old, new_parent, new, flags)


def link(body: memoryview) -> tuple[int, bytes]:
    """(node that gets a further name, the name)."""
    return _take(_U64, body)[0], _names(body, _U64.size, 1)[0]


def release(body: memoryview) -> int:
    """The file handle of RELEASE and RELEASEDIR."""
    handle: int = _take(_RELEASE, body)[0]
    return handle


def read(body: memoryview) -> tuple[int, int, int]:
    """(file handle, offset, size) of READ, READDIR and READDIRPLUS."""
    handle, offset, size = _take(_READ, body)[:3]
    if offset > _OFFSET_MAX or size > _READ_BYTES_MAX:
        raise ProtocolError(f"READ of {size} bytes at {offset}")
    return handle, offset, size


def write(body: memoryview) -> tuple[int, bytes, int]:
    """(offset, data, WRITE_* flags). The data are a copy: the buffer is used again."""
    if len(body) < _WRITE_BYTES:
        raise ProtocolError(f"WRITE of {len(body)} bytes is shorter than its head")
    _, offset, size, flags, _, _, _ = _WRITE.unpack_from(body)
    end = _WRITE_BYTES + size
    if end > len(body):
        raise ProtocolError(f"WRITE of {size} bytes carries {len(body) - _WRITE_BYTES}")
    if offset > _OFFSET_MAX:
        raise ProtocolError(f"WRITE at {offset}")
    return offset, bytes(body[_WRITE_BYTES:end]), flags


def fsync(body: memoryview) -> bool:
    """Whether the data alone are asked for (FSYNC and FSYNCDIR)."""
    return bool(_take(_FSYNC, body)[1] & FSYNC_DATA_ONLY)


def setxattr(body: memoryview, extended: bool) -> SetXattrIn:
    """`extended`: SETXATTR_EXT was agreed on."""
    if extended:
        size, flags, more, _ = _take(_SETXATTR_EXT, body)
        start = _SETXATTR_EXT.size
    else:
        size, flags = _take(_SETXATTR, body)
        start, more = _SETXATTR.size, 0
    raw = bytes(body[start:])
    key, nul, value = raw.partition(b"\0")
    if not key or not nul or len(value) < size:
        raise ProtocolError(f"SETXATTR of {size} bytes without them or without a name")
    if flags > _INT_MAX:
        raise ProtocolError(f"SETXATTR with the flags {flags}")
    return SetXattrIn(key, value[:size], flags, bool(more & SETXATTR_ACL_KILL_SGID))


def getxattr(body: memoryview) -> tuple[int, bytes]:
    """(room for the value, 0 asks for its size; name)."""
    return _take(_U32_PAIR, body)[0], _strings(body, _U32_PAIR.size, 1)[0]


def listxattr(body: memoryview) -> int:
    """Room for the names; 0 asks for their size."""
    size: int = _take(_U32_PAIR, body)[0]
    return size


def fallocate(body: memoryview) -> FallocateIn:
    _, offset, length, mode, _ = _take(_FALLOCATE, body)
    if offset > _OFFSET_MAX or length > _OFFSET_MAX:
        raise ProtocolError(f"FALLOCATE of {length} bytes at {offset}")
    return FallocateIn(offset, length, mode)


def lseek(body: memoryview) -> tuple[int, int]:
    """(offset, whence). The offset may be negative: nobody has looked at it yet."""
    _, offset, whence, _ = _take(_LSEEK, body)
    if whence > _INT_MAX:
        raise ProtocolError(f"LSEEK by the rule {whence}")
    return offset, whence


def _take(layout: Struct, body: memoryview) -> tuple[int, ...]:
    if len(body) < layout.size:
        raise ProtocolError(f"a FUSE request's body of {len(body)} bytes, {layout.size} expected")
    return layout.unpack_from(body)


def _time_ns(seconds: int, ns: int) -> int:
    """A time as one number. The kernel lets any second pass; no file system of today keeps what
    lies outside of these bounds, and the peer's message has 64 bits for it."""
    return max(_TIME_MIN_NS, min(seconds * 1_000_000_000 + ns, _TIME_MAX_NS))


def _strings(body: memoryview, start: int, count: int) -> list[bytes]:
    """`count` strings, each ended by NUL, are all that follows `start`."""
    parts = bytes(body[start:]).split(b"\0")
    if len(parts) != count + 1 or parts[-1] or not all(parts[:-1]):
        raise ProtocolError(f"{count} name(s) expected at the end of a FUSE request")
    return parts[:-1]


def _names(body: memoryview, start: int, count: int) -> list[bytes]:
    return [_checked_name(part) for part in _strings(body, start, count)]


def _checked_name(part: bytes) -> bytes:
    # The name goes to a system call of a process that runs as root: it must stay one component.
    if b"/" in part or part in (b".", b".."):
        raise ProtocolError(f"{part!r} is not a name of a directory entry")
    return part
