"""A disk that loses power: what was synced is there afterwards, and a random part of the rest.

`watch` puts a seam in front of every call that changes files (the functions of `os` and of
`storage/syscalls.py`), for whole processes with all their threads. Each call below a watched folder
is carried out on real files (on tmpfs) and leaves a picture of what it touched. `Disk.after_cut`
makes a new folder as a journaling file system (ext4, ordered data) could show it after the cut:

- Names, types, attributes and sizes are those of one moment, not before the last commit of the
  journal: a prefix of the changes.
- Each 4 KiB page of a file is any version from its last sync on; a page that a kept change of size
  brought in has its data. Now and then a page is torn between two versions, at 512 bytes.
- fsync and syncfs commit the journal; fdatasync does if the size changed.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safepy.storage import syscalls

PAGE = 4096
SECTOR = 512


class PowerCut(BaseException):
    """Nothing of this node runs any more. No `except` of the product may catch it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One inode at one moment."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    rdev: int
    link: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    content: bytes
    children: tuple[tuple[bytes, int], ...]


@dataclass(slots=True)
class Inode:
    """`versions`: (moment, picture), oldest first. `synced`: the moment of its last sync."""

    versions: list[tuple[int, Picture]] = field(default_factory=list)
    synced: int = 0

    def at(self, moment: int) -> Picture | None:
        found = None
        for when, picture in self.versions:
            if when > moment:
                break
            found = picture
        return found


