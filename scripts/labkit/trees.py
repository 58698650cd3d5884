"""A tree with everything in it that a file system can hold, and the judge of two trees.

Names are bytes throughout: they need not be text.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

#: Left out of the comparison: the marker of safepy on the root (contracts: marker).
OWN_ATTRIBUTES = ("trusted.safekit",)
DATES_NS = (0, 1, 999_999_999, 1_000_000_000 * 10**9 + 123_456_789, 4_000_000_000 * 10**9)


def make(root: Path, files: int = 20_000, seed: int = 1) -> None:
    """Fill `root` with `files` regular files and every other kind of object, repeatably."""
    draw = random.Random(seed)
    top = os.fsencode(root)
    folders = [top]
    for number in range(max(1, files // 100)):
        folder = os.path.join(draw.choice(folders), _name(draw, b"d%d" % number))
        os.mkdir(folder)
        folders.append(folder)
    made: list[bytes] = []
    for number in range(files):
        path = os.path.join(draw.choice(folders), _name(draw, b"f%d" % number))
        _regular(draw, path, number)
        made.append(path)
    _links(draw, folders, made, count=files // 50)
    _special(draw, folders)
    for path in [*made, *folders]:
        _dress(draw, path)


def _name(draw: random.Random, unique: bytes) -> bytes:
    """A name of a hard kind that ends with `unique`."""
    kinds = (
        b"plain-",
        b"new\nline-",
        b"not utf-8 \xff\xfe\x80-",
        b" leading and trailing ",
        b"-rf *?[a]\\'\"`$(x);|&-",
        "\u00fcml\u00e4ut-\u65e5\u672c-".encode(),
        b"\x01\x1b[31m-",
        b".hidden-",
        b"...",
        b"%s%n-",
    )
    if draw.random() < 0.03:
        return b"x" * (255 - len(unique)) + unique
    return draw.choice(kinds) + unique


def _regular(draw: random.Random, path: bytes, number: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if number % 500 == 7:  # sparse: a hole, data, a hole
            os.ftruncate(handle, 3 << 20)
            os.pwrite(handle, b"island", 1 << 20)
        elif number % 200 == 3:  # more than one zone of a comparison
            os.write(handle, draw.randbytes(300_000))
        elif number % 10:
            os.write(handle, draw.randbytes(draw.randrange(1, 3000)))
    finally:
        os.close(handle)


def _links(draw: random.Random, folders: list[bytes], made: list[bytes], count: int) -> None:
    targets = (b"/etc/passwd", b"../..", b"nowhere\n\xff", b"x" * 1000, b".")
    for number in range(count):
        os.symlink(draw.choice(targets), os.path.join(draw.choice(folders), b"sym%d" % number))
        os.link(draw.choice(made), os.path.join(draw.choice(folders), b"hard%d" % number))


def _special(draw: random.Random, folders: list[bytes]) -> None:
    kinds = (
        (stat.S_IFIFO, 0),
        (stat.S_IFSOCK, 0),
        (stat.S_IFCHR, os.makedev(1, 3)),
        (stat.S_IFBLK, os.makedev(7, 250)),
    )
    for number in range(20):
        kind, device = kinds[number % len(kinds)]
        os.mknod(os.path.join(draw.choice(folders), b"node%d" % number), kind | 0o640, device)


def _dress(draw: random.Random, path: bytes) -> None:
    """Owner first: changing it takes away set-user-id bits."""
    if draw.random() < 0.3:
        os.chown(
            path, draw.choice((0, 1, 1000, 65_000, 4_000_000_000)), draw.choice((0, 5, 70_000))
        )
    if draw.random() < 0.3:
        os.chmod(path, draw.choice((0o000, 0o400, 0o644, 0o4755, 0o2770, 0o1777)))
    if draw.random() < 0.05:
        os.setxattr(path, b"user.colour", draw.choice((b"", b"red", b"\x00\xff" * 100)))
    if draw.random() < 0.3:
        os.utime(path, ns=(draw.choice(DATES_NS), draw.choice(DATES_NS)))


# -- the judge ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """All of one object that must be the same on both sides; holes are not looked at."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    rdev: int
    content: str
    attributes: tuple[tuple[str, bytes], ...]
    same_as: bytes


def survey(root: Path, *, times: bool = True) -> dict[bytes, Entry]:
    """Every object below `root` by its relative path; hard links point at their first name."""
    top = os.fsencode(root)
    first_name: dict[tuple[int, int], bytes] = {}
    found: dict[bytes, Entry] = {}
    for path in sorted(_walk(top)):
        relative = os.path.relpath(path, top)
        about = os.lstat(path)
        identity = (about.st_dev, about.st_ino)
        is_folder = stat.S_ISDIR(about.st_mode)
        first = relative if is_folder else first_name.setdefault(identity, relative)
        found[relative] = Entry(
            mode=about.st_mode,
            uid=about.st_uid,
            gid=about.st_gid,
            mtime_ns=about.st_mtime_ns if times else 0,
            rdev=about.st_rdev if stat.S_IFMT(about.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0,
            content=_content(path, about.st_mode) if first == relative else "",
            attributes=_attributes(path),
            same_as=first,
        )
    return found


def _walk(top: bytes) -> Iterator[bytes]:
    yield top
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry.path
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _content(path: bytes, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return repr(os.readlink(path))
    if not stat.S_ISREG(mode):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _attributes(path: bytes) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in names
        if not name.startswith(OWN_ATTRIBUTES)
    )


def differences(one: Path, other: Path, *, times: bool = True) -> list[str]:
    """What is not equal between two trees, in words; empty if nothing."""
    left, right = survey(one, times=times), survey(other, times=times)
    found = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left or path not in right:
            found.append(f"{path!r}: only in {one if path in left else other}")
        elif left[path] != right[path]:
            theirs = asdict(right[path])
            for name, mine in asdict(left[path]).items():
                if mine != theirs[name]:
                    found.append(f"{path!r}: {name} {mine!r} and {theirs[name]!r}")
    return found
