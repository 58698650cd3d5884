"""What an operation uses and what it touches: the handles the peer must know before it, and the
marks a resynchronisation needs after it."""

from __future__ import annotations

from safepy.core.replica.ops import (
    Fallocate,
    Fsync,
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
    Write,
)
from safepy.storage.backing import Tree
from safepy.storage.syscalls import FALLOC_COLLAPSE_RANGE, FALLOC_INSERT_RANGE, RENAME_WHITEOUT

#: (kind, path, offset, length): kind is "full", "extents" or "attributes" (`PathMarks.add`).
Mark = tuple[str, bytes, int, int]

#: "From here to the end of the file, wherever that is."
TO_THE_END = 1 << 62


def handles_used(op: Op) -> tuple[int, ...]:
    """Handles that must name something before `op` can be carried out."""
    match op:
        case Write() | SetAttr() | Fallocate() | SetXattr() | RemoveXattr() | Identify():
            return (op.handle,)
        case Make() | Symlink() | Tmpfile() | Unlink() | Rmdir():
            return (op.parent,)
        case Link():
            return (op.parent, op.handle)
        case Rename():
            return (op.parent, op.new_parent)
        case Fsync():
            return (op.handle,) if op.handle else ()
        case _:
            raise AssertionError(f"{type(op).__name__} is not an application's operation")


def marks_of(tree: Tree, op: Op) -> list[Mark]:
    """What is to be compared again because of `op`; to be asked before it is carried out.

    Every name that changes its meaning is marked, so a path that goes stale does no harm. The
    names of a rename are not in it: see `PathMarks.moved`.
    """
    match op:
        case Write():
            return _data(tree, op.handle, op.offset, len(op.data))
        case SetAttr():
            if op.size is None:
                return _attributes(tree, op.handle)
            size = tree.stat(op.handle).st_size
            start, end = sorted((op.size, size))
            return _data(tree, op.handle, start, end - start)
        case Fallocate():
            moves = op.mode & (FALLOC_COLLAPSE_RANGE | FALLOC_INSERT_RANGE)
            length = TO_THE_END - op.offset if moves else op.length
            return _data(tree, op.handle, op.offset, length)
        case SetXattr() | RemoveXattr() | Identify():
            return _attributes(tree, op.handle)
        case Link():
            # The name it had as well: a write through the new one that is gone again before the
            # next round would be known by no name that is left.
            old = _of_object(tree, op.handle, "full", 0, 0)
            return old + _name(tree, op.parent, op.name)
        case Make() | Symlink() | Unlink() | Rmdir():
            return _name(tree, op.parent, op.name)
        case Rename():
            marks = _attributes(tree, op.parent) + _attributes(tree, op.new_parent)
            # A whiteout appears there, and some file systems leave it when the rename fails.
            return marks + (_name(tree, op.parent, op.name) if op.flags & RENAME_WHITEOUT else [])
        case _:
            return []


def path_at(tree: Tree, parent: int, name: bytes) -> bytes | None:
    """None: the directory has no name any more."""
    folder = tree.path_of(parent)
    if folder is None:
        return None
    return folder + b"/" + name if folder else name


def _data(tree: Tree, handle: int, offset: int, length: int) -> list[Mark]:
    return _of_object(tree, handle, "extents", offset, length)


def _attributes(tree: Tree, handle: int) -> list[Mark]:
    return _of_object(tree, handle, "attributes", 0, 0)


def _of_object(tree: Tree, handle: int, kind: str, offset: int, length: int) -> list[Mark]:
    path = tree.path_of(handle)
    if path is not None:
        return [(kind, path, offset, length)]
    # Unlinked but open: nobody can reach it on the other node. With links left, it has a name
    # that could not be found: then anything may be it.
    return [("full", b"", 0, 0)] if tree.stat(handle).st_nlink else []


def _name(tree: Tree, parent: int, name: bytes) -> list[Mark]:
    path = path_at(tree, parent, name)
    if path is None:
        return []  # a removed directory: the operation will fail
    return [("full", path, 0, 0), *_attributes(tree, parent)]
