"""Who asked: what the kernel tells of a caller, and what it does not and can be looked up."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_member(pid: int, gid: int, group: int) -> bool:
    """Whether the caller, with `gid` as its group, belongs to `group`, also by another of its
    groups. False if it cannot be seen from here: then it has no rights that come of it."""
    return gid == group or group in _groups(pid)


def _groups(pid: int) -> set[int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:  # gone, or of another pid namespace (0)
        return set()
    return {int(word) for line in lines if line.startswith("Groups:") for word in line.split()[1:]}


def mode_after_strangers_write(st: os.stat_result) -> int | None:
    """The mode after a write by an ordinary user outside of the file's group: since 6.2 Linux
    takes set-group-id away also where there is no group-execute. None: nothing to take away beside
    what every ordinary user's write takes."""
    mode = st.st_mode
    if not mode & stat.S_ISGID or mode & stat.S_IXGRP or not stat.S_ISREG(mode):
        return None
    return stat.S_IMODE(mode) & ~(stat.S_ISGID | stat.S_ISUID)
