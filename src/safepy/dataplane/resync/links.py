"""Which names of a tree are one inode, as far as the source came across them.

Kept over the rounds, because a mark names one path only: what was written through a name that is
gone since must still reach the inode's other names. So a name is forgotten only when it was
looked at and is another file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from safepy.dataplane.resync.tree import Path


@dataclass(slots=True)
class _Node:
    inodes: set[int] = field(default_factory=set)
    below: dict[bytes, _Node] = field(default_factory=dict)


class LinkNames:
    """Names of inodes with several, in one tree."""

    def __init__(self) -> None:
        self._names: dict[int, set[Path]] = {}
        self._root = _Node()

    def add(self, inode: int, path: Path) -> None:
        names = self._names.setdefault(inode, set())
        if path in names:
            return
        names.add(path)
        node = self._root
        for name in path:
            node = node.below.setdefault(name, _Node())
        node.inodes.add(inode)

    def names(self, inode: int) -> list[Path]:
        return sorted(self._names.get(inode, ()))

    def discard(self, inode: int, path: Path) -> None:
        """`path` is no name of this inode any more."""
        names = self._names.get(inode)
        if names is None or path not in names:
            return
        names.discard(path)
        if not names:
            del self._names[inode]
        nodes = [self._root]
        for name in path:
            nodes.append(nodes[-1].below[name])
        nodes[-1].inodes.discard(inode)
        for depth in range(len(path), 0, -1):
            if nodes[depth].inodes or nodes[depth].below:
                break
            del nodes[depth - 1].below[path[depth - 1]]

    def inodes_below(self, path: Path) -> set[int]:
        """Inodes that have or had a name at `path` or below it."""
        node: _Node | None = self._root
        for name in path:
            node = node.below.get(name) if node is not None else None
        if node is None:
            return set()
        found: set[int] = set()
        pending = [node]
        while pending:
            node = pending.pop()
            found |= node.inodes
            pending += node.below.values()
        return found
