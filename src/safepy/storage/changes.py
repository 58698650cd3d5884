"""How each operation of `core/replica/ops.py` is carried out on real files.

The same code runs on both nodes. Everything is relative to descriptors of known objects and to
single name components that are never followed through a link (protocol S8, S9).
Each method returns (result, handles of the objects whose mtime the operation may have changed).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from safepy.core.replica.ops import (
    ROOT,
    Bind,
    Fallocate,
    Forget,
    Identify,
    Link,
    Make,
    Op,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Tmpfile,
    Unlink,
)
from safepy.storage import idents, syscalls
from safepy.storage.objects import Object, ObjectTable

NAME_MAX = 255
#: Bounds of what a peer may ask to resolve (S4, S8); far above what applications make.
BIND_PATH_MAX_BYTES = 65_536
BIND_DEPTH_MAX = 4_096
HANDLE_MAX = (1 << 63) - 1
_OFFSET_MAX = (1 << 63) - 1
_RENAME_FLAGS = syscalls.RENAME_NOREPLACE | syscalls.RENAME_EXCHANGE | syscalls.RENAME_WHITEOUT
_FALLOC_MODES = 0xFF

#: Ours, invisible and not writable through the mount or by a peer (S10).
RESERVED_XATTR = b"trusted.safekit"
_ACL_XATTR = b"system.posix_acl_"
_CAPABILITY_XATTR = b"security.capability"
_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_TMPFILE = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_NOATIME

Outcome = tuple[Any, tuple[int, ...]]


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def component(name: bytes) -> bytes:
    """One name from the wire or the kernel, checked. Raises EINVAL or ENAMETOOLONG."""
    if len(name) > NAME_MAX:
        raise failure(errno.ENAMETOOLONG)
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise failure(errno.EINVAL)
    return name


def hidden_xattr(name: bytes, acl: bool) -> bool:
    """Attributes that the mount behaves as if they did not exist."""
    return name.startswith(RESERVED_XATTR) or (not acl and name.startswith(_ACL_XATTR))


class Changes:
    """Carries out operations on the objects of one table; writes are in `backing.py`."""

    def __init__(self, objects: ObjectTable, acl: bool) -> None:
        self._objects = objects
        self._acl = acl
        self.table: dict[type[Op], Callable[[Any], Outcome]] = {
            Bind: self._bind,
            Forget: self._forget,
            SetAttr: self._set_attr,
            Fallocate: self._fallocate,
            Make: self._make,
            Tmpfile: self._tmpfile,
            Symlink: self._symlink,
            Link: self._link,
            Unlink: self._unlink,
            Rmdir: self._rmdir,
            Rename: self._rename,
            SetXattr: self._set_xattr,
            RemoveXattr: self._remove_xattr,
            Identify: self._identify,
        }

    # -- handles --------------------------------------------------------------------------

    def _check_new(self, handle: int) -> None:
        """A handle is given once: neither the root's nor one in use changes its meaning (S4)."""
        if not ROOT < handle <= HANDLE_MAX:
            raise failure(errno.EINVAL)
        if self._objects.knows(handle):
            raise failure(errno.EEXIST)

    def _bind(self, op: Bind) -> Outcome:
        objects = self._objects
        self._check_new(op.handle)
        if len(op.path) > BIND_PATH_MAX_BYTES or op.path.count(b"/") >= BIND_DEPTH_MAX:
            raise failure(errno.ENAMETOOLONG)
        found = objects.root
        for part in op.path.split(b"/") if op.path else ():
            if not found.is_directory:
                raise failure(errno.ENOTDIR)
            name = component(part)
            dir_fd = objects.descriptor(found)
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            found = objects.enter(found, name, status)
        if found is objects.root:
            raise failure(errno.EINVAL)
        objects.name_handle(found, op.handle)
        return None, ()

    def _forget(self, op: Forget) -> Outcome:
        for handle in op.handles:
            self._objects.release(handle)
        return None, ()

    # -- contents and attributes ----------------------------------------------------------

    def _fallocate(self, op: Fallocate) -> Outcome:
        # ctypes would cut larger numbers off without a word.
        if not (0 <= op.mode <= _FALLOC_MODES and 0 <= op.offset <= _OFFSET_MAX - op.length):
            raise failure(errno.EINVAL)
        if op.length <= 0:
            raise failure(errno.EINVAL)
        fd = self._objects.writable(self._objects.get(op.handle))
        syscalls.fallocate(fd, op.mode, op.offset, op.length)
        return None, (op.handle,)

    def _set_attr(self, op: SetAttr) -> Outcome:
        """The parts that fail for want of space come first: little is half done then."""
        objects = self._objects
        found = objects.get(op.handle)
        if op.size is not None:
            os.ftruncate(objects.writable(found), op.size)
        target = objects.target(found)
        if op.uid is not None or op.gid is not None or _changes_nothing(op):
            os.chown(target, -1 if op.uid is None else op.uid, -1 if op.gid is None else op.gid)
        if op.kill_priv:
            self.kill_privileges(found)
        if op.mode is not None:
            _set_mode(target, stat.S_IMODE(op.mode))
        fd = objects.descriptor(found)
        if op.atime_ns is not None or op.mtime_ns is not None:
            syscalls.set_times(fd, op.atime_ns, op.mtime_ns)
        return os.fstat(fd), (op.handle,)

    def kill_privileges(self, found: Object) -> None:
        """The duty of HANDLE_KILLPRIV_V2: root's writes keep what others' writes would clear."""
        if found.is_directory or found.kind == stat.S_IFLNK:
            return
        target = self._objects.target(found)
        mode = stat.S_IMODE(os.stat(target).st_mode)
        lost = mode & stat.S_ISUID
        if mode & stat.S_IXGRP:  # without it, the bit once meant mandatory locking
            lost |= mode & stat.S_ISGID
        if lost:
            _set_mode(target, mode & ~lost)
        try:
            os.removexattr(target, _CAPABILITY_XATTR)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise

    def _set_xattr(self, op: SetXattr) -> Outcome:
        self._check_xattr(op.name)
        found = self._objects.get(op.handle)
        target = self._objects.target(found)
        os.setxattr(target, op.name, op.value, op.flags)
        if op.kill_sgid:
            mode = stat.S_IMODE(os.fstat(self._objects.descriptor(found)).st_mode)
            _set_mode(target, mode & ~stat.S_ISGID)
        return None, ()

    def _remove_xattr(self, op: RemoveXattr) -> Outcome:
        self._check_xattr(op.name)
        os.removexattr(self._objects.target(self._objects.get(op.handle)), op.name)
        return None, ()

    def _identify(self, op: Identify) -> Outcome:
        found = self._objects.get(op.handle)
        if not (found.is_regular or found.is_directory):
            raise failure(errno.EINVAL)
        idents.give(self._objects.descriptor(found), op.ident)
        return None, ()

    def _check_xattr(self, name: bytes) -> None:
        if name.startswith(RESERVED_XATTR):
            raise failure(errno.EPERM)
        if hidden_xattr(name, self._acl):
            raise failure(errno.EOPNOTSUPP)

    # -- new objects ----------------------------------------------------------------------

    def _make(self, op: Make) -> Outcome:
        objects = self._objects
        self._check_new(op.handle)
        parent, name = objects.directory(op.parent), component(op.name)
        dir_fd = objects.descriptor(parent)
        kind, mode = stat.S_IFMT(op.mode), stat.S_IMODE(op.mode)
        fd = -1
        outer_umask = os.umask(op.umask)
        try:
            if kind == stat.S_IFREG:
                fd = os.open(name, _CREATE, mode, dir_fd=dir_fd)
            elif kind == stat.S_IFDIR:
                os.mkdir(name, mode, dir_fd=dir_fd)
            else:
                os.mknod(name, op.mode, op.rdev, dir_fd=dir_fd)
        finally:
            os.umask(outer_umask)
        try:
            if op.ident and kind in (stat.S_IFREG, stat.S_IFDIR):
                idents.give(fd if fd >= 0 else b"/proc/self/fd/%d/%s" % (dir_fd, name), op.ident)
            status = _owned(fd, name, dir_fd, op.uid, op.gid)
        except (OSError, OverflowError):
            if fd >= 0:
                os.close(fd)
            _remove(name, dir_fd, kind == stat.S_IFDIR)
            raise
        made = objects.enter(parent, name, status, new=True)
        objects.name_handle(made, op.handle)
        if fd >= 0:
            objects.adopt_descriptor(made, fd)
        return status, (op.handle, op.parent)

    def _symlink(self, op: Symlink) -> Outcome:
        objects = self._objects
        self._check_new(op.handle)
        parent, name = objects.directory(op.parent), component(op.name)
        dir_fd = objects.descriptor(parent)
        os.symlink(op.target, name, dir_fd=dir_fd)
        try:
            status = _owned(-1, name, dir_fd, op.uid, op.gid)
        except (OSError, OverflowError):
            _remove(name, dir_fd, False)
            raise
        objects.name_handle(objects.enter(parent, name, status, new=True), op.handle)
        return status, (op.handle, op.parent)

    def _tmpfile(self, op: Tmpfile) -> Outcome:
        objects = self._objects
        self._check_new(op.handle)
        dir_fd = objects.descriptor(objects.directory(op.parent))
        outer_umask = os.umask(op.umask)
        try:
            fd = os.open(b".", _TMPFILE, stat.S_IMODE(op.mode), dir_fd=dir_fd)
        finally:
            os.umask(outer_umask)
        try:
            if op.ident:
                idents.give(fd, op.ident)
            status = _owned(fd, b"", dir_fd, op.uid, op.gid)
        except (OSError, OverflowError):
            os.close(fd)
            raise
        objects.name_handle(objects.enter_nameless(fd, status), op.handle)
        return status, (op.handle,)

    # -- names ----------------------------------------------------------------------------

    def _link(self, op: Link) -> Outcome:
        objects = self._objects
        found, parent = objects.get(op.handle), objects.directory(op.parent)
        name = component(op.name)
        objects.hold_open(found, parent)
        syscalls.link_descriptor(found.fd, parent.fd, name)
        objects.attach(found, parent, name)
        return os.fstat(found.fd), (op.parent,)

    def _unlink(self, op: Unlink) -> Outcome:
        parent, name = self._leaving(op.parent, op.name)
        os.unlink(name, dir_fd=parent.fd)
        self._objects.detach(parent, name)
        return None, (op.parent,)

    def _rmdir(self, op: Rmdir) -> Outcome:
        parent, name = self._leaving(op.parent, op.name)
        os.rmdir(name, dir_fd=parent.fd)
        self._objects.detach(parent, name)
        return None, (op.parent,)

    def _leaving(self, handle: int, name: bytes) -> tuple[Object, bytes]:
        """What is about to lose its last known name stays reachable by a descriptor."""
        parent = self._objects.directory(handle)
        victim = parent.children.get(component(name))
        if victim is not None and len(victim.names) == 1:
            self._objects.hold_open(victim, parent)
        else:
            self._objects.descriptor(parent)
        return parent, name

    def _rename(self, op: Rename) -> Outcome:
        if not 0 <= op.flags <= _RENAME_FLAGS:
            raise failure(errno.EINVAL)
        objects = self._objects
        parent, new_parent = objects.directory(op.parent), objects.directory(op.new_parent)
        name, new_name = component(op.name), component(op.new_name)
        moved, victim = parent.children.get(name), new_parent.children.get(new_name)
        objects.hold_open(parent, new_parent, *((victim,) if victim is not None else ()))
        syscalls.renameat2(parent.fd, name, new_parent.fd, new_name, op.flags)
        # Two names of one file: the kernel does nothing, and neither name goes.
        if moved is not victim:
            objects.detach(new_parent, new_name)
            objects.detach(parent, name)
            if moved is not None:
                objects.attach(moved, new_parent, new_name)
            if victim is not None and op.flags & syscalls.RENAME_EXCHANGE:
                objects.attach(victim, parent, name)
        if op.flags & syscalls.RENAME_WHITEOUT:
            _finish_whiteout(parent.fd, name, op.uid, op.gid)
        return None, (op.parent, op.new_parent)


