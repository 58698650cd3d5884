"""The replicated directories of one module and the mounts around them (protocol I18, F48).

All methods block (mounts, disk): the executor calls them in a thread, one at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from safepy.errors import LocalFault
from safepy.host import mounts
from safepy.storage import marker


@dataclass(frozen=True, slots=True)
class Tree:
    """`directory` is what the application sees, `door` the private way to the real files."""

    directory: str
    door: str


class Trees:
    """`id_path` is where this node remembers the random id it marked its trees with."""

    def __init__(self, module: str, trees: Sequence[Tree], id_path: str) -> None:
        self._module = module
        self._id_path = id_path
        self.trees = tuple(trees)

    def cover(self, marked: bool) -> None:
        """Doors are open, directories covered, no dead mount is left. `marked`: the record says
        that these trees hold data of ours, so each must bear the mark. Raises LocalFault."""
        for tree in self.trees:
            mounts.detach_dead(tree.directory)
            mounts.open_door(tree.directory, tree.door)
            if marked:
                marker.check(tree.door, self._mark(), tree.directory)
            mounts.cover(tree.directory)

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
