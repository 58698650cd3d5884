"""The one seam through which the data plane touches the real files of a replicated directory.

One thread uses a `Tree`. Errors are `OSError` with the errno of the backing file system;
an unknown or unreachable handle is ESTALE. While one of these calls creates something the
process's umask is that of the application: other threads set modes explicitly.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from msgspec.structs import replace

from safepy.core.replica.ops import (
    ROOT,
    Fallocate,
    Fsync,
    Make,
    Op,
    Rename,
    SetAttr,
    SetXattr,
    Stamps,
    Symlink,
    Tmpfile,
    Write,
)
from safepy.storage import idents, syscalls
from safepy.storage.changes import (
    Changes,
    Outcome,
    component,
    failure,
    hidden_xattr,
)
from safepy.storage.listing import Listing
from safepy.storage.objects import DIRECTORY_FLAGS, Object, ObjectTable

CHUNK_BYTES = 128 * 1024
#: What the kernel asks for at most in one read of a file.
READ_BYTES = 1 << 20
_HIGHEST_OFFSET = (1 << 63) - 1


class Tree:
    """One replicated directory. `root_fd` (of the private door, a real descriptor) belongs to
    the tree from now on, until `close`.

    `index` is its number in the module; `acl` whether POSIX ACLs are replicated. `on_release`
    hears of every handle that is released.
    """

    def __init__(self, root_fd: int, index: int, acl: bool, open_limit: int = 4096) -> None:
        self.index = index
        self.acl = acl
        self._root_fd = root_fd
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._byte = bytearray(1)
        self._objects = ObjectTable(root_fd, open_limit)
        self._changes = Changes(self._objects, acl)
        self._table: dict[type[Op], Callable[[Any], Outcome]] = dict(self._changes.table)
        self._table[Fsync] = self._sync
        self._listings: WeakSet[Listing] = WeakSet()
        self.on_release: Callable[[int], None] | None = None

    # -- handles --------------------------------------------------------------------------

    def new_handle(self) -> int:
        """A number never used before in this tree, for an object about to be created."""
        return self._objects.new_handle()

    @property
    def next_handle(self) -> int:
        """Every handle that is new from now on is at least this."""
        return self._objects.next_handle

    def release(self, handle: int) -> None:
        """Nobody uses this handle any more; unknown ones do not matter."""
        self._objects.release(handle)
        if self.on_release is not None:
            self.on_release(handle)

    def close(self) -> None:
        """Close every descriptor; only handles of a new tree are worth anything then."""
        for listing in list(self._listings):
            listing.close()
        self._objects.clear()
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def path_of(self, handle: int) -> bytes | None:
        """The present path from the root, without a leading "/"; None if it has no name.

        A file whose known names are gone but which still has links (hard links nobody looked up)
        is searched for: slow, and rare.
        """
        found = self._objects.get(handle)
        path = self._objects.path_of(found)
        if path is None and self._find_name(found):
            path = self._objects.path_of(found)
        return path

    def ident_of(self, handle: int) -> bytes:
        """The id of a file or directory (protocol 4.2), b"" if it has none."""
        found = self._objects.get(handle)
        if found.path_only:
            return b""
        return idents.of(self._objects.descriptor(found))

    def takes_ident(self, handle: int) -> bool:
        """Only files and directories have ids."""
        return not self._objects.get(handle).path_only

    def is_directory(self, handle: int) -> bool:
        return self._objects.get(handle).is_directory

    def inode_of(self, handle: int) -> int:
        return self._objects.get(handle).key[1]

    def known_at(self, parent: int, name: bytes) -> int:
        """The handle that is known to stand there, or 0."""
        there = self._objects.get(parent).children.get(name)
        return 0 if there is None else there.handle

    # -- reading --------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> tuple[int, os.stat_result]:
        """(handle, status); the handle is new if nobody had one for this object."""
        objects = self._objects
        folder = objects.directory(parent)
        dir_fd = objects.descriptor(folder)
        status = os.stat(component(name), dir_fd=dir_fd, follow_symlinks=False)
        found = objects.enter(folder, name, status)
        if not found.handle:
            objects.name_handle(found, objects.new_handle())
        return found.handle, status

    def stat(self, handle: int) -> os.stat_result:
        found = self._objects.get(handle)
        if found.fd < 0 and found.path_only and found.names:  # spares opening every link
            parent, name = found.names[0]
            dir_fd = self._objects.descriptor(parent)
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if (status.st_dev, status.st_ino) == found.key:
                return status
        return os.fstat(self._objects.descriptor(found))

    def readlink(self, handle: int) -> bytes:
        found = self._objects.get(handle)
        if found.kind != stat.S_IFLNK:
            raise failure(errno.EINVAL)
        # an empty path with a descriptor means the link itself
        return os.readlink(b"", dir_fd=self._objects.descriptor(found))

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return os.pread(self._file(handle), size, offset)

    def read_cached(self, handle: int, offset: int, size: int) -> memoryview | None:
        """As `read`, but None if the disk would have to be waited for (use a thread then:
        `duplicate` and `os.pread`). What is given holds until the next call."""
        fd = self._file(handle)
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        buffer = self._buffer
        try:
            count = os.preadv(fd, (buffer[:size],), offset, os.RWF_NOWAIT)
            # Either the file ends here, or what follows is not in memory.
            if 0 < count < size and os.preadv(fd, (self._byte,), offset + count, os.RWF_NOWAIT):
                return None
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            if error.errno != errno.EOPNOTSUPP:
                raise
            count = os.preadv(fd, (buffer[:size],), offset)  # a file system that cannot tell
        return buffer[:count]

    def duplicate(self, handle: int) -> int:
        """A descriptor of a file or directory for another thread, which closes it."""
        found = self._objects.get(handle)
        if found.path_only:
            raise failure(errno.EINVAL)
        return os.dup(self._objects.descriptor(found))

    def open_directory(self, handle: int) -> Listing:
        """To be read in portions; closed by its user, at the latest by `close`."""
        folder = self._objects.descriptor(self._objects.directory(handle))
        listing = Listing(os.open(b".", DIRECTORY_FLAGS, dir_fd=folder))
        self._listings.add(listing)
        return listing

    def getxattr(self, handle: int, name: bytes) -> bytes:
        if hidden_xattr(name, self.acl):
            raise failure(errno.ENODATA)
        return os.getxattr(self._target(handle), name)

    def listxattr(self, handle: int) -> list[bytes]:
        names = map(os.fsencode, os.listxattr(self._target(handle)))
        return [name for name in names if not hidden_xattr(name, self.acl)]

    def lseek(self, handle: int, offset: int, whence: int) -> int:
        return os.lseek(self._file(handle), offset, whence)

    def statfs(self) -> os.statvfs_result:
        return os.fstatvfs(self._root_fd)

    # -- changing -------------------------------------------------------------------------

    def apply(self, op: Op) -> Any:
        """Do as `op` says, and set the times it carries.

        Returns the count of a Write, the status of Make, Tmpfile, Symlink, Link and SetAttr,
        else None. A short Write is no error here. An Fsync is waited for.
        """
        if type(op) is Write:  # the hot path of the node that follows
            result, found = self._write(op)
            for handle, mtime_ns in op.stamps:
                if handle != op.handle:
                    raise failure(errno.EINVAL)
                syscalls.set_mtime(found.fd, mtime_ns)
            return result
        result, _ = self._table[type(op)](op)
        for handle, mtime_ns in getattr(op, "stamps", ()):
            fd = self._objects.descriptor(self._objects.get(handle))
            syscalls.set_times(fd, None, mtime_ns)
        return result

    def apply_local(self, op: Op) -> tuple[Any, Op]:
        """Apply on the node that leads: (result, the operation as the peer must repeat it)."""
        if type(op) is Write:  # the hot path
            count, found = self._write(op)
            data = op.data if count == len(op.data) else op.data[:count]
            stamps = ((op.handle, os.fstat(found.fd).st_mtime_ns),)
            return count, Write(op.handle, op.offset, data, op.kill_priv, stamps)
        result, touched = self._table[type(op)](op)
        if not touched:
            return result, op
        return result, replace(op, stamps=self._stamps(touched))

    def _write(self, op: Write) -> tuple[int, Object]:
        """(bytes written, what has an open descriptor now)"""
        found = self._objects.get(op.handle)
        fd = found.fd if found.writable else self._objects.writable(found)
        found.used = self._objects.generation
        count = os.pwrite(fd, op.data, op.offset)
        if op.kill_priv:
            self._changes.kill_privileges(found)
        return count, found

    def sync_descriptor(self, op: Fsync) -> int:
        """A descriptor for `run_sync`, to be called in another thread."""
        if not op.handle:
            return os.dup(self._root_fd)
        return self.duplicate(op.handle)

    # -- telling the peer more than the operation itself -------------------------------------

    def contents(self, handle: int, offset: int = 0, end: int = _HIGHEST_OFFSET) -> Iterator[Write]:
        """The data of a file as operations; holes are left out."""
        fd = self._file(handle)
        for start, length in syscalls.data_extents(fd, offset, end):
            for at in range(start, start + length, CHUNK_BYTES):
                size = min(CHUNK_BYTES, start + length - at)
                yield Write(handle, at, os.pread(self._file(handle), size, at))

    def describe_nameless(self, handle: int) -> list[Op]:
        """Operations that make an unnamed file like this one, under the same handle."""
        found = self._objects.get(handle)
        status = os.fstat(self._objects.descriptor(found))
        mode = stat.S_IMODE(status.st_mode)
        owner, ident = (status.st_uid, status.st_gid), self.ident_of(handle)
        ops: list[Op] = [Tmpfile(handle, ROOT, mode, 0, *owner, ident=ident)]
        ops += self.contents(handle)
        ops.append(SetAttr(handle, mode, status.st_uid, status.st_gid, status.st_size))
        for name in self.listxattr(handle):
            ops.append(SetXattr(handle, name, self.getxattr(handle, name), 0))
        ops.append(SetAttr(handle, mtime_ns=status.st_mtime_ns))
        return ops

    def repair(self, op: Op) -> list[Op]:
        """What the peer must do so that it equals what an operation that failed here left
        behind: some can end half done (protocol 4.1, F41)."""
        if isinstance(op, Rename):  # ext4 has touched the parents when a whiteout fails
            return [
                SetAttr(handle, mtime_ns=self.stat(handle).st_mtime_ns)
                for handle in (op.parent, op.new_parent)
                if op.flags & syscalls.RENAME_WHITEOUT
            ]
        if isinstance(op, Make | Symlink):  # made, and removed as its owner may not have it
            return [SetAttr(op.parent, mtime_ns=self.stat(op.parent).st_mtime_ns)]
        if not isinstance(op, Write | SetAttr | Fallocate):  # a failed write stamps its file
            return []
        found = self._objects.get(op.handle)
        status = os.fstat(self._objects.descriptor(found))
        ops: list[Op] = []
        emptying = syscalls.FALLOC_ZERO_RANGE | syscalls.FALLOC_PUNCH_HOLE
        if isinstance(op, Fallocate) and found.is_regular and op.mode & emptying:
            # Only within the file: what lies behind may be more than a file system can have.
            length = min(op.length, status.st_size - op.offset)
            if length > 0:
                hole = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
                ops.append(Fallocate(op.handle, hole, op.offset, length))
                ops += self.contents(op.handle, op.offset, op.offset + length)
        ops.append(
            SetAttr(
                op.handle,
                None if found.kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_size if found.is_regular else None,
                mtime_ns=status.st_mtime_ns,
            )
        )
        return ops

    def _sync(self, op: Fsync) -> Outcome:
        run_sync(op, self.sync_descriptor(op))
        return None, ()

    # -- inside ---------------------------------------------------------------------------

    def _file(self, handle: int) -> int:
        found = self._objects.get(handle)
        if not found.is_regular:
            raise failure(errno.EISDIR if found.is_directory else errno.EINVAL)
        return self._objects.descriptor(found)

    def _target(self, handle: int) -> int | str:
        return self._objects.target(self._objects.get(handle))

    def _stamps(self, touched: tuple[int, ...]) -> Stamps:
        return tuple((handle, self.stat(handle).st_mtime_ns) for handle in dict.fromkeys(touched))

    def _find_name(self, wanted: Object) -> bool:
        """Enter a name of an object that has links but no known name; False if there is none."""
        if wanted.fd < 0 or os.fstat(wanted.fd).st_nlink == 0:
            return False
        pending = [self._objects.root]
        visited: list[Object] = []
        try:
            return self._search(wanted, pending, visited)
        finally:
            for folder in reversed(visited + pending):
                self._objects.prune(folder)

    def _search(self, wanted: Object, pending: list[Object], visited: list[Object]) -> bool:
        while pending:
            folder = pending.pop()
            visited.append(folder)
            dir_fd = self._objects.descriptor(folder)
            with os.scandir(dir_fd) as entries:
                found = [
                    (os.fsencode(e.name), e.is_dir(follow_symlinks=False))
                    for e in entries
                    if e.inode() == wanted.key[1] or e.is_dir(follow_symlinks=False)
                ]
            for name, is_folder in found:
                dir_fd = self._objects.descriptor(folder)
                status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                entered = self._objects.enter(folder, name, status)
                if entered is wanted:
                    return True
                if is_folder:
                    pending.append(entered)
        return False


def run_sync(op: Fsync, fd: int) -> None:
    """Make durable what `fd` stands for, and close it. For a thread: it may take long.

    Raises the write error that the kernel reports; it reports each only once (protocol I16).
    """
    try:
        if not op.handle:
            syscalls.syncfs(fd)
        elif op.data_only:
            os.fdatasync(fd)
        else:
            os.fsync(fd)
    finally:
        os.close(fd)
