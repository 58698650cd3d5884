"""Replies and notifications of the kernel's FUSE protocol: values to bytes. Pure.

A reply is the header and a body; the functions here make bodies (and the two replies of the hot
path, WRITE's count and an error, whole). Layouts: linux/fuse.h, minor 41.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from struct import Struct

from safepy.fuse import protocol

#: How long the kernel may believe a name or attributes, in seconds. Nothing but this mount
#: changes the tree, and what the mount changes the kernel forgets by itself.
VALID_S = 86_400

NOTIFY_INVAL_INODE = 2

HEADER = Struct("<IiQ")
HEADER_BYTES = HEADER.size

_ATTR_FIELDS = "QQQqqqIIIIIIIIII"
_ATTR = Struct("<QII" + _ATTR_FIELDS)
_ENTRY = Struct("<QQQQII" + _ATTR_FIELDS)
_NEGATIVE = Struct("<QQQQII88x")
_OPEN = Struct("<QII")
_WRITE = Struct("<IiQII")
_STATFS = Struct("<QQQQQIIII24x")
_SIZE = Struct("<II")
_LSEEK = Struct("<Q")
_INIT = Struct("<IIIIHHIIHHI28x")
_DIRENT = Struct("<QQII")
_INVAL_INODE = Struct("<IiQQqq")

_NS = 1_000_000_000
_PADDING = tuple(bytes(-length % 8) for length in range(8))

#: A directory entry: name, inode number, type as of dirent(3), position of what follows it.
DirEntry = tuple[bytes, int, int, int]

FOPEN_KEEP_CACHE = 1 << 1
#: Of a directory: the kernel keeps the entries, until it changes the directory by itself.
FOPEN_CACHE_DIR = 1 << 3


def header(unique: int, body_bytes: int) -> bytes:
    return HEADER.pack(HEADER_BYTES + body_bytes, 0, unique)


def error(unique: int, errno: int) -> bytes:
    """A whole reply without a body; errno 0 is plain success."""
    return HEADER.pack(HEADER_BYTES, -errno, unique)


def written(unique: int, count: int) -> bytes:
    """The whole reply to WRITE."""
    return _WRITE.pack(24, 0, unique, count, 0)


def attributes(st: os.stat_result) -> bytes:
    """Reply to GETATTR and SETATTR."""
    return _ATTR.pack(VALID_S, 0, 0, *_attr_fields(st))


def entry(node: int, st: os.stat_result) -> bytes:
    """Reply to LOOKUP, MKNOD, MKDIR, SYMLINK, LINK; node numbers are never used twice, so the
    generation is always 0."""
    return _ENTRY.pack(node, 0, VALID_S, VALID_S, 0, 0, *_attr_fields(st))


def no_entry() -> bytes:
    """Reply to LOOKUP: the name does not exist, and the kernel may remember that."""
    return _NEGATIVE.pack(0, 0, VALID_S, 0, 0, 0)


def opened(handle: int, flags: int) -> bytes:
    return _OPEN.pack(handle, flags, 0)


def statfs(vfs: os.statvfs_result) -> bytes:
    return _STATFS.pack(
        vfs.f_blocks,
        vfs.f_bfree,
        vfs.f_bavail,
        vfs.f_files,
        vfs.f_ffree,
        vfs.f_bsize,
        vfs.f_namemax,
        vfs.f_frsize,
        0,
    )


def size(count: int) -> bytes:
    """Reply to GETXATTR and LISTXATTR that ask for a size."""
    return _SIZE.pack(count, 0)


def lseek(offset: int) -> bytes:
    return _LSEEK.pack(offset)


def init(asked: protocol.Init, flags: int, max_background: int) -> bytes:
    """Reply to INIT. `flags` are all of ours; the high half goes to its own field."""
    return _INIT.pack(
        protocol.MAJOR,
        min(asked.minor, protocol.MINOR),
        min(asked.max_readahead_bytes, protocol.MAX_WRITE_BYTES),
        flags & 0xFFFFFFFF,
        max_background,
        max_background * 3 // 4,
        protocol.MAX_WRITE_BYTES,
        1,  # granularity of times in ns
        protocol.MAX_WRITE_BYTES // 4096,
        0,
        flags >> 32,
    )


def directory(entries: Iterable[DirEntry], room_bytes: int) -> bytes:
    """Reply to READDIR: the first entries, as many as fit into the room."""
    parts: list[bytes] = []
    for name, inode, kind, position in entries:
        length = len(name)
        room_bytes -= _DIRENT.size + (length + 7 & ~7)
        if room_bytes < 0:
            break
        parts += (_DIRENT.pack(inode, position, length, kind), name, _PADDING[length % 8])
    return b"".join(parts)


def directory_plus(
    entries: Iterable[DirEntry],
    room_bytes: int,
    look_up: Callable[[bytes], tuple[int, os.stat_result] | None],
) -> tuple[bytes, list[int]]:
    """Reply to READDIRPLUS, and the nodes that the kernel then holds one lookup more of.

    `look_up` is asked only for what fits; None gives the entry without attributes.
    """
    parts: list[bytes] = []
    nodes: list[int] = []
    for name, inode, kind, position in entries:
        length = len(name)
        room_bytes -= _ENTRY.size + _DIRENT.size + (length + 7 & ~7)
        if room_bytes < 0:
            break
        found = None if name in (b".", b"..") else look_up(name)
        if found is None:
            parts.append(bytes(_ENTRY.size))
        else:
            parts.append(entry(*found))
            nodes.append(found[0])
        parts += (_DIRENT.pack(inode, position, length, kind), name, _PADDING[length % 8])
    return b"".join(parts), nodes


def attributes_changed(node: int) -> bytes:
    """A whole notification: the kernel drops the attributes (not the data) it holds of a node."""
    return _INVAL_INODE.pack(_INVAL_INODE.size, NOTIFY_INVAL_INODE, 0, node, -1, 0)


def _attr_fields(st: os.stat_result) -> tuple[int, ...]:
    atime_s, atime_ns = divmod(st.st_atime_ns, _NS)
    mtime_s, mtime_ns = divmod(st.st_mtime_ns, _NS)
    ctime_s, ctime_ns = divmod(st.st_ctime_ns, _NS)
    return (
        st.st_ino,
        st.st_size,
        st.st_blocks,
        atime_s,
        mtime_s,
        ctime_s,
        atime_ns,
        mtime_ns,
        ctime_ns,
        st.st_mode,
        st.st_nlink,
        st.st_uid,
        st.st_gid,
        st.st_rdev & 0xFFFFFFFF,
        st.st_blksize,
        0,
    )
