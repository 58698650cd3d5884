"""Who asked: what the kernel tells of a caller, and what it does not and can be looked up."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_CAP_FSETID = 1 << 4


def is_member(pid: int, gid: int, group: int) -> bool:
    """Whether the caller, with `gid` as its group, belongs to `group`, also by another of its
    groups. False if it cannot be seen from here: then it has no rights that come of it."""
    return gid == group or str(group) in _status(pid, "Groups:")


def keeps_set_id(pid: int) -> bool:
    """Whether the caller has CAP_FSETID: what it changes keeps its set-group-id bit. False if it
    cannot be seen from here."""
    return any(int(word, 16) & _CAP_FSETID for word in _status(pid, "CapEff:"))


def _status(pid: int, field: str) -> list[str]:
    """The words of a line of the caller's status in /proc; none if it cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:  # gone, or of another pid namespace (0)
        return []
    return [word for line in lines if line.startswith(field) for word in line.split()[1:]]


def mode_after_strangers_write(st: os.stat_result) -> int | None:
    """The mode after a write by an ordinary user outside of the file's group: since 6.2 Linux
    takes set-group-id away also where there is no group-execute. None: nothing to take away beside
    what every ordinary user's write takes."""
    mode = st.st_mode
    if not mode & stat.S_ISGID or mode & stat.S_IXGRP or stat.S_ISDIR(mode):
        return None
    return stat.S_IMODE(mode) & ~(stat.S_ISGID | stat.S_ISUID)
