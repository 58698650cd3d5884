"""Everything there is to say about a tree, to be compared with another one's."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

Entry = dict[str, object]


def picture(root: Path) -> dict[bytes, Entry]:
    """Each path with its contents and metadata; times of access and change left out."""
    seen: dict[bytes, Entry] = {}
    names: dict[int, list[bytes]] = {}
    top = os.fsencode(root)
    pending = [b"."]
    while pending:
        path = pending.pop()
        full = top + b"/" + path
        st = os.lstat(full)
        entry: Entry = {
            "mode": oct(st.st_mode),
            "owner": (st.st_uid, st.st_gid),
            "mtime": st.st_mtime_ns,
            "nlink": st.st_nlink,
            "rdev": st.st_rdev,
            "xattrs": _xattrs(full),
        }
        if stat.S_ISDIR(st.st_mode):
            pending += sorted(path + b"/" + name for name in os.listdir(full))
        else:
            names.setdefault(st.st_ino, []).append(path)
        if stat.S_ISLNK(st.st_mode):
            entry["target"] = os.readlink(full)
        elif stat.S_ISREG(st.st_mode):
            entry["size"] = st.st_size
            entry["content"], entry["data"] = _content(full)
        seen[path] = entry
    for paths in names.values():
        for path in paths:
            seen[path]["same file"] = sorted(paths)
    return seen


def differences(
    one: dict[bytes, Entry], other: dict[bytes, Entry], ignore: Collection[str] = ()
) -> list[str]:
    said = []
    for path in sorted(one.keys() | other.keys()):
        a, b = one.get(path), other.get(path)
        if a is None or b is None:
            said.append(f"{path!r}: only in the {'second' if a is None else 'first'}: {a or b}")
            continue
        said += [
            f"{path!r}: {key}: {a.get(key)} != {b.get(key)}"
            for key in sorted(a.keys() | b.keys())
            if a.get(key) != b.get(key) and key not in ignore
        ]
    return said


def _xattrs(path: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in sorted(os.listxattr(path, follow_symlinks=False))
        if not name.startswith("trusted.safekit")
    }


def _content(path: bytes) -> tuple[str, list[tuple[int, int]]]:
    """(digest, extents that are not holes)"""
    extents: list[tuple[int, int]] = []
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        end = os.fstat(fd).st_size
        at = 0
        while at < end:
            piece = os.pread(fd, 1 << 20, at)
            digest.update(piece)
            at += len(piece) or end
        at = 0
        while at < end:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            stop = os.lseek(fd, at, os.SEEK_HOLE)
            extents.append((at, stop))
            at = stop
    finally:
        os.close(fd)
    return digest.hexdigest()[:16], extents
