"""One mounted tree: each request of the kernel becomes a read of the tree or an operation.

Reads ask the tree at once. Whatever modifies becomes a value of `core/replica/ops.py` and goes to
the primary, which answers when it may; nothing here waits. Permissions are checked by the kernel
(`default_permissions`), so what arrives is allowed.

OPEN, CREATE and FLUSH are answered with ENOSYS once and for all: the kernel then opens files by
itself (no request for an open or a close), keeps their pages, and reaches every file by its node
number, also after its last name is gone. That is right because nothing but this mount changes
the tree. POSIX and BSD locks are the kernel's own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial

from safepy.core.replica import ops
from safepy.fuse import callers, protocol, replies
from safepy.fuse.inodes import Directories, Lookups
from safepy.fuse.interfaces import Answer, Modifier, Reader, Rescue, Tree
from safepy.fuse.opcodes import OPCODES, Opcode
from safepy.fuse.session import Session
from safepy.fuse.stamps import StampClock
from safepy.fuse.waiting import Waiting

_Action = Callable[[int, int, int, int, memoryview], None]

_SET_ID = stat.S_ISUID | stat.S_ISGID
_PERMISSIONS = 0o7777
_HAVE_IDS = frozenset({stat.S_IFREG, stat.S_IFDIR})
_HIDDEN_XATTR = b"trusted.safekit"
_ACL_XATTR = b"system.posix_acl_"
_TRUSTED_XATTR = b"trusted."
#: A file without a label has EOPNOTSUPP: `ls -l` then asks for no other file's, of which none
#: could be kept by the kernel. (Where SELinux runs, the kernel does not ask us at all.)
_LABEL_XATTR = b"security.selinux"
_RENAME_WHITEOUT = 4

#: Names that are looked up in one turn: so much of a reply, whatever the caller has room for.
LISTED_PLUS_BYTES = 32 * 1024


class Filesystem:
    """The requests of one session, carried out on one tree. Give `handle` to `Session.serve`.

    `ident_prefix`: what the ids of new files and directories begin with, 10 bytes; their handle
    follows (protocol 4.2). Empty: they get none."""

    def __init__(
        self,
        session: Session,
        tree_index: int,
        tree: Tree,
        primary: Modifier,
        reader: Reader,
        ident_prefix: bytes = b"",
        rescue: Rescue | None = None,
    ) -> None:
        self._ident_prefix = ident_prefix
        self._session = session
        self._send = session.send
        self._fail = session.fail
        self._tree = tree
        self._reader = reader
        self._rescue = rescue
        self._start = partial(primary.modify, tree_index)
        self._waiting = Waiting(primary.withdraw)
        #: To be called now and then: frees programs that are being killed.
        self.end_killed = self._waiting.end_killed
        self._lookups = Lookups(tree.release)
        self._clock = StampClock()
        self._directories = Directories(tree.open_directory)
        # Nodes that the kernel may hold set-id bits of. Only for these is it worth looking when
        # a write of an ordinary user says that the bits go.
        self._set_id: set[int] = set()
        self._actions = self._table()

    def handle(
        self, opcode: int, unique: int, node: int, uid: int, gid: int, body: memoryview
    ) -> None:
        """Carry one request out, or start it. Raises ProtocolError."""
        action = self._actions[opcode] if opcode < OPCODES else self._unknown
        try:
            action(unique, node, uid, gid, body)
        except OSError as error:
            self._fail(unique, error.errno or errno.EIO)

    def _modify(self, op: ops.Op, answer: Answer) -> None:
        """Only while the request is being handled, see `Session.caller`."""
        waiting = self._start(op, answer)
        if waiting:
            self._waiting.add(*self._session.caller(), answer, waiting)

    # Files

    def _write(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        offset, data, flags = protocol.write(body)
        if not flags & protocol.WRITE_KILL_SUIDGID or node not in self._set_id:
            self._modify(ops.Write(node, offset, data), partial(self._wrote, unique))
        elif self._strangers_mode(node, gid) is None:
            op = ops.Write(node, offset, data, kill_priv=True)
            self._modify(op, partial(self._wrote_and_killed, unique, node))
        else:
            op = ops.Write(node, offset, data)
            self._kill_first(unique, node, gid, op, partial(self._wrote, unique))

    def _wrote(self, unique: int, number: int, count: object) -> None:
        if number:
            self._fail(unique, number)
        else:
            assert isinstance(count, int)
            self._send(replies.written(unique, count))

    def _wrote_and_killed(self, unique: int, node: int, number: int, count: object) -> None:
        # The reply to WRITE carries no attributes, and the kernel does not suspect that the mode
        # changed: it would go on executing the file with the privileges.
        self._send(replies.attributes_changed(node))
        self._wrote(unique, number, count)

    def _read(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        _, offset, size = protocol.read(body)
        data = self._tree.read_cached(node, offset, size)
        if data is not None:
            self._session.reply(unique, data)
        else:
            fd = self._tree.duplicate(node)
            done = partial(self._was_read_here, unique, node, offset, size)
            self._reader.read(fd, offset, size, done)

    def _was_read_here(
        self, unique: int, node: int, offset: int, size: int, number: int, data: bytes
    ) -> None:
        if number == errno.EIO and self._rescue is not None:
            self._rescue(node, offset, size, partial(self._was_read, unique))
        else:
            self._was_read(unique, number, data)

    def _was_read(self, unique: int, number: int, data: bytes) -> None:
        if number:
            self._fail(unique, number)
        else:
            self._session.reply(unique, data)

    def _lseek(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        offset, whence = protocol.lseek(body)
        self._session.reply(unique, replies.lseek(self._tree.lseek(node, offset, whence)))

    def _fallocate(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        offset, length, mode = protocol.fallocate(body)
        op = ops.Fallocate(node, mode, offset, length)
        done = partial(self._done, unique)
        if uid == 0 or node not in self._set_id:
            self._modify(op, done)
        else:  # the request has no flag for it, but an ordinary user's fallocate clears the bits
            self._kill_first(unique, node, gid, op, done)

    def _kill_first(self, unique: int, node: int, gid: int, op: ops.Op, done: Answer) -> None:
        """Set-id bits and capabilities go, then `op` is carried out."""

        def killed(number: int, _: object) -> None:
            self._send(replies.attributes_changed(node))
            if number:
                self._fail(unique, number)
            else:
                self._start(op, done)

        mode = self._strangers_mode(node, gid)
        self._modify(ops.SetAttr(node, mode, kill_priv=True), killed)

    def _strangers_mode(self, node: int, gid: int) -> int | None:
        """See `callers.mode_after_strangers_write`; None also if the caller is none."""
        st = self._tree.stat(node)
        mode = callers.mode_after_strangers_write(st)
        if mode is None or callers.is_member(self._session.caller()[1], gid, st.st_gid):
            return None
        return mode

    def _fsync(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._modify(ops.Fsync(node, protocol.fsync(body)), partial(self._done, unique))

    def _syncfs(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._modify(ops.Fsync(0, False), partial(self._done, unique))

    # Attributes

    def _getattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._attributes(unique, node, self._tree.stat(node))

    def _setattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        asked = protocol.setattr_(body)
        valid = asked.valid
        kill = bool(valid & protocol.FATTR_KILL_SUIDGID)
        if not valid & protocol.FATTR_ANY and uid and node in self._set_id:
            # chown(-1, -1), or the kernel before a write that drops the bits, which says so by
            # itself. A chown may drop them for the owner alone.
            st = self._tree.stat(node)
            if uid != st.st_uid:
                self._attributes(unique, node, st)
                return
            kill = True
        atime_ns, mtime_ns = asked.atime_ns, asked.mtime_ns
        if valid & (protocol.FATTR_ATIME_NOW | protocol.FATTR_MTIME_NOW):
            now_ns = self._clock.now_ns()
            atime_ns = now_ns if valid & protocol.FATTR_ATIME_NOW else atime_ns
            mtime_ns = now_ns if valid & protocol.FATTR_MTIME_NOW else mtime_ns
        mode = asked.mode & _PERMISSIONS if valid & protocol.FATTR_MODE else None
        if kill and mode is None and node in self._set_id:
            chown = valid & (protocol.FATTR_UID | protocol.FATTR_GID)
            # At a chown the kernel says so whoever asks.
            if not (chown and callers.keeps_set_id(self._session.caller()[1])):
                mode = self._strangers_mode(node, gid)
        op = ops.SetAttr(
            node,
            mode=mode,
            uid=asked.uid if valid & protocol.FATTR_UID else None,
            gid=asked.gid if valid & protocol.FATTR_GID else None,
            size=asked.size if valid & protocol.FATTR_SIZE else None,
            atime_ns=atime_ns if valid & protocol.FATTR_ATIME else None,
            mtime_ns=mtime_ns if valid & protocol.FATTR_MTIME else None,
            kill_priv=kill,
        )
        self._modify(op, partial(self._attributes_set, unique, node))

    def _attributes_set(self, unique: int, node: int, number: int, st: object) -> None:
        if number:
            self._fail(unique, number)
        else:
            assert isinstance(st, os.stat_result)
            self._attributes(unique, node, st)

    def _attributes(self, unique: int, node: int, st: os.stat_result) -> None:
        self._note_set_id(node, st)
        self._session.reply(unique, replies.attributes(st))

    def _note_set_id(self, node: int, st: os.stat_result) -> None:
        if st.st_mode & _SET_ID and not stat.S_ISDIR(st.st_mode):
            self._set_id.add(node)
        elif self._set_id:
            self._set_id.discard(node)

    def _statfs(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._session.reply(unique, replies.statfs(self._tree.statfs()))

    # Names

    def _lookup(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        name = protocol.name(body)
        try:
            handle, st = self._tree.lookup(node, name)
        except FileNotFoundError:
            self._session.reply(unique, replies.no_entry())
            return
        self._enter(unique, handle, st)

    def _enter(self, unique: int, handle: int, st: os.stat_result, more: bytes = b"") -> None:
        self._note_set_id(handle, st)
        if self._session.reply(unique, replies.entry(handle, st) + more):
            self._lookups.add(handle)
        else:
            self._lookups.unused(handle)

    def _made(self, unique: int, handle: int, more: bytes, number: int, st: object) -> None:
        if number:
            self._fail(unique, number)
        else:
            assert isinstance(st, os.stat_result)
            self._enter(unique, handle, st, more)

    def _mknod(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._make(unique, node, uid, gid, protocol.mknod(body), stat.S_IFREG)

    def _mkdir(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._make(unique, node, uid, gid, protocol.mkdir(body), stat.S_IFDIR)

    def _make(
        self, unique: int, node: int, uid: int, gid: int, asked: protocol.MakeIn, kind: int
    ) -> None:
        handle = self._tree.new_handle()
        mode = asked.mode if stat.S_IFMT(asked.mode) else asked.mode | kind
        ident = self._ident(handle) if stat.S_IFMT(mode) in _HAVE_IDS else b""
        names = (handle, node, asked.name)
        op = ops.Make(*names, mode, asked.rdev, asked.umask, uid, gid, ident=ident)
        self._modify(op, partial(self._made, unique, handle, b""))

    def _tmpfile(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        asked = protocol.tmpfile(body)
        handle = self._tree.new_handle()
        mode, ident = asked.mode & _PERMISSIONS, self._ident(handle)
        op = ops.Tmpfile(handle, node, mode, asked.umask, uid, gid, ident=ident)
        more = replies.opened(0, replies.FOPEN_KEEP_CACHE)
        self._modify(op, partial(self._made, unique, handle, more))

    def _ident(self, handle: int) -> bytes:
        prefix = self._ident_prefix
        return prefix + handle.to_bytes(6, "big") if prefix else b""

    def _symlink(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        name, target = protocol.symlink(body)
        handle = self._tree.new_handle()
        op = ops.Symlink(handle, node, name, target, uid, gid)
        self._modify(op, partial(self._made, unique, handle, b""))

    def _readlink(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._session.reply(unique, self._tree.readlink(node))

    def _link(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        handle, name = protocol.link(body)
        self._modify(ops.Link(handle, node, name), partial(self._made, unique, handle, b""))

    def _unlink(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._modify(ops.Unlink(node, protocol.name(body)), partial(self._done, unique))

    def _rmdir(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._modify(ops.Rmdir(node, protocol.name(body)), partial(self._done, unique))

    def _rename(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._move(unique, node, uid, gid, protocol.rename(body))

    def _rename2(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._move(unique, node, uid, gid, protocol.rename2(body))

    def _move(self, unique: int, node: int, uid: int, gid: int, asked: protocol.RenameIn) -> None:
        names = (asked.name, asked.new_parent, asked.new_name)
        op = ops.Rename(node, *names, asked.flags, uid=uid, gid=gid)
        done = partial(self._done, unique)
        if asked.flags & _RENAME_WHITEOUT:
            done = partial(self._whiteout_done, unique, node, asked.new_parent)
        self._modify(op, done)

    def _whiteout_done(self, unique: int, parent: int, into: int, number: int, _: object) -> None:
        if number:  # ext4 has stamped the directories by then, which the kernel does not expect
            self._send(replies.attributes_changed(parent))
            self._send(replies.attributes_changed(into))
        self._fail(unique, number)

    def _forget(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._drop(node, protocol.forget(body))

    def _batch_forget(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        for handle, lookups in protocol.batch_forget(body):
            self._drop(handle, lookups)

    def _drop(self, handle: int, lookups: int) -> None:
        self._lookups.forget(handle, lookups)
        if handle not in self._lookups:
            self._set_id.discard(handle)

    # Directories

    def _opendir(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        number = self._directories.open()
        flags = replies.FOPEN_KEEP_CACHE | replies.FOPEN_CACHE_DIR
        if not self._session.reply(unique, replies.opened(number, flags)):
            self._directories.close(number)

    def _readdir(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        number, offset, size = protocol.read(body)
        entries = self._directories.portion(number, node, offset)
        self._session.reply(unique, replies.directory(entries, size))

    def _readdirplus(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        number, offset, size = protocol.read(body)
        entries = self._directories.portion(number, node, offset)

        def look_up(name: bytes) -> tuple[int, os.stat_result] | None:
            try:
                handle, st = self._tree.lookup(node, name)
            except FileNotFoundError:
                return None  # removed since the portion was read
            self._note_set_id(handle, st)
            return handle, st

        room = min(size, LISTED_PLUS_BYTES)
        listing, handles = replies.directory_plus(entries, room, look_up)
        given = self._session.reply(unique, listing)
        for handle in handles:
            if given:
                self._lookups.add(handle)
            else:
                self._lookups.unused(handle)

    def _releasedir(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._directories.close(protocol.release(body))
        self._fail(unique, 0)

    # Extended attributes

    def _getxattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        room, name = protocol.getxattr(body)
        self._check_xattr(name, errno.ENODATA)
        try:
            value = self._tree.getxattr(node, name)
        except OSError as error:
            if error.errno != errno.ENODATA or name != _LABEL_XATTR:
                raise
            self._fail(unique, errno.EOPNOTSUPP)
        else:
            self._give(unique, room, value)

    def _listxattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        room = protocol.listxattr(body)
        names = [name for name in self._tree.listxattr(node) if not self._is_hidden(name, uid)]
        self._give(unique, room, b"".join(name + b"\0" for name in names))

    def _setxattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        asked = protocol.setxattr(body, bool(self._session.flags & protocol.SETXATTR_EXT))
        self._check_xattr(asked.name, errno.EPERM)
        op = ops.SetXattr(node, asked.name, asked.value, asked.flags, asked.kill_sgid)
        self._modify(op, partial(self._done, unique))

    def _removexattr(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        name = protocol.xattr_name(body)
        self._check_xattr(name, errno.ENODATA)
        self._modify(ops.RemoveXattr(node, name), partial(self._done, unique))

    def _is_hidden(self, name: bytes, uid: int) -> bool:
        # What is trusted is listed for administrators only; the kernel asks us who that is.
        hidden = [_HIDDEN_XATTR]
        if not self._session.acl:
            hidden.append(_ACL_XATTR)
        if uid:
            hidden.append(_TRUSTED_XATTR)
        return name.startswith(tuple(hidden))

    def _check_xattr(self, name: bytes, hidden: int) -> None:
        """Ours do not exist for others (S10); ACLs do not exist unless they are enforced."""
        if name.startswith(_HIDDEN_XATTR):
            raise OSError(hidden, os.strerror(hidden))
        if not self._session.acl and name.startswith(_ACL_XATTR):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def _give(self, unique: int, room: int, value: bytes) -> None:
        if room == 0:
            self._session.reply(unique, replies.size(len(value)))
        elif len(value) > room:
            self._fail(unique, errno.ERANGE)
        else:
            self._session.reply(unique, value)

    # The rest

    def _done(self, unique: int, number: int, _: object) -> None:
        self._fail(unique, number)

    def _success(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._fail(unique, 0)

    def _unknown(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._fail(unique, errno.ENOSYS)

    def _interrupt(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._waiting.interrupt(protocol.interrupt(body))

    def _no_ioctl(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        self._fail(unique, errno.ENOTTY)

    def _no_reply(self, unique: int, node: int, uid: int, gid: int, body: memoryview) -> None:
        """NOTIFY_REPLY answers what we never ask."""

    def _table(self) -> list[_Action]:
        actions: dict[Opcode, _Action] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.GETATTR: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.READLINK: self._readlink,
            Opcode.SYMLINK: self._symlink,
            Opcode.MKNOD: self._mknod,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir,
            Opcode.RENAME: self._rename,
            Opcode.LINK: self._link,
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.STATFS: self._statfs,
            Opcode.RELEASE: self._success,
            Opcode.FSYNC: self._fsync,
            Opcode.SETXATTR: self._setxattr,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.REMOVEXATTR: self._removexattr,
            Opcode.OPENDIR: self._opendir,
            Opcode.READDIR: self._readdir,
            Opcode.RELEASEDIR: self._releasedir,
            Opcode.FSYNCDIR: self._fsync,
            Opcode.DESTROY: self._success,
            Opcode.INTERRUPT: self._interrupt,
            Opcode.IOCTL: self._no_ioctl,
            Opcode.NOTIFY_REPLY: self._no_reply,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.FALLOCATE: self._fallocate,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.RENAME2: self._rename2,
            Opcode.LSEEK: self._lseek,
            Opcode.SYNCFS: self._syncfs,
            Opcode.TMPFILE: self._tmpfile,
        }
        table: list[_Action] = [self._unknown] * OPCODES
        for opcode, action in actions.items():
            table[opcode] = action
        return table
