"""Mounts of the lab, and the FUSE connections of its nodes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .procs import run

CONNECTIONS = Path("/sys/fs/fuse/connections")


def mounted_below(root: Path) -> list[str]:
    """Mount points at or below `root` in this namespace, deepest first."""
    prefix = str(root)
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = _unescape(line.split()[4])
        if point == prefix or point.startswith(prefix + "/"):
            points.append(point)
    return points[::-1]


def unmount_below(root: Path) -> None:
    for point in mounted_below(root):
        if run("umount", point, check=False).returncode != 0:
            run("umount", "--lazy", point)


def fuse_connections(pid: int) -> set[str]:
    """Numbers of the FUSE connections mounted in the mount namespace of a process."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, OSError):
        return set()
    found = set()
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("fuse", "fuseblk"):
            found.add(before.split()[2].partition(":")[2])
    return found


def abort_fuse(connections: set[str]) -> None:
    """End requests that wait for a server that will never answer."""
    if not connections or not CONNECTIONS.is_dir():
        return
    if not any(CONNECTIONS.iterdir()):
        run("mount", "-t", "fusectl", "none", str(CONNECTIONS), check=False)
    for number in connections:
        abort = CONNECTIONS / number / "abort"
        if abort.exists():
            abort.write_text("1")


def mount_image(image: Path, point: Path, size: str) -> None:
    """A real ext4 of its own on a sparse file."""
    if not image.exists():
        with image.open("wb") as file:
            os.truncate(file.fileno(), _bytes(size))
        lazy = "lazy_itable_init=1,lazy_journal_init=1"
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, str(image))
    run("mount", "-o", "loop", str(image), str(point))


def _bytes(size: str) -> int:
    number, unit = size[:-1], size[-1].upper()
    return int(number) * {"M": 1 << 20, "G": 1 << 30}[unit]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
