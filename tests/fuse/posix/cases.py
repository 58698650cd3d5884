"""Cases that are written once and run twice: on a mount and on the file system beneath.

A case is a function without arguments. It runs in a process and an empty directory of its own,
which is its working directory, and returns what it observed. What it returned and what it left
behind must be the same on both sides; an exception of its own is a mistake of the case.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import stat
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tree_picture import differences, picture

Case = Callable[[], object]
#: Longer than the tick of the clock that stamps files.
TICK_S = 0.006
LIMIT_S = 60
#: Every case there is, by the name of its file and its own.
CASES: dict[str, Case] = {}
#: What was observed beneath, so that it need not be again.
EXPECTED: dict[str, object] = {}


class Sides(NamedTuple):
    """Two directories that must behave alike."""

    beneath: Path
    mount: Path


def on_both(case: Case) -> Callable[[Sides], None]:
    """Make a test of the case, which wants the fixture `sides`."""
    name = f"{case.__module__.removeprefix('test_posix_')}.{case.__name__.removeprefix('test_')}"
    CASES[name] = case

    def test(sides: Sides) -> None:
        EXPECTED[name] = compare(name, case, sides)

    test.__doc__ = case.__doc__
    return test


def compare(name: str, case: Case, sides: Sides) -> object:
    """Fail unless both sides behave alike; what was observed."""
    expected, left_beneath = carry_out(case, sides.beneath / name)
    seen, left = carry_out(case, sides.mount / name)
    unlike = unequal(expected, seen)
    unlike += ["left: " + text for text in differences(left_beneath, left, {"mtime"})]
    if unlike:
        pytest.fail("first: beneath, second: mount\n" + "\n".join(unlike[:20]), pytrace=False)
    return expected


def carry_out(case: Case, folder: Path) -> tuple[object, Any]:
    """What the case returned, and a picture of what it left in `folder`."""
    folder.mkdir(mode=0o755)
    # One folder further down, so that ".." is the case's own, too.
    inner = folder / "in"
    inner.mkdir(mode=0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.setsid()
            os.umask(0o022)
            os.chdir(inner)
            result: object
            try:
                result = "returned", case()
                become(0, 0, [])
                os.chdir("/")
            except BaseException:  # noqa: BLE001 - told to the other process, whatever it is
                become(0, 0, [])
                result = "raised", traceback.format_exc()
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump((result, picture(folder)), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        ended = _ends_in_time(pipe.fileno())
        said = pipe.read() if ended else b""
    if not ended:
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ended, f"{folder.name} did not end in {LIMIT_S} s"
    assert said, f"{folder.name} said nothing"
    (kind, value), left = pickle.loads(said)
    assert kind == "returned", value
    return value, left


def unequal(one: object, other: object, where: str = "") -> list[str]:
    """The places at which two observations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        pairs = [(key, one.get(key, "nothing"), other.get(key, "nothing")) for key in keys]
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: {one} != {other}"]
        pairs = list(zip(range(len(one)), one, other, strict=True))
    else:
        return [] if one == other else [f"{where}: {str(one)[:300]} != {str(other)[:300]}"]
    found = [text for key, a, b in pairs for text in unequal(a, b, f"{where}/{key}")]
    # What stands beside it in the same tuple says what was tried.
    return [f"{text}  ({one})" if len(str(one)) < 200 else text for text in found]


def _ends_in_time(fd: int) -> bool:
    return bool(select.select([fd], [], [], LIMIT_S)[0])


# -- what cases observe ----------------------------------------------------------------------


def tried(call: Callable[..., object], *args: Any, **kwargs: Any) -> object:
    """What the call returned, or the name of its errno."""
    try:
        return call(*args, **kwargs)
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]


