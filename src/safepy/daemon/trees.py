"""The replicated directories of one module and the mounts around them (protocol I18, F48).

All methods block (mounts, disk): the executor calls them in a thread, one at a time.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from safepy.errors import LocalFault
from safepy.host import mounts, openfiles
from safepy.host.openfiles import OpenFile
from safepy.storage import marker

#: How long a program that has a file open for writing may take to end: it may have been told to
#: a moment ago.
WRITERS_LIMIT_S = 5.0
_LOOK_EVERY_S = 0.5
#: More are only counted in a message.
_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Tree:
    """`directory` is what the application sees, `door` the private way to the real files."""

    directory: str
    door: str
    #: Relative paths that must exist (`<tocheck>`).
    tocheck: tuple[str, ...] = ()


class Trees:
    """`id_path` is where this node remembers the random id it marked its trees with."""

    def __init__(self, module: str, trees: Sequence[Tree], id_path: str) -> None:
        self._module = module
        self._id_path = id_path
        self.trees = tuple(trees)
        #: The directories were closed whenever `cover` was called since the last worker began:
        #: nothing changed in them but by a worker, however that one ended (I18).
        self.kept_closed = True

    def cover(self, marked: bool) -> None:
        """Doors are open, directories covered, no dead mount is left. `marked`: the record says
        that these trees hold data of ours, so each must bear the mark. Raises LocalFault."""
        self.kept_closed &= all(_is_closed(tree.directory) for tree in self.trees)
        for tree in self.trees:
            mounts.detach_dead(tree.directory)
            mounts.open_door(tree.directory, tree.door)
            if marked:
                marker.check(tree.door, self._mark(), tree.directory)
            _check_entries(tree)
            mounts.cover(tree.directory)

    def taken_over(self) -> None:
        """A worker has begun, and knows of `kept_closed`."""
        self.kept_closed = True

    def check_open_files(self, limit_s: float = WRITERS_LIMIT_S) -> list[str]:
        """After `cover`: nobody can write behind our back. Returns sentences about who holds
        files open without being able to write: not dangerous, but worth knowing.

        Raises LocalFault, if after `limit_s` a process still has a file open for writing: its
        changes would go to the real file and not be replicated, on a primary, or disturb what
        is received, on a secondary (reference: userconfig 19.4)."""
        doors = [(tree.directory, tree.door) for tree in self.trees]
        deadline_s = time.monotonic() + limit_s
        while True:
            found = openfiles.find(doors)
            writers = [each for each in found if each.writes]
            if not writers:
                return _sentences(found)
            if time.monotonic() >= deadline_s:
                raise _written_behind(writers)
            time.sleep(_LOOK_EVERY_S)

    def uncover(self) -> None:
        """The real directories show; nothing of ours is mounted. Raises LocalFault."""
        for tree in self.trees:
            mounts.uncover(tree.directory, tree.door)

    def detach_dead(self) -> None:
        """No mount of a worker is left; the covers show. Raises LocalFault."""
        for tree in self.trees:
            mounts.detach_dead(tree.directory)

    def put_marks(self) -> None:
        """The trees bear our mark from now on. Raises LocalFault."""
        for tree in self.trees:
            if not mounts.stack(tree.door):
                raise LocalFault(f"the door to {tree.directory} is not open: it cannot be marked")
            marker.put(tree.door, self._mark())

    def close(self) -> None:
        """As `cover`, before anything is known about the module (the guard at boot): nobody can
        write. A directory that cannot be covered does not keep the others open; raises the
        first LocalFault afterwards."""
        first: LocalFault | None = None
        for tree in self.trees:
            try:
                mounts.detach_dead(tree.directory)
                mounts.open_door(tree.directory, tree.door)
                mounts.cover(tree.directory)
            except LocalFault as fault:
                first = first or fault
        if first is not None:
            raise first

    def _mark(self) -> marker.Mark:
        return marker.Mark(self._module, marker.own_id(self._id_path, secrets.token_hex(16)))


def _is_closed(directory: str) -> bool:
    """A cover or a mount of ours, dead or alive, stands there: nobody reaches the bare files."""
    table = mounts.mounts()
    here = mounts.stack(os.path.realpath(directory), table)
    return any(mounts.is_ours(mount, table) for mount in here)


def _check_entries(tree: Tree) -> None:
    """Raises LocalFault if something that `<tocheck>` names is not in the real directory."""
    for path in tree.tocheck:
        try:
            os.lstat(f"{tree.door}/{path}")
        except FileNotFoundError:
            raise LocalFault(
                f"{path} is not in the replicated directory {tree.directory} (tocheck)",
                "is its file system mounted? mount it, or put back what is missing, then start",
            ) from None
        except OSError as error:
            raise LocalFault(
                f"{tree.directory}/{path} cannot be examined (tocheck): {error.strerror}"
            ) from error


def _written_behind(writers: list[OpenFile]) -> LocalFault:
    return LocalFault(
        f"{_listed(writers)}: what it writes there would not be replicated",
        "end that program, which only the module may start, then safekit start again",
    )


def _sentences(found: list[OpenFile]) -> list[str]:
    if not found:
        return []
    text = f"Opened before the replicated directory was taken over: {_listed(found)}"
    return [f"{text}; what is done there later does not go through the replication"]


def _listed(found: list[OpenFile]) -> str:
    text = ", ".join(each.describe() for each in found[:_NAMED_MAX])
    more = len(found) - _NAMED_MAX
    return f"{text} and {more} more" if more > 0 else text
