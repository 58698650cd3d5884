"""The seal of a clean stop: what every directory held, to find what changes while nobody watches.

For each directory the hashes of its entries: name, inode number, change time, size, mode. The
change time is set by the kernel and compared for equality alone, so no clock must be right (I17).
The seal is written when everything is flushed and the directories are still covered, and compared
when they are covered again (protocol 12).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from safepy.errors import LocalFault
from safepy.storage import syscalls
from safepy.storage.private import private_opener
from safepy.storage.statefile import sync_folder

_MAGIC = b"SFKSEAL1"
_DIRECTORY = struct.Struct(">HQI")
_END = struct.Struct(">HQI")
_END_TREE = 0xFFFF
#: The root itself among its entries.
_ROOT = b"."
#: Of an entry: what stands for its name, then for all of it.
_NAME_BYTES, _HASH_BYTES = 4, 12
_ENTRY = struct.Struct(">QqQI")
#: What was there when its directory was read may be gone: through the mount, which notes it.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME


@dataclass(frozen=True, slots=True)
class Changed:
    """`inode` is 0 unless content of a file may have changed. What stands at `path` is to be
    walked, from there down; with a "/" at its end it is a directory that alone
    changed."""

    tree: int
    path: bytes
    inode: int


def write(path: str, root_fds: Sequence[int], stop: Callable[[], bool]) -> bool:
    """Seal the trees, durably; may take long. False, and there is no seal, if `stop()` said so.
    Raises LocalFault or OSError."""
    temporary = f"{path}.new"
    check = zlib.crc32(_MAGIC)
    with open(temporary, "wb", opener=private_opener) as file:
        file.write(_MAGIC)
        for tree, root_fd in enumerate(root_fds):
            for _, inode, entries in _walk(root_fd):
                if stop():
                    return False
                hashes = sorted(_hash(name, status) for name, status in entries)
                record = _DIRECTORY.pack(tree, inode, len(hashes)) + b"".join(hashes)
                check = zlib.crc32(record, check)
                file.write(record)
        file.write(_END.pack(_END_TREE, check, len(root_fds)))
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_folder(path)
    return True


def compare(path: str, root_fds: Sequence[int]) -> Iterator[Changed] | None:
    """What differs from the seal; None without one. Raises LocalFault for a damaged seal (at
    once), OSError."""
    try:
        with open(path, "rb") as file:
            sealed = _read(file, len(root_fds))
    except FileNotFoundError:
        return None
    if sealed is None:
        raise LocalFault(f"the seal {path} is damaged")
    return _compared(sealed, root_fds)


def _compared(sealed: dict[tuple[int, int], bytes], root_fds: Sequence[int]) -> Iterator[Changed]:
    for tree, root_fd in enumerate(root_fds):
        for folder, inode, entries in _walk(root_fd):
            packed = sealed.get((tree, inode), b"")  # none: its parent's listing says it is new
            hashes = {packed[at : at + _HASH_BYTES] for at in range(0, len(packed), _HASH_BYTES)}
            names = Counter(each[:_NAME_BYTES] for each in hashes)
            for name, status in entries:
                found = _hash(name, status)
                there = names[found[:_NAME_BYTES]] > 0
                names[found[:_NAME_BYTES]] -= 1
                if found in hashes:
                    continue
                path = folder + b"/" + name if folder else name
                if name == _ROOT:
                    path = b"/"
                elif there and stat.S_ISDIR(status.st_mode) and (tree, status.st_ino) in sealed:
                    path += b"/"  # its names are compared by themselves
                regular = stat.S_ISREG(status.st_mode)
                yield Changed(tree, path, status.st_ino if regular else 0)
            if any(left > 0 for left in names.values()):
                yield Changed(tree, folder, 0)


def _walk(
    root_fd: int,
) -> Iterator[tuple[bytes, int, list[tuple[bytes, os.stat_result]]]]:
    """(path, inode number, entries) of every directory, parents first."""
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            fd = syscalls.openat2(root_fd, folder or b".", _OPEN)
        except OSError as error:
            if folder and error.errno in _GONE:
                continue
            raise
        try:
            own = os.fstat(fd)
            entries = list(_entries(fd))
            if not folder:
                entries.append((_ROOT, own))  # which is in no listing
        finally:
            os.close(fd)
        yield folder, own.st_ino, entries
        pending += [
            folder + b"/" + name if folder else name
            for name, status in entries
            if stat.S_ISDIR(status.st_mode) and name != _ROOT
        ]


def _entries(fd: int) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in map(os.fsencode, os.listdir(fd)):
        try:
            yield name, os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed through the mount since: that is noted there


def _hash(name: bytes, status: os.stat_result) -> bytes:
    told = _ENTRY.pack(status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode)
    own = hashlib.blake2b(name, digest_size=_NAME_BYTES).digest()
    return own + hashlib.blake2b(told + name, digest_size=_HASH_BYTES - _NAME_BYTES).digest()


def _read(file: BinaryIO, trees: int) -> dict[tuple[int, int], bytes] | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        return None
    check = zlib.crc32(_MAGIC)
    sealed: dict[tuple[int, int], bytes] = {}
    while True:
        header = file.read(_DIRECTORY.size)
        if len(header) != _DIRECTORY.size:
            return None
        tree, inode, count = _DIRECTORY.unpack(header)
        if tree == _END_TREE:
            return sealed if (inode, count) == (check, trees) else None
        if count * _HASH_BYTES > size:
            return None  # a damaged count: memory for it is not even asked for
        packed = file.read(count * _HASH_BYTES)
        check = zlib.crc32(header + packed, check)
        sealed[tree, inode] = packed
