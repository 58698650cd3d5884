"""Operations at the border of what is replicated (`notreplicated`, reference: userconfig 11.3).

What is left out lives on the primary alone, as a nameless file does that the peer never knew. A
file may cross the border by a rename: then the peer gets it whole, or loses it. What cannot be
done so is answered with EXDEV, which makes `mv` copy: a directory, a link over the border, an
exchange, a file that is too large to be sent in one go.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from enum import Enum
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.exclusion import Exclusion, Path
from safepy.core.replica.ops import (
    Link,
    Make,
    Op,
    Rename,
    Rmdir,
    SetAttr,
    Symlink,
    Unlink,
)
from safepy.dataplane.resync import tree as trees
from safepy.storage.backing import Tree
from safepy.storage.syscalls import RENAME_EXCHANGE, RENAME_WHITEOUT

#: Larger files do not cross by a rename: their content would be sent at a stroke.
CROSSING_BYTES_MAX = 32 << 20


class Side(Enum):
    """Where the names of an operation lie."""

    INSIDE = 0
    OUTSIDE = 1
    LEAVES = 2
    ENTERS = 3


class Border:
    """Of all directories of a module; `exclusions` one for each."""

    def __init__(self, trees_: Sequence[Tree], exclusions: Sequence[Exclusion]) -> None:
        self._trees = trees_
        self._exclusions = exclusions

    def leaves_out(self, index: int, handle: int) -> bool:
        """Whether this object is left out, by the name it is known by."""
        tree = self._trees[index]
        path = tree.path_of(handle)
        if not path:
            return False
        return self._exclusions[index].covers(_split(path), tree.is_directory(handle))

    def side(self, index: int, op: Op) -> Side:
        """Where `op` belongs, before it is carried out. Raises OSError, EXDEV for what may not
        cross."""
        if not self._exclusions[index]:
            return Side.INSIDE
        match op:
            case Make(_, parent, name, mode):
                return self._named(index, parent, name, S_ISDIR(mode))
            case Symlink(_, parent, name) | Unlink(parent, name):
                return self._named(index, parent, name, False)
            case Rmdir(parent, name):
                return self._named(index, parent, name, True)
            case Link(handle, parent, name):
                side = self._named(index, parent, name, False)
                named = self._trees[index].path_of(handle) is not None
                if named and self.leaves_out(index, handle) is not (side is Side.OUTSIDE):
                    raise _may_not_cross()
                return side
            case Rename():
                return self._rename(index, op)
        return Side.INSIDE

    def _named(self, index: int, parent: int, name: bytes, is_directory: bool) -> Side:
        path = self._path(index, parent, name)
        if path is None or not self._exclusions[index].covers(path, is_directory):
            return Side.INSIDE
        return Side.OUTSIDE

    def _rename(self, index: int, op: Rename) -> Side:
        exclusion, tree = self._exclusions[index], self._trees[index]
        old = self._path(index, op.parent, op.name)
        new = self._path(index, op.new_parent, op.new_name)
        if old is None or new is None:
            return Side.INSIDE  # a removed directory: it will fail
        _, found = tree.lookup(op.parent, op.name)
        is_directory = S_ISDIR(found.st_mode)
        from_outside = exclusion.covers(old, is_directory)
        to_outside = exclusion.covers(new, is_directory)
        if is_directory and (
            from_outside is not to_outside
            or (not from_outside and (exclusion.depends(old) or exclusion.depends(new)))
        ):
            raise _may_not_cross()
        if op.flags & RENAME_EXCHANGE:
            # The other one is what stands at the new name, and goes to the old one.
            _, other = tree.lookup(op.new_parent, op.new_name)
            other_directory = S_ISDIR(other.st_mode)
            sides = {from_outside, to_outside}
            sides.add(exclusion.covers(new, other_directory))
            sides.add(exclusion.covers(old, other_directory))
            if len(sides) > 1 or (other_directory and exclusion.depends(new)):
                raise _may_not_cross()
        if from_outside is to_outside:
            return Side.OUTSIDE if from_outside else Side.INSIDE
        if op.flags & RENAME_WHITEOUT or found.st_nlink > 1:
            raise _may_not_cross()
        if to_outside:
            return Side.LEAVES
        if not S_ISREG(found.st_mode) or found.st_size > CROSSING_BYTES_MAX:
            raise _may_not_cross()
        return Side.ENTERS

    def _path(self, index: int, parent: int, name: bytes) -> Path | None:
        folder = self._trees[index].path_of(parent)
        return None if folder is None else (*_split(folder), name)

    def replaces(self, index: int, op: Rename) -> bool:
        """Whether something stands at the new name. Raises OSError."""
        try:
            self._trees[index].lookup(op.new_parent, op.new_name)
        except FileNotFoundError:
            return False
        return True

    # -- what the peer is told instead ------------------------------------------------------

    def instead(self, index: int, op: Op, side: Side, replaces: bool, handle: int) -> list[Op]:
        """For an operation that was carried out here. `handle`: of what was renamed; `replaces`:
        something replicated stood at the new name."""
        tree = self._trees[index]
        ops: list[Op] = []
        if isinstance(op, Rename) and side is Side.LEAVES:
            ops.append(Unlink(op.parent, op.name))
        elif isinstance(op, Rename) and side is Side.ENTERS:
            if replaces:
                ops.append(Unlink(op.new_parent, op.new_name))
            ops += tree.describe_nameless(handle)
            ops.append(Link(handle, op.new_parent, op.new_name))
        # Directories that are replicated have another time now.
        for parent in dict.fromkeys(_parents(op)):
            if not self.leaves_out(index, parent):
                ops.append(SetAttr(parent, mtime_ns=tree.stat(parent).st_mtime_ns))
        return ops


def clear_left_out(root_fd: int, exclusion: Exclusion, path: bytes) -> bool:
    """Remove what is left out in a directory that the primary has removed. Whether there was any.

    On the primary nothing was in it any more; what this node had there goes with it.
    """
    parts = trees.split(path)
    fd = trees.open_or_none(root_fd, parts)
    if fd is None:
        return False
    removed = False
    try:
        for name in trees.names_in(fd):
            found = trees.status(fd, name)
            is_directory = found is not None and S_ISDIR(found.st_mode)
            if exclusion.excludes((*parts, name), is_directory):
                trees.remove(fd, name)
                removed = True
    finally:
        os.close(fd)
    return removed


def _parents(op: Op) -> tuple[int, ...]:
    match op:
        case Rename():
            return (op.parent, op.new_parent)
        case Make() | Symlink() | Link() | Unlink() | Rmdir():
            return (op.parent,)
    return ()


def _split(path: bytes) -> Path:
    return tuple(path.split(b"/")) if path else ()


def _may_not_cross() -> OSError:
    return OSError(errno.EXDEV, os.strerror(errno.EXDEV))
