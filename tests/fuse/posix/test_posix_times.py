"""utimensat and futimens."""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import time

from cases import TICK_S, effect, file, folder, look, on_both, on_each_path, tried, user

NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
SECOND = 10**9
_libc = ctypes.CDLL(None, use_errno=True)


def times(path: str) -> tuple[int, int]:
    st = os.lstat(path)
    return st.st_atime_ns, st.st_mtime_ns


def utimens(path: str, atime_ns: int, mtime_ns: int) -> None:
    """The nanoseconds as they are, so that NOW and OMIT can be said."""
    raw = struct.pack("=qqqq", 0, atime_ns, 0, mtime_ns)
    if _libc.utimensat(-100, os.fsencode(path), raw, 0) < 0:
        raise OSError(ctypes.get_errno(), path)


@on_both
def test_each_kind_of_object_and_path() -> object:
    def set_times(path: str) -> tuple[int, int]:
        os.utime(path, ns=(5, 6))
        return os.stat(path).st_mtime_ns, os.stat(path).st_atime_ns

    return on_each_path(set_times)


@on_both
def test_times_at_the_edges() -> object:
    file("f")
    results = []
    for seconds in (0, -1, 1, 1 << 31, (1 << 31) - 1, -(1 << 31), -(1 << 31) - 1, 1 << 33, 1 << 34):
        for ns in (0, 1, 999_999_999):
            value = seconds * SECOND + ns
            results.append((value, tried(os.utime, "f", ns=(value, value + 1)), times("f")))
    return results


@on_both
def test_now_and_omit() -> object:
    file("f")
    results = []
    for atime, mtime in itertools.product((NOW, OMIT, 5, SECOND, -1), repeat=2):
        os.utime("f", ns=(SECOND, 2 * SECOND))
        outcome = tried(utimens, "f", atime, mtime)
        status = os.stat("f")
        now_ns = time.time_ns()
        shown = ["now" if now_ns - t < 5 * SECOND else t for t in (times("f"))]
        results.append((outcome, shown, now_ns - status.st_ctime_ns < 5 * SECOND))
    return results


@on_both
def test_what_it_stamps() -> object:
    file("f")
    folder("d")
    fd = os.open("f", os.O_RDONLY)
    return [
        effect(os.utime, "f", ns=(1, 2), watch=["f", ".", fd]),
        effect(os.utime, "f", ns=(1, 2), watch=["f", "."]),
        effect(os.utime, "f", watch=["f", "."]),
        effect(utimens, "f", OMIT, OMIT, watch=["f", "."]),
        effect(utimens, "f", NOW, OMIT, watch=["f", "."]),
        effect(utimens, "f", OMIT, NOW, watch=["f", "."]),
        effect(os.utime, fd, ns=(3, 4), watch=["f", "."]),
        effect(os.utime, "d", ns=(1, 2), watch=["d", "."]),
    ]


@on_both
def test_who_may() -> object:
    results = []
    for mode in (0o666, 0o644, 0o444, 0o600):
        for owner in (0, 1001):
            for ns in (None, (1, 2), "now", "omit"):
                name = f"{mode:o}-{owner}-{ns}"
                file(name, mode=mode, uid=owner)
                with user():
                    if ns == "now":
                        outcome = tried(utimens, name, NOW, OMIT)
                    elif ns == "omit":
                        outcome = tried(utimens, name, OMIT, OMIT)
                    elif ns is None:
                        outcome = tried(os.utime, name)
                    else:
                        outcome = tried(os.utime, name, ns=ns)
                    results.append((name, outcome))
    return results


@on_both
def test_a_set_time_lasts_until_the_next_change() -> object:
    file("f", b"x")
    results = []
    for change in ("read", "chmod", "link", "write", "rename"):
        os.utime("f", ns=(SECOND, SECOND))
        time.sleep(TICK_S)
        if change == "read":
            with open("f", "rb") as opened:
                opened.read()
        elif change == "chmod":
            os.chmod("f", 0o600)
        elif change == "link":
            os.link("f", "g")
        elif change == "rename":
            os.rename("f", "h")
            os.rename("h", "f")
        else:
            with open("f", "ab") as opened:
                opened.write(b"y")
        results.append((change, os.stat("f").st_mtime_ns == SECOND, look("f")))
    return results


@on_both
def test_times_never_go_back_and_are_shared_by_all_names() -> object:
    file("f", b"x")
    os.link("f", "g")
    stamps = []
    for number in range(20):
        with open("f" if number % 2 else "g", "ab") as opened:
            opened.write(b"y")
        time.sleep(TICK_S)
        stamps.append(os.stat("f").st_mtime_ns)
    return stamps == sorted(set(stamps)), os.stat("f").st_ctime_ns == os.stat("g").st_ctime_ns


@on_both
def test_a_file_written_now_is_not_older_than_what_was_made_before() -> object:
    order = []
    for number in range(30):
        name = f"f{number}"
        file(name, b"x") if number % 2 else os.mkdir(name)
        if number % 3 == 0:
            os.utime(name)
        order.append(os.stat(name).st_mtime_ns)
    return order == sorted(order)