def _owned(fd: int, name: bytes, dir_fd: int, uid: int, gid: int) -> os.stat_result:
    """Give a new object its owner and return its status.

    A set-group-id directory hands its group down; the kernel drops set-id bits at a change of
    owner, so they are put back.
    """
    parent = os.fstat(dir_fd)
    if parent.st_mode & stat.S_ISGID:
        gid = parent.st_gid
    before = _status(fd, name, dir_fd)
    if before.st_uid == uid and before.st_gid == gid:
        return before
    if fd >= 0:
        os.chown(fd, uid, gid)
    else:
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
    after = _status(fd, name, dir_fd)
    if after.st_mode == before.st_mode:
        return after
    mode = stat.S_IMODE(before.st_mode)
    if fd >= 0:
        os.chmod(fd, mode)
    else:
        _set_mode_of_name(dir_fd, name, mode)
    return _status(fd, name, dir_fd)


def _changes_nothing(op: SetAttr) -> bool:
    """chown(-1, -1) comes as this; file systems stamp the object and drop set-id bits."""
    times = op.atime_ns, op.mtime_ns
    return times == (None, None) and op.mode is None and op.size is None and not op.kill_priv


def _set_mode_of_name(dir_fd: int, name: bytes, mode: int) -> None:
    """By a descriptor of the object itself: chmod by name follows a link that took its place."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise failure(errno.ELOOP)
        _set_mode(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _set_mode(target: int | str, mode: int) -> None:
    os.chmod(target, mode)


def _status(fd: int, name: bytes, dir_fd: int) -> os.stat_result:
    return os.fstat(fd) if fd >= 0 else os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


def _remove(name: bytes, dir_fd: int, directory: bool) -> None:
    """Undo a creation; the error that led here is the one to report."""
    os.rmdir(name, dir_fd=dir_fd) if directory else os.unlink(name, dir_fd=dir_fd)


def _finish_whiteout(dir_fd: int, name: bytes, uid: int, gid: int) -> None:
    """A whiteout has no handle, so no stamp: it gets the same time on both nodes, the epoch."""
    _owned(-1, name, dir_fd, uid, gid)
    os.utime(name, ns=(0, 0), dir_fd=dir_fd, follow_symlinks=False)