class Disk:
    """What happened below `root` since it was made. `cut_at`: the call at which the power goes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = os.fsencode(root) + b"/"
        self.moment = 0
        self.cut_at: int | None = None
        self.dead = False
        self._committed = 0
        self._inodes: dict[int, Inode] = {}
        self._root_inode = os.stat(root).st_ino
        for folder, _, names in os.walk(os.fsencode(root)):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                self._look(path)

    def has(self, path: bytes) -> bool:
        return path.startswith(self._prefix) or path == self._prefix[:-1]

    def before(self) -> None:
        """A call is about to change something. Raises PowerCut."""
        if not self.dead and self.cut_at is not None and self.moment >= self.cut_at:
            self.dead = True
        if self.dead:
            raise PowerCut
        self.moment += 1

    def touched(self, *paths: bytes) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._look(path)

    def sync(self, path: bytes, data_only: bool) -> None:
        self.touched(path)
        inode = self._inodes[os.stat(path).st_ino]
        before, now = inode.at(self._committed), inode.at(self.moment)
        if (
            not data_only
            or before is None
            or now is None
            or len(before.content) != len(now.content)
        ):
            self._committed = self.moment
        inode.synced = self.moment

    def sync_all(self) -> None:
        self._committed = self.moment
        for inode in self._inodes.values():
            inode.synced = self.moment

    def after_cut(self, target: Path, rng: random.Random) -> dict[int, int]:
        """Make `target` what the disk shows when the power is back. Returns the new number of each
        inode: a real disk keeps them."""
        some = rng.randint(self._committed, self.moment)
        moment = rng.choice((self._committed, self.moment, some))
        made: dict[int, bytes] = {}
        self._restore(self._root_inode, os.fsencode(target), moment, rng, made)
        return {number: os.lstat(path).st_ino for number, path in made.items()}

    # -- pictures ----------------------------------------

    def _look(self, path: bytes) -> None:
        """Note what stands at `path` (a name, or /proc/self/fd/N), and below it what is new."""
        follow = path.startswith(b"/proc/")
        st = os.stat(path, follow_symlinks=follow)
        inode = self._inodes.setdefault(st.st_ino, Inode())
        children: list[tuple[bytes, int]] = []
        content = link = b""
        if stat.S_ISDIR(st.st_mode):
            for name in sorted(os.listdir(path)):
                below = path + b"/" + name
                number = os.lstat(below).st_ino
                children.append((name, number))
                if number not in self._inodes:
                    self._look(below)
        elif stat.S_ISREG(st.st_mode):
            with _REAL_OPEN(path, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(st.st_mode) and not follow:
            link = os.readlink(path)
        xattrs = tuple(
            (name, os.getxattr(path, name, follow_symlinks=follow))
            for name in sorted(os.listxattr(path, follow_symlinks=follow))
        )
        times = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev)
        inode.versions.append(
            (self.moment, Picture(*times, link, xattrs, content, tuple(children)))
        )

    # -- after the cut ----------------------------------------

    def _restore(
        self, number: int, path: bytes, moment: int, rng: random.Random, made: dict[int, bytes]
    ) -> None:
        inode = self._inodes[number]
        picture = inode.at(moment)
        assert picture is not None, "a name of something that was not made yet"
        if number in made:
            os.link(made[number], path, follow_symlinks=False)
            return
        kind = stat.S_IFMT(picture.mode)
        if kind == stat.S_IFDIR:
            made[number] = path
            os.makedirs(path, exist_ok=True)
            for name, child in picture.children:
                self._restore(child, path + b"/" + name, moment, rng, made)
        elif kind == stat.S_IFREG:
            made[number] = path
            with _REAL_OPEN(path, "wb") as file:
                file.write(_content(inode, moment, rng))
        elif kind == stat.S_IFLNK:
            os.symlink(picture.link, path)
        else:
            made[number] = path
            os.mknod(path, picture.mode, picture.rdev)
        if kind != stat.S_IFLNK:
            os.chown(path, picture.uid, picture.gid)
            os.chmod(path, stat.S_IMODE(picture.mode))
            for name, value in picture.xattrs:
                os.setxattr(path, name, value)
        os.utime(path, ns=(0, picture.mtime_ns), follow_symlinks=False)


def _content(inode: Inode, moment: int, rng: random.Random) -> bytes:
    picture = inode.at(moment)
    assert picture is not None
    pages = []
    for start in range(0, len(picture.content), PAGE):
        end = min(start + PAGE, len(picture.content))
        candidates = _candidates(inode, moment, start, end)
        page = rng.choice((candidates[0], candidates[-1], rng.choice(candidates)))
        if rng.random() < 0.1:
            other = rng.choice(candidates)
            at = SECTOR * rng.randint(0, PAGE // SECTOR)
            page = page[:at] + other[at:]
        pages.append(page)
    return b"".join(pages)


def _candidates(inode: Inode, moment: int, start: int, end: int) -> list[bytes]:
    """What this page may hold: every version from its last sync on, or since it came to be."""
    found: list[bytes] = []
    for when, picture in inode.versions:
        short = len(picture.content) <= start
        if when <= inode.synced or (short and when <= moment):
            found = []  # older than the sync, or gone: the page begins anew
        if short:
            if when > moment:
                break  # cut off later: new blocks, the journal does not know them
            continue
        found.append(picture.content[start:end].ljust(end - start, b"\0"))
    return found


# -- the seam ----------------------------------------------------------------------------------

_REAL_OPEN = open
_LOCK = threading.RLock()
_watched: list[Disk] = []

#: (names of functions of `os`, whether their first argument is a path or descriptor to look at)
_BY_TARGET = ("pwrite", "ftruncate", "truncate", "fchmod", "fchown", "chmod", "chown", "utime")
_BY_XATTR = ("setxattr", "removexattr")
_BY_NAME = ("mkdir", "mknod", "unlink", "rmdir", "symlink")
_TWO_NAMES = ("rename", "replace", "link")


def _place(target: Any, dir_fd: int | None = None) -> bytes:
    """The path of a descriptor or name as the kernel knows it, the last component not followed."""
    if isinstance(target, int):
        path = os.readlink(b"/proc/self/fd/%d" % target)
        return path.removesuffix(b" (deleted)")
    path = os.fsencode(target)
    if not path.startswith(b"/"):
        path = (os.getcwdb() if dir_fd is None else _place(dir_fd)) + b"/" + path
    elif path.startswith(b"/proc/self/fd/"):
        number, _, rest = path[14:].partition(b"/")
        path = _place(int(number)) + (b"/" + rest if rest else b"")
    return os.path.normpath(path)


def _disk(path: bytes) -> Disk | None:
    return next((disk for disk in _watched if disk.has(path)), None)


@contextlib.contextmanager
def _changing(*paths: bytes) -> Iterator[None]:
    """Around a call that changes what stands at these places."""
    with _LOCK:
        disk = next((found for path in paths if (found := _disk(path)) is not None), None)
        if disk is None:
            yield
            return
        disk.before()
        yield
        disk.touched(*paths)


def _look_at(target: Any, path: bytes) -> bytes:
    return b"/proc/self/fd/%d" % target if isinstance(target, int) else path


def _by_target(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(target: Any, *args: Any, **named: Any) -> Any:
        path = _place(target, named.get("dir_fd"))
        if _disk(path) is None:
            return real(target, *args, **named)
        with _changing(path, _look_at(target, path)):
            return real(target, *args, **named)

    return call


def _by_name(real: Callable[..., Any], index: int) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        path = _place(args[index], named.get("dir_fd"))
        with _changing(os.path.dirname(path), path):
            return real(*args, **named)

    return call


def _two_names(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(first: Any, second: Any, *args: Any, **named: Any) -> Any:
        one = _place(first, named.get("src_dir_fd"))
        two = _place(second, named.get("dst_dir_fd"))
        with _changing(os.path.dirname(one), os.path.dirname(two), two):
            return real(first, second, *args, **named)

    return call


def _syncing(real: Callable[..., Any], data_only: bool) -> Callable[..., Any]:
    def call(fd: int) -> Any:
        disk = _disk(_place(fd))
        if disk is None:
            return real(fd)
        with _LOCK:
            disk.before()
            disk.sync(b"/proc/self/fd/%d" % fd, data_only)
        return None

    return call


def _opening(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
        if not flags & (os.O_CREAT | os.O_TRUNC) and flags & os.O_TMPFILE != os.O_TMPFILE:
            return real(path, flags, mode, dir_fd=dir_fd)
        where = _place(path, dir_fd)
        with _changing(os.path.dirname(where), where):
            return real(path, flags, mode, dir_fd=dir_fd)

    return call


def _system_call(real: Callable[..., Any]) -> Callable[..., Any]:
    """`syscalls._call`: functions of libc that `os` does not have."""

    def call(function: Any, *args: Any) -> Any:
        name = function.__name__
        if name == "syncfs":
            disk = _disk(_place(args[0]))
            if disk is None:
                return real(function, *args)
            with _LOCK:
                disk.before()
                disk.sync_all()
            return 0
        if name in ("renameat2", "linkat"):
            one, two = _place(args[1], args[0]), _place(args[3], args[2])
            with _changing(os.path.dirname(one), os.path.dirname(two), two):
                return real(function, *args)
        if name == "fallocate":
            path = _place(args[0])
            with _changing(path, b"/proc/self/fd/%d" % args[0]):
                return real(function, *args)
        return real(function, *args)

    return call


@contextlib.contextmanager
def seam() -> Iterator[list[Disk]]:
    """The list of watched disks; whoever adds one hears of every change below its root."""
    patched: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, name: str, wrapped: Callable[..., Any]) -> None:
        patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, wrapped)

    for name in (*_BY_TARGET, *_BY_XATTR):
        patch(os, name, _by_target(getattr(os, name)))
    for name in _BY_NAME:
        patch(os, name, _by_name(getattr(os, name), 1 if name == "symlink" else 0))
    for name in _TWO_NAMES:
        patch(os, name, _two_names(getattr(os, name)))
    patch(os, "fsync", _syncing(os.fsync, False))
    patch(os, "fdatasync", _syncing(os.fdatasync, True))
    patch(os, "open", _opening(os.open))
    patch(syscalls, "set_times", _by_target(syscalls.set_times))
    patch(syscalls, "_call", _system_call(syscalls._call))
    patch(threading, "excepthook", _quiet(threading.excepthook))
    try:
        yield _watched
    finally:
        _watched.clear()
        for owner, name, original in reversed(patched):
            setattr(owner, name, original)


def _quiet(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def hook(args: Any) -> None:
        if args.exc_type is not PowerCut:
            real(args)

    return hook
