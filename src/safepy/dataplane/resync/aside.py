"""Keeping what a resynchronisation overwrites or deletes (I19).

Everything lands once, with its attributes, under
`FOLDER/<UTC date>_<reason>/<tree number>_<tree name>/<path>`. Room is looked at first: without
room nothing is overwritten and the resynchronisation ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import ResyncFailed
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.zones import is_sparse, segments

#: Room that stays free for others on the file system of the folder.
RESERVE_BYTES = 64 << 20
_FICLONE = 0x40049409
_COPY_BYTES = 8 << 20


class Aside:
    """One folder for one resynchronisation, shared by its transfers.

    `folder` is made when the first thing is kept. `files` and `bytes` count what was.
    """

    def __init__(self, keep_dir: str, reason: str, tree_names: Sequence[str]) -> None:
        date = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        self.folder = os.path.join(keep_dir, f"{date}_{reason}")
        self.files = 0
        self.bytes = 0
        self._keep_dir = keep_dir
        self._tree_names = [
            f"{number}_{name.strip('/').replace('/', '_') or 'root'}"
            for number, name in enumerate(tree_names)
        ]
        self._seen: set[tuple[int, Path]] = set()
        self._lock = threading.Lock()
        self._breathe: Callable[[], None] = lambda: None

    def made(self, tree: int, path: Path) -> None:
        """`path` is the resynchronisation's own making: nothing of it is to be kept."""
        with self._lock:
            self._seen.add((tree, path))

    def knows_below(self, tree: int, path: Path) -> bool:
        """Whether `path` or something below it was kept or made in this resynchronisation."""
        with self._lock:
            return self._holds_ours(tree, path)

    def keep(
        self,
        tree: int,
        path: Path,
        dir_fd: int,
        going: bool,
        breathe: Callable[[], None],
        whole: bool = False,
    ) -> None:
        """Keep what stands at `path` (its last component in `dir_fd`), all below it too.

        `going`: it is removed next, so it may be moved. Once for each path. Raises ResyncFailed
        (fatal) when there is no room. `breathe` is called again and again meanwhile. `whole`: it
        stood at `path` before anything of the resynchronisation's own did.
        """
        while not self._lock.acquire(timeout=1.0):
            breathe()
        try:
            self._breathe = breathe
            if not whole and (tree, path) in self._seen:
                return
            found = trees.status(dir_fd, path[-1])
            if found is None:
                return
            try:
                target_fd = self._folder_for(tree, path[:-1])
                try:
                    self._keep(tree, path, dir_fd, found, target_fd, going, whole)
                finally:
                    os.close(target_fd)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise self._no_room(path) from error
                raise ResyncFailed(
                    f"{trees.shown(path)} cannot be kept in {self.folder}: {error.strerror}",
                    fatal=True,
                ) from error
            if not whole:
                self._seen.add((tree, path))
        finally:
            self._lock.release()

    def _keep(
        self,
        tree: int,
        path: Path,
        dir_fd: int,
        found: os.stat_result,
        target_fd: int,
        going: bool,
        whole: bool,
    ) -> None:
        name = path[-1]
        if trees.status(target_fd, name) is not None:
            name = _free_name(target_fd, name)
        mixed = not whole and S_ISDIR(found.st_mode) and self._holds_ours(tree, path)
        if going and not mixed and _moved(dir_fd, path[-1], target_fd, name):
            self._count_moved(target_fd, name)
            return
        if S_ISDIR(found.st_mode):
            self._copy_tree(tree, path, dir_fd, target_fd, name, whole)
        else:
            self._copy(dir_fd, path, found, target_fd, name)

    def _holds_ours(self, tree: int, path: Path) -> bool:
        """Whether something below was kept or made in this resynchronisation."""
        depth = len(path)
        return any(t == tree and seen[:depth] == path for t, seen in self._seen)

    def _count_moved(self, dir_fd: int, name: bytes) -> None:
        pending: list[Path] = [(name,)]
        while pending:
            path = pending.pop()
            fd = trees.open_directory(dir_fd, path[:-1])
            try:
                found = os.stat(path[-1], dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(fd)
            if S_ISDIR(found.st_mode):
                fd = trees.open_directory(dir_fd, path)
                try:
                    pending += [(*path, below) for below in trees.names_in(fd)]
                finally:
                    os.close(fd)
            else:
                self.files += 1
                self.bytes += found.st_size

    def _copy_tree(
        self, tree: int, path: Path, dir_fd: int, target_fd: int, name: bytes, whole: bool
    ) -> None:
        """Copy a directory; depth costs no recursion. Attributes last, deepest first."""
        top = path[-1]
        order: list[Path] = []
        pending: list[Path] = [()]
        while pending:
            self._breathe()
            below = pending.pop()
            order.append(below)
            source = trees.open_directory(dir_fd, (top, *below))
            try:
                parent = trees.open_directory(target_fd, (name, *below)[:-1])
                try:
                    os.mkdir((name, *below)[-1], 0o700, dir_fd=parent)
                finally:
                    os.close(parent)
                target = trees.open_directory(target_fd, (name, *below))
                try:
                    for entry in trees.names_in(source):
                        full = (*path, *below, entry)
                        found = os.stat(entry, dir_fd=source, follow_symlinks=False)
                        if not whole and (tree, full) in self._seen:
                            continue
                        if S_ISDIR(found.st_mode):
                            pending.append((*below, entry))
                        else:
                            self._copy(source, full, found, target, entry)
                finally:
                    os.close(target)
            finally:
                os.close(source)
        for below in reversed(order):
            source = trees.open_directory(dir_fd, (top, *below)[:-1])
            target = trees.open_directory(target_fd, (name, *below)[:-1])
            try:
                _copy_attributes(source, (top, *below)[-1], target, (name, *below)[-1])
            finally:
                os.close(source)
                os.close(target)

    def _copy(
        self, dir_fd: int, path: Path, found: os.stat_result, target_fd: int, name: bytes
    ) -> None:
        if S_ISREG(found.st_mode):
            self._copy_content(dir_fd, path, found, target_fd, name)
        elif S_ISLNK(found.st_mode):
            os.symlink(os.readlink(path[-1], dir_fd=dir_fd), name, dir_fd=target_fd)
        else:
            os.mknod(name, S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=target_fd)
        _copy_attributes(dir_fd, path[-1], target_fd, name)
        self.files += 1
        self.bytes += found.st_size

    def _copy_content(
        self, dir_fd: int, path: Path, found: os.stat_result, target_fd: int, name: bytes
    ) -> None:
        source = trees.open_file(dir_fd, path[-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            target = os.open(name, flags, 0o600, dir_fd=target_fd)
            try:
                if not _cloned(source, target):
                    self._check_room(target_fd, found.st_blocks * 512, path)
                    _copy_data(source, target, found, self._breathe)
            except OSError:
                os.unlink(name, dir_fd=target_fd)
                raise
            except ResyncFailed:
                os.unlink(name, dir_fd=target_fd)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _check_room(self, target_fd: int, needed_bytes: int, path: Path) -> None:
        room = os.fstatvfs(target_fd)
        if room.f_bavail * room.f_frsize < needed_bytes + RESERVE_BYTES:
            raise self._no_room(path)

    def _no_room(self, path: Path) -> ResyncFailed:
        return ResyncFailed(
            f"no room in {self._keep_dir} to keep {trees.shown(path)} before it is overwritten; "
            "make room, or remove what is not needed from the replicated directory of this node",
            fatal=True,
        )

    def _folder_for(self, tree: int, path: Path) -> int:
        """A descriptor of the folder that takes what stands in `path`."""
        os.makedirs(self._keep_dir, mode=0o700, exist_ok=True)
        top = os.fsencode(os.path.basename(self.folder))
        fd = os.open(self._keep_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in (top, os.fsencode(self._tree_names[tree]), *path):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=fd)
                deeper = os.open(
                    name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
                )
            finally:
                os.close(fd)
            fd = deeper
        return fd


def _moved(dir_fd: int, name: bytes, target_fd: int, target: bytes) -> bool:
    try:
        os.rename(name, target, src_dir_fd=dir_fd, dst_dir_fd=target_fd)
    except OSError as error:
        if error.errno == errno.EXDEV:  # Also between two mounts of one file system.
            return False
        raise
    return True


def _cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def _copy_data(
    source: int, target: int, found: os.stat_result, breathe: Callable[[], None]
) -> None:
    for start, end, is_data in segments(source, 0, found.st_size, is_sparse(found)):
        at = start
        while is_data and at < end:
            data = os.pread(source, min(_COPY_BYTES, end - at), at)
            if not data:
                break
            os.pwrite(target, data, at)
            breathe()
            at += len(data)
    os.ftruncate(target, found.st_size)


def _copy_attributes(dir_fd: int, name: bytes, target_fd: int, target: bytes) -> None:
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    entry = trees.entry_of(dir_fd, name, found, acl=True)
    trees.apply_attributes(target_fd, target, entry, acl=True)


def _free_name(dir_fd: int, name: bytes) -> bytes:
    """Another name, for what stands at a path that was kept before in another form."""
    number = 1
    while trees.status(dir_fd, b"%s.%d" % (name[:240], number)) is not None:
        number += 1
    return b"%s.%d" % (name[:240], number)
