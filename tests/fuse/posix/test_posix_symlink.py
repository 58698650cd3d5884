"""symlink and readlink."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user


@on_both
def test_at_each_path() -> object:
    return on_each_path(lambda path: os.symlink("somewhere", path))


@on_both
def test_reading_each_kind_of_object_and_path() -> object:
    return on_each_path(os.readlink)


@on_both
def test_targets() -> object:
    targets = ["", ".", "..", "/", "x" * 59, "x" * 60, "x" * 61, "x" * 255, "a/" * 2000]
    targets += ["x" * 4094, "x" * 4095, "x" * 4096, "\udcff\udcfe", "new\nline", "/a//b/../c"]
    results = []
    for number, target in enumerate(targets):
        name = f"l{number}"
        results += [tried(os.symlink, target, name), look(name), tried(os.readlink, name)]
    return results


@on_both
def test_what_it_stamps() -> object:
    file("f")
    os.symlink("f", "there")
    return [
        effect(os.symlink, "f", "l", watch=[".", "f", "l"]),
        effect(os.symlink, "f", "there", watch=[".", "there"]),
        effect(os.chown, "l", 5, 6, follow_symlinks=False, watch=["l", "f", "."]),
        effect(os.utime, "l", ns=(5, 6), follow_symlinks=False, watch=["l", "f", "."]),
        look("l"),
    ]


@on_both
def test_owner() -> object:
    folder("open", 0o777)
    folder("set-group", 0o2777, 0, 4242)
    with user():
        for parent in ("open", "set-group"):
            os.symlink("x", f"{parent}/l")
    return look("open/l"), look("set-group/l"), tried(os.symlink, "x", "missing/l")


@on_both
def test_attributes_that_links_cannot_have() -> object:
    os.symlink("nowhere", "l")
    return [
        tried(os.setxattr, "l", "user.x", b"", follow_symlinks=False),
        tried(os.setxattr, "l", "trusted.x", b"1", follow_symlinks=False),
        tried(os.getxattr, "l", "trusted.x", follow_symlinks=False),
        tried(os.listxattr, "l", follow_symlinks=False),
        tried(os.chmod, "l", 0o600),
    ]


@on_both
def test_a_link_made_anew_leads_elsewhere() -> object:
    file("one", b"1")
    file("two", b"2")
    results = []
    for target in ("one", "two", "one"):
        os.symlink(target, "l.new")
        os.rename("l.new", "l")
        with open("l", "rb") as opened:
            results.append((os.readlink("l"), opened.read()))
    return results
