"""Names and paths at their limits, and the sticky bit."""

from __future__ import annotations

import itertools
import os

from cases import file, folder, look, on_both, opened, tried, user


@on_both
def test_names_of_every_length_near_the_limit() -> object:
    results = []
    for length in (1, 2, 254, 255, 256, 1000, 4094, 4095, 4096):
        for letter in ("n", "é"):
            name = (letter * length).encode()[:length] if letter == "é" else b"n" * length
            results += [(length, letter, opened(name, os.O_CREAT | os.O_WRONLY))]
            results += [
                tried(os.link, name, b"l" + name[1:]),
                tried(os.symlink, name, b"s" * length),
            ]
            results += [tried(os.mkdir, b"d" * length), tried(os.rename, name, b"r" * length)]
    return results, len(os.listdir("."))


@on_both
def test_paths_of_every_length_near_the_limit() -> object:
    file("f", b"x")
    results = []
    for length in range(4090, 4100):
        path = "./" * ((length - 1) // 2) + ("/f" if length % 2 == 0 else "f")
        path = path[-length:] if len(path) > length else path
        results.append((length, len(path), look(path), opened(path, os.O_RDONLY)))
        target = "t" * length
        results.append(tried(os.symlink, target, f"l{length}"))
    return results


@on_both
def test_deeper_than_a_path_can_say() -> object:
    """Reached step by step, as `rm -r` and `find` do."""
    start = os.open(".", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    file("bottom", b"deep")
    results: list[object] = [look("bottom"), tried(os.getcwd) == "ENAMETOOLONG"]
    os.rename("bottom", "renamed")
    os.chmod("renamed", 0o600)
    results.append(look("renamed"))
    os.unlink("renamed")
    for _ in range(30):
        os.chdir("..")
        os.rmdir("d" * 250)
    os.fchdir(start)
    return results, os.listdir(".")


@on_both
def test_bytes_that_are_no_text() -> object:
    names = [b"\xff", b"\x80\x81", b"\xc3", b"a\xffb", b"\x01\x02", b"\x7f", b"\xed\xa0\x80"]
    results = []
    for name in names:
        file(name, name)
        os.link(name, name + b".l")
        os.symlink(name, name + b".s")
        os.rename(name, name + b".r")
        results += [look(name + b".r"), os.readlink(name + b".s"), look(name)]
    return results, sorted(os.listdir(b"."))


@on_both
def test_names_that_differ_in_case_or_form_are_different() -> object:
    names = ["a", "A", "é", "e\u0301", "ß", "SS", "ı", "i", "\u212b", "å", "A\u030a"]
    for name in names:
        file(name, name.encode())
    return sorted(os.listdir(".")) == sorted(names)


@on_both
def test_more_links_in_a_row_than_are_followed() -> object:
    for _ in range(1):
        os.symlink("b", "a")
        os.symlink("a", "b")
    os.symlink(".", "here")
    return [
        opened("a", os.O_RDONLY),
        opened("here/" * 39 + "here", os.O_RDONLY),
        opened("here/" * 40 + "here", os.O_RDONLY),
        opened("here/" * 50 + "here", os.O_RDONLY),
        tried(os.mkdir, "a/x"),
        tried(os.stat, "a/x"),
        tried(os.rename, "a/x", "y"),
    ]


@on_both
def test_sticky_directories() -> object:
    results = []
    for mode, owner, kind in itertools.product((0o1777, 0o1733, 0o777), (0, 1001, 1002), "fd"):
        for of in (0, 1001, 1002):
            here = folder(f"{mode:o}-{owner}-{of}{kind}", mode, owner)
            (file if kind == "f" else folder)(f"{here}/x", uid=of)
            remove = os.unlink if kind == "f" else os.rmdir
            with user(1001):
                results += [
                    (here, tried(os.rename, f"{here}/x", f"{here}/y")),
                    (here, tried(os.rename, f"{here}/y", f"{here}/x")),
                    (here, tried(remove, f"{here}/x")),
                ]
    return results
