"""Replicated operations as values: what the primary did, for the secondary to do the same.

Objects are named by *handles*: numbers that the primary gives (its FUSE node numbers; 1 is the
root of a replicated directory) and the secondary learns by `Bind` and by the creating
operations. A handle keeps naming its object through renames and after the last unlink, so
nothing is resolved twice and writes to unlinked open files need no special case.

The same function applies an operation on both nodes (`storage/backing.py`), so both trees stay
equal by construction; what each node's clock would make differ is carried: `stamps` are
(handle, mtime in ns) pairs that hold after the operation (of parents too).
Names and paths are bytes, never decoded. Maxima are checked by `wire`, not here.
"""

from __future__ import annotations

import msgspec

Stamps = tuple[tuple[int, int], ...]

ROOT = 1


class Op(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all operations."""


class Bind(Op, frozen=True, tag=1):
    """`handle` names from now on what stands at `path` (components joined by "/", from the root
    of the directory; never followed through a link)."""

    handle: int
    path: bytes


class Forget(Op, frozen=True, tag=2):
    handles: tuple[int, ...]


class Write(Op, frozen=True, tag=3):
    """`kill_priv`: clear set-id bits and file capabilities (HANDLE_KILLPRIV_V2)."""

    handle: int
    offset: int
    data: bytes
    kill_priv: bool = False
    stamps: Stamps = ()


class SetAttr(Op, frozen=True, tag=4):
    """Fields that are None stay as they are. Times are in ns; the primary has already put its
    own clock's value where the application asked for "now"."""

    handle: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    kill_priv: bool = False
    stamps: Stamps = ()


class Fallocate(Op, frozen=True, tag=5):
    handle: int
    mode: int
    offset: int
    length: int
    stamps: Stamps = ()


class Make(Op, frozen=True, tag=6):
    """Create a regular file, directory, device, pipe or socket, by the type bits of `mode`.
    `umask` is the caller's; the backing file system applies it (a default ACL overrides it).
    `ident`: the new object's id, see `Identify` (empty: none)."""

    handle: int
    parent: int
    name: bytes
    mode: int
    rdev: int
    umask: int
    uid: int
    gid: int
    stamps: Stamps = ()
    ident: bytes = b""


class Tmpfile(Op, frozen=True, tag=7):
    """An unnamed file (O_TMPFILE) in the directory `parent`."""

    handle: int
    parent: int
    mode: int
    umask: int
    uid: int
    gid: int
    stamps: Stamps = ()
    ident: bytes = b""


class Symlink(Op, frozen=True, tag=8):
    handle: int
    parent: int
    name: bytes
    target: bytes
    uid: int
    gid: int
    stamps: Stamps = ()


class Link(Op, frozen=True, tag=9):
    """A further name for `handle` (also the first one of a `Tmpfile`)."""

    handle: int
    parent: int
    name: bytes
    stamps: Stamps = ()


class Unlink(Op, frozen=True, tag=10):
    parent: int
    name: bytes
    stamps: Stamps = ()


class Rmdir(Op, frozen=True, tag=11):
    parent: int
    name: bytes
    stamps: Stamps = ()


class Rename(Op, frozen=True, tag=12):
    """`flags` as of renameat2(2): NOREPLACE, EXCHANGE, WHITEOUT. `uid` and `gid` are the owner of
    a whiteout."""

    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    flags: int
    stamps: Stamps = ()
    uid: int = 0
    gid: int = 0


class SetXattr(Op, frozen=True, tag=13):
    handle: int
    name: bytes
    value: bytes
    flags: int
    kill_sgid: bool = False


class RemoveXattr(Op, frozen=True, tag=14):
    handle: int
    name: bytes


class Fsync(Op, frozen=True, tag=15):
    """A stable acknowledgement is wanted: both nodes sync the object (protocol I1).
    Handle 0 means the whole file system (syncfs)."""

    handle: int
    data_only: bool


class Identify(Op, frozen=True, tag=16):
    """Give a file or directory its id: 16 bytes that name it on both nodes for good, whatever its
    path (protocol 4.2). New objects get theirs from `Make` and `Tmpfile`; older ones before they
    are renamed or linked, so that a name never comes to stand for other content unseen."""

    handle: int
    ident: bytes


AnyOp = (
    Bind
    | Forget
    | Write
    | SetAttr
    | Fallocate
    | Make
    | Tmpfile
    | Symlink
    | Link
    | Unlink
    | Rmdir
    | Rename
    | SetXattr
    | RemoveXattr
    | Fsync
    | Identify
)