def opened(path: str | bytes, flags: int, mode: int = 0o777) -> str:
    """Open and close: "ok" or the name of the errno. Never waits for the other end of a pipe."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK, mode))
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]
    return "ok"


def look(path: str | bytes | int) -> object:
    """All of an object that is not a time or a number of its own; of no name: its errno."""
    try:
        st = os.stat(path) if isinstance(path, int) else os.lstat(path)
    except OSError as error:
        assert error.errno is not None
        return errno.errorcode[error.errno]
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, size, st.st_rdev


def effect(
    call: Callable[..., object], *args: Any, watch: Sequence[str | int] = (), **kwargs: Any
) -> object:
    """The call's result, and which attributes of what is watched it changed."""
    before = [_attributes(path) for path in watch]
    time.sleep(TICK_S)
    result = tried(call, *args, **kwargs)
    changes = {
        path if isinstance(path, str) else "open": _changed(old, new)
        for path, old, new in zip(watch, before, map(_attributes, watch), strict=True)
    }
    return result, changes


def _changed(old: dict[str, object], new: dict[str, object]) -> list[str]:
    if old.get("inode") != new.get("inode"):
        return ["another object"] if old and new else ["made" if new else "gone"]
    return [key for key in old if old[key] != new[key]]


def _attributes(path: str | int) -> dict[str, object]:
    try:
        st = os.stat(path) if isinstance(path, int) else os.lstat(path)
    except OSError:
        return {}
    return {
        "inode": st.st_ino,
        "mode": st.st_mode,
        "uid": st.st_uid,
        "gid": st.st_gid,
        "nlink": st.st_nlink,
        "size": 0 if stat.S_ISDIR(st.st_mode) else st.st_size,
        "atime": st.st_atime_ns,
        "mtime": st.st_mtime_ns,
        "ctime": st.st_ctime_ns,
    }


# -- who, and with what ----------------------------------------------------------------------


@contextmanager
def user(uid: int = 1001, gid: int = 1001, groups: Sequence[int] = ()) -> Iterator[None]:
    """Within, the case is an ordinary user."""
    become(uid, gid, groups)
    try:
        yield
    finally:
        become(0, 0, [])


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.seteuid(0)
    os.setgroups(list(groups))
    os.setegid(gid)
    os.seteuid(uid)


def file(
    path: str | bytes, data: bytes = b"", mode: int = 0o644, uid: int = 0, gid: int = 0
) -> str | bytes:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, data)
    os.close(fd)
    if uid or gid:
        os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def folder(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> str:
    os.mkdir(path)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def one_of_each() -> list[str]:
    """An object of every type, named by it."""
    file("file", b"content")
    folder("dir")
    file("dir/inner")
    folder("empty")
    os.symlink("file", "link")
    os.symlink("dir", "dirlink")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    os.mknod("socket", stat.S_IFSOCK | 0o644)
    os.mknod("device", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    names = "file dir empty link dirlink dangling loop pipe socket device"
    return names.split()


def chain(length: int) -> str:
    """A link that leads to a file over `length` links."""
    file("end", b"end")
    os.symlink("end", "link1")
    for number in range(2, length + 1):
        os.symlink(f"link{number - 1}", f"link{number}")
    return f"link{length}"


#: Paths in front of which every call on names must behave, beside `one_of_each`.
PATHS = [
    "",
    "missing",
    "missing/x",
    "file/x",
    "dir/inner/x",
    "pipe/x",
    "loop/x",
    "dangling/x",
    "dirlink/x",
    "file/",
    "dir/",
    "empty/",
    "link/",
    "dirlink/",
    "dangling/",
    "new/",
    "file/.",
    "empty/.",
    "dir/..",
    ".",
    "..",
    "./file",
    "dirlink/inner",
    "dir//inner",
    "n" * 255,
    "n" * 256,
    "dir/" + "n" * 256,
    "n" * 256 + "/x",
    "./" * 2043 + "long",
    "./" * 2046 + "long",
    "./" * 2047 + "long",
]


def on_each_path(call: Callable[[str], object]) -> object:
    """The outcome of a call on each kind of object and path, one after the other."""
    names = [*one_of_each(), *PATHS]
    outcome = [(name[:12], len(name), tried(call, name)) for name in names]
    return outcome, [(name[:12], look(name)) for name in names]


@contextmanager
def timed_out(after_s: float = 10.0) -> Iterator[None]:
    """What waits too long ends the case."""
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
