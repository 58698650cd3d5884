"""The objects of one replicated tree that somebody has a handle of, and how to reach each.

An object is one inode, so hard links share it. It is reached by its descriptor, else by a name in
a parent object; a nameless one (unlinked but in use) lives by its descriptor alone, which is
therefore never closed before it is released. As long as a descriptor is open the inode
number cannot be given to another file, so a number in the table always means what it meant.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from heapq import nsmallest

from safepy.core.replica.ops import ROOT

_COMMON = os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = _COMMON | os.O_NOATIME | os.O_NONBLOCK
DIRECTORY_FLAGS = _COMMON | os.O_NOATIME | os.O_DIRECTORY | os.O_RDONLY
_OTHER = _COMMON | os.O_PATH
#: What forbids writing but not reading: immutable file, file system turned read-only, running.
_READ_ONLY_ERRORS = frozenset({errno.EPERM, errno.EACCES, errno.EROFS, errno.ETXTBSY})


def stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))


class Object:
    """One inode. `handle` is 0 while nobody asked for one (a parent on the way to a child).

    `names` are the known (parent, name) pairs, not necessarily all there are; `children` the
    known entries of a directory. `fd` is -1 while closed; `writable` speaks of `fd`,
    `used` is the table's generation at its last use.
    """

    __slots__ = ("children", "fd", "handle", "key", "kind", "names", "used", "writable")

    def __init__(self, key: tuple[int, int], kind: int) -> None:
        self.handle = 0
        self.key = key
        self.kind = kind
        self.names: list[tuple[Object, bytes]] = []
        self.children: dict[bytes, Object] = {}
        self.fd = -1
        self.writable = False
        self.used = 0

    @property
    def is_directory(self) -> bool:
        return self.kind == stat.S_IFDIR

    @property
    def is_regular(self) -> bool:
        return self.kind == stat.S_IFREG

    @property
    def path_only(self) -> bool:
        """The descriptor is O_PATH: neither read nor written, attributes by another way."""
        return not (self.is_regular or self.is_directory)


class ObjectTable:
    """Handles to objects. `root_fd` is not closed here; at most about `open_limit` other
    descriptors are kept open (nameless objects excepted: they live by theirs)."""

    def __init__(self, root_fd: int, open_limit: int) -> None:
        assert open_limit >= 8, "an operation needs several descriptors at once"
        self._limit = open_limit
        self._root_fd = root_fd
        self._by_handle: dict[int, Object] = {}
        self._by_key: dict[tuple[int, int], Object] = {}
        self._closable: dict[Object, None] = {}
        self.generation = 0
        self.next_handle = ROOT + 1
        status = os.fstat(root_fd)
        self.root = Object((status.st_dev, status.st_ino), stat.S_IFDIR)
        self.root.fd = root_fd
        self._by_key[self.root.key] = self.root
        self.name_handle(self.root, ROOT)

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def open_count(self) -> int:
        return sum(1 for found in self._by_key.values() if found.fd >= 0)

    def new_handle(self) -> int:
        handle = self.next_handle
        self.next_handle += 1
        return handle

    def get(self, handle: int) -> Object:
        """Raises ESTALE for a handle that names nothing."""
        found = self._by_handle.get(handle)
        if found is None:
            raise stale()
        return found

    def directory(self, handle: int) -> Object:
        found = self.get(handle)
        if not found.is_directory:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return found

    # -- bookkeeping of names -------------------------------------------------------------

    def knows(self, handle: int) -> bool:
        return handle in self._by_handle

    def name_handle(self, found: Object, handle: int) -> None:
        """`handle` names this object from now on, and no other handle does."""
        if found.handle and found.handle != handle:
            self._by_handle.pop(found.handle, None)
        self._by_handle[handle] = found
        found.handle = handle
        if handle >= self.next_handle:
            self.next_handle = handle + 1

    def enter(
        self, parent: Object, name: bytes, status: os.stat_result, new: bool = False
    ) -> Object:
        """The object that stands at `name` in `parent`, as `status` says.

        `new`: it was just created, so what the table knows of its inode number is of the past.
        """
        key, kind = (status.st_dev, status.st_ino), stat.S_IFMT(status.st_mode)
        there = parent.children.get(name)
        found = self._by_key.get(key)
        if found is not None and found is there and found.kind == kind and not new:
            return found
        if there is not None:  # replaced behind our back
            self._unname(there, parent, name)
        if found is None or found.kind != kind or new:
            found = Object(key, kind)
            self._by_key[key] = found
        elif status.st_nlink == 1 or found.is_directory:
            for old_parent, old_name in list(found.names):  # has one name only: this one
                self._unname(found, old_parent, old_name)
        self.attach(found, parent, name)
        return found

    def enter_nameless(self, fd: int, status: os.stat_result) -> Object:
        """Takes over the writable descriptor of an unnamed file."""
        found = Object((status.st_dev, status.st_ino), stat.S_IFMT(status.st_mode))
        found.fd, found.writable = fd, True
        self._by_key[found.key] = found
        return found

    def adopt_descriptor(self, found: Object, fd: int) -> None:
        """Takes over a writable descriptor that the caller opened."""
        assert found.fd < 0
        found.fd, found.writable, found.used = fd, True, self.generation
        self._closable[found] = None
        if len(self._closable) > self._limit:
            self._make_room()

    def attach(self, found: Object, parent: Object, name: bytes) -> None:
        if parent.children.get(name) is found:
            return
        found.names.append((parent, name))
        parent.children[name] = found
        self._by_key.setdefault(found.key, found)  # a closed one lost it with its last name
        if len(found.names) == 1 and found.fd >= 0 and found is not self.root:
            self._closable[found] = None

    def detach(self, parent: Object, name: bytes) -> None:
        """The known object at this name, if any, does not stand there any more."""
        found = parent.children.get(name)
        if found is not None:
            self._unname(found, parent, name)
            self._drop_unused(parent)

    def release(self, handle: int) -> None:
        """Nobody uses this handle any more."""
        found = self._by_handle.pop(handle, None)
        if found is not None and found.handle == handle and found is not self.root:
            found.handle = 0
            self._drop_unused(found)

    def prune(self, found: Object) -> None:
        """Forget an object that was only entered on the way to another one."""
        self._drop_unused(found)

    def clear(self) -> None:
        """Forget everything but the root; handles go on counting."""
        for found in list(self._by_key.values()):
            if found is not self.root:
                self._close(found)
        root = self.root
        root.children.clear()
        self._closable.clear()
        self._by_handle = {ROOT: root}
        self._by_key = {root.key: root}

    def path_of(self, found: Object) -> bytes | None:
        """The present path from the root (b"" for the root itself); None without a name."""
        parts: list[bytes] = []
        while found is not self.root:
            if not found.names:
                return None
            found, name = found.names[0]
            parts.append(name)
        parts.reverse()
        return b"/".join(parts)

    # -- descriptors ----------------------------------------------------------------------

    def descriptor(self, found: Object) -> int:
        """An open descriptor: of a file or directory a real one, else O_PATH.

        It may be closed by the next call here: use it at once, or see `hold_open`.
        """
        if found.fd >= 0:
            found.used = self.generation
            return found.fd
        if len(self._closable) >= self._limit:
            self._make_room()
        for missing in self._closed_chain(found):
            self._open_by_name(missing)
        return found.fd

    def writable(self, found: Object) -> int:
        """A descriptor for writing; raises the errno that opening for writing gives."""
        fd = self.descriptor(found)
        if found.writable:
            return fd
        if not found.is_regular:
            number = errno.EISDIR if found.is_directory else errno.EINVAL
            raise OSError(number, os.strerror(number))
        better = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | (_FILE & ~os.O_NOFOLLOW))
        os.close(fd)
        found.fd, found.writable = better, True
        return better

    def hold_open(self, *wanted: Object) -> None:
        """All of these have an open descriptor at the same time when this returns."""
        while True:
            for found in wanted:
                self.descriptor(found)
            # Opening one may have closed another, but those just used are the last to be closed.
            if all(found.fd >= 0 for found in wanted):
                return

    def target(self, found: Object) -> int | str:
        """What `os.chmod`, `os.setxattr` and the like take to reach exactly this object."""
        fd = self.descriptor(found)
        return f"/proc/self/fd/{fd}" if found.path_only else fd

    def _closed_chain(self, found: Object) -> Iterator[Object]:
        """The object and its closed ancestors, topmost first."""
        chain: list[Object] = []
        while found.fd < 0:
            chain.append(found)
            if not found.names:
                raise stale()
            found = found.names[0][0]
        return reversed(chain)

    def _open_by_name(self, found: Object) -> None:
        for parent, name in list(found.names):
            try:
                fd, writable = _open(found.kind, name, self.descriptor(parent))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
                    raise
            else:
                status = os.fstat(fd)
                if (status.st_dev, status.st_ino) == found.key:
                    found.fd, found.writable, found.used = fd, writable, self.generation
                    self._closable[found] = None
                    return
                os.close(fd)
            # Something else stands there (changed behind our back): try another name.
            if len(found.names) > 1:
                self.detach(parent, name)
        raise stale()

    def _make_room(self) -> None:
        """Close an eighth of the descriptors: those not used for the longest time.

        A generation is the time between two such moments; more precise need it not be.
        """
        self.generation += 1
        closable = self._closable
        count = len(closable) - (self._limit - self._limit // 8 - 1)
        for found in nsmallest(count, closable, key=lambda candidate: candidate.used):
            del closable[found]
            self._close(found)

    def _unname(self, found: Object, parent: Object, name: bytes) -> None:
        del parent.children[name]
        found.names.remove((parent, name))
        if not found.names:
            self._closable.pop(found, None)
            if found.fd < 0 and self._by_key.get(found.key) is found:
                del self._by_key[found.key]  # unreachable; its number may be given away

    def _close(self, found: Object) -> None:
        if found.fd >= 0:
            os.close(found.fd)
            found.fd = -1
            found.writable = False

    def _drop_unused(self, first: Object) -> None:
        """Forget an object nobody names any more, then parents only kept for its sake."""
        pending = [first]
        while pending:
            found = pending.pop()
            if found.handle or found.children or found is self.root:
                continue
            self._closable.pop(found, None)
            self._close(found)
            if self._by_key.get(found.key) is found:
                del self._by_key[found.key]
            for parent, name in found.names:
                parent.children.pop(name, None)
                pending.append(parent)
            found.names.clear()


def _open(kind: int, name: bytes, dir_fd: int) -> tuple[int, bool]:
    """(descriptor, writable)"""
    if kind == stat.S_IFDIR:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=dir_fd), False
    if kind != stat.S_IFREG:
        return os.open(name, _OTHER, dir_fd=dir_fd), False
    try:
        return os.open(name, _FILE | os.O_RDWR, dir_fd=dir_fd), True
    except OSError as error:
        if error.errno not in _READ_ONLY_ERRORS:
            raise
    return os.open(name, _FILE | os.O_RDONLY, dir_fd=dir_fd), False
