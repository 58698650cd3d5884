"""What stands on the target where an entry is to be: may it stay, and which names share it."""

from __future__ import annotations

import os
from stat import S_IFMT, S_ISBLK, S_ISCHR, S_ISLNK

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import Entry, Group
from safepy.dataplane.resync.tree import Path


def same_kind(dir_fd: int, name: bytes, found: os.stat_result, entry: Entry) -> bool:
    """Whether what stands there differs from the entry in content and attributes only."""
    if S_IFMT(found.st_mode) != S_IFMT(entry.mode):
        return False
    if S_ISLNK(entry.mode):
        return os.readlink(name, dir_fd=dir_fd) == entry.link
    if S_ISCHR(entry.mode) or S_ISBLK(entry.mode):
        return found.st_rdev == entry.rdev
    return True


def arranged(group: Group, parents: dict[Path, int]) -> tuple[dict[Path, int], int | None]:
    """Which inodes the names are now, and the one to keep, if any may be."""
    inodes: dict[Path, int] = {}
    counts: dict[int, int] = {}
    allowed: set[int] = set()
    for path in group.paths:
        dir_fd = parents[path[:-1]]
        found = trees.status(dir_fd, path[-1])
        if found is None or not same_kind(dir_fd, path[-1], found, group.entry):
            continue
        inodes[path] = found.st_ino
        count = counts[found.st_ino] = counts.get(found.st_ino, 0) + 1
        # All its names are in the group: no name outside of it can be reached.
        if count == found.st_nlink:
            allowed.add(found.st_ino)
    if group.grow:
        return inodes, inodes.get(group.paths[0])
    return inodes, max(allowed, key=lambda inode: counts[inode], default=None)
