"""Which names of the trees are replicated at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from heapq import merge

from safepy.core.replica.exclusion import Exclusion
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.tree import Path

#: Folders in the root of a tree in which a synchronisation holds what it takes out of its place.
HOLD_PREFIX = b".safekit-moved-"
_PORTION_NAMES = 20_000


class Scope:
    """`exclusions`: one for each tree, or none at all."""

    def __init__(self, exclusions: Sequence[Exclusion] = ()) -> None:
        self._exclusions = tuple(exclusions) if any(exclusions) else ()

    @property
    def selective(self) -> bool:
        """Whether anything is left out."""
        return bool(self._exclusions)

    def names(self, tree: int, path: Path, dir_fd: int) -> list[bytes]:
        """The replicated names of a directory, in order."""
        if self._exclusions and self._exclusions[tree]:
            exclusion = self._exclusions[tree]
            with os.scandir(b"/proc/self/fd/%d" % dir_fd) as listed:
                names = [
                    entry.name
                    for entry in listed
                    if not exclusion.excludes(
                        (*path, entry.name), entry.is_dir(follow_symlinks=False)
                    )
                ]
        else:
            names = trees.names_in(dir_fd)
        if not path:
            names = [name for name in names if not name.startswith(HOLD_PREFIX)]
        return in_order(names)

    def leaves_out(self, tree: int, path: Path) -> bool:
        """Whether a marked path is left out whatever stands there; what depends on its kind is
        left out with the names of its directory."""
        if path and path[0].startswith(HOLD_PREFIX):
            return True
        if not self._exclusions:
            return False
        return self._exclusions[tree].covers(path, is_directory=True)

    def excludes(self, tree: int, path: Path, is_directory: bool) -> bool:
        """Whether what stands at `path` is left out, its parent being replicated."""
        return bool(self._exclusions) and self._exclusions[tree].excludes(path, is_directory)


def in_order(names: list[bytes]) -> list[bytes]:
    """Sorted. The interpreter does nothing else while it sorts: writers would wait for a directory
    of a million names, so it is done in portions."""
    if len(names) <= _PORTION_NAMES:
        names.sort()
        return names
    portions = [
        sorted(names[at : at + _PORTION_NAMES]) for at in range(0, len(names), _PORTION_NAMES)
    ]
    return list(merge(*portions))
