"""Two real directories for tests: an operation applied on one is replayed on the other."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from safepy.core.replica.ops import AnyOp, Op
from safepy.storage.backing import Tree

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyOp).decode


def through_the_wire(op: Op) -> Op:
    return _decode(_encode(op))  # type: ignore[no-any-return]


class Pair:
    """`here` is the primary's tree, `there` the secondary's."""

    def __init__(self, folder: Path, open_limit: int) -> None:
        self.here_path, self.there_path = folder / "here", folder / "there"
        self.here = self._tree(self.here_path, open_limit)
        self.there = self._tree(self.there_path, open_limit)

    @staticmethod
    def _tree(path: Path, open_limit: int) -> Tree:
        path.mkdir()
        os.utime(path, ns=(0, 0))
        return Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY), 0, True, open_limit)

    def do(self, op: Op) -> Any:
        """Apply here, replay there; errors here are raised and nothing is replayed."""
        result, done = self.here.apply_local(op)
        self.there.apply(through_the_wire(done))
        return result

    def difference(self, with_holes: bool = True) -> str:
        """The first difference of the two trees, or "".

        Whether preallocated space counts as a hole depends on what is in the page cache.
        """
        here = picture(self.here_path, with_holes)
        there = picture(self.there_path, with_holes)
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                return f"{name!r}: {here.get(name)} here, {there.get(name)} there"
        return ""


def picture(root: Path, with_holes: bool) -> dict[str, tuple[Any, ...]]:
    """Everything that must be equal of each path: a hard link is its group of names."""
    result: dict[str, tuple[Any, ...]] = {}
    groups: dict[int, str] = {}
    paths = [root, *sorted(root.rglob("*"))]
    for path in paths:
        status = path.lstat()
        name = str(path.relative_to(root))
        group = groups.setdefault(status.st_ino, name)
        mode = status.st_mode
        data: Any = None
        if stat.S_ISREG(mode):
            content = path.read_bytes()
            data = (len(content), hash(content), holes(path) if with_holes else ())
        elif stat.S_ISLNK(mode):
            data = os.readlink(path)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        links = 0 if stat.S_ISDIR(mode) else status.st_nlink
        owner = (status.st_uid, status.st_gid)
        rdev = status.st_rdev
        result[name] = (group, oct(mode), owner, links, rdev, status.st_mtime_ns, data, xattrs)
    return result


def holes(path: Path) -> tuple[int, ...]:
    """Starts of data and holes in turn."""
    marks: list[int] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        end, at = os.fstat(fd).st_size, 0
        while at < end:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            marks += [start, at]
    finally:
        os.close(fd)
    return tuple(marks)


@contextmanager
def make_pair(open_limit: int = 64) -> Iterator[Pair]:
    folder = mkdtemp(prefix="safepy-trees-", dir="/tmp")
    pair = Pair(Path(folder), open_limit)
    try:
        yield pair
    finally:
        pair.here.close()
        pair.there.close()
        subprocess.run(["rm", "-rf", folder], check=True)  # shutil cannot go as deep
