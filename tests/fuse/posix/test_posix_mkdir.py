"""mkdir and rmdir."""

from __future__ import annotations

import itertools
import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user


@on_both
def test_mkdir_at_each_path() -> object:
    return on_each_path(os.mkdir)


@on_both
def test_rmdir_of_each_kind_of_object_and_path() -> object:
    return on_each_path(os.rmdir)


@on_both
def test_mode_and_umask() -> object:
    results = []
    for mode, umask in itertools.product([0o777, 0o7777, 0o1755, 0o2700, 0], [0, 0o22, 0o77]):
        os.umask(umask)
        results += [tried(os.mkdir, f"{mode:o}-{umask:o}", mode), look(f"{mode:o}-{umask:o}")]
    return results


@on_both
def test_what_they_stamp() -> object:
    folder("there")
    file("there/f")
    return [
        effect(os.mkdir, "d", watch=[".", "..", "d"]),
        effect(os.mkdir, "d", watch=[".", "d"]),
        effect(os.mkdir, "d/e", watch=[".", "d", "d/e"]),
        effect(os.rmdir, "d", watch=[".", "d"]),
        effect(os.rmdir, "d/e", watch=[".", "d"]),
        effect(os.rmdir, "there", watch=[".", "there"]),
        effect(os.rmdir, "d", watch=[".", "there"]),
    ]


@on_both
def test_set_group_id_is_handed_down() -> object:
    folder("parent", 0o2777, 0, 4242)
    results = []
    for who in ((1001, 1001, ()), (1001, 1001, (4242,)), (0, 0, ())):
        with user(*who):
            path = f"parent/{who[0]}-{len(who[2])}"
            results += [tried(os.mkdir, path), look(path), tried(os.mkdir, f"{path}/sub")]
            results += [look(f"{path}/sub")]
    return results


@on_both
def test_who_may() -> object:
    results = []
    for mode, owner in itertools.product((0o777, 0o755, 0o300, 0o1777, 0o666), (0, 1001)):
        parent = folder(f"d{mode:o}-{owner}", mode, owner)
        folder(f"{parent}/roots")
        with user():
            results += [
                (parent, tried(os.mkdir, f"{parent}/mine"), look(f"{parent}/mine")),
                (parent, tried(os.rmdir, f"{parent}/roots")),
                (parent, tried(os.rmdir, f"{parent}/mine")),
            ]
    return results


@on_both
def test_a_removed_directory_that_is_in_use() -> object:
    folder("d")
    fd = os.open("d", os.O_RDONLY)
    os.chdir("d")
    os.rmdir("../d")
    results = [
        look(fd),
        tried(os.listdir, fd),
        tried(os.mkdir, "x"),
        tried(file, "x"),
        tried(os.symlink, "y", "x"),
        tried(os.listdir, "."),
        tried(os.stat, "x"),
        tried(os.rmdir, "."),
        tried(os.getcwd),
        effect(os.fchmod, fd, 0o700, watch=[fd]),
        tried(os.setxattr, fd, "user.x", b"1"),
        tried(os.getxattr, fd, "user.x"),
        tried(os.listxattr, fd),
        tried(os.utime, fd, ns=(5, 6)),
        tried(os.fsync, fd),
        os.fstat(fd).st_mtime_ns,
    ]
    os.chdir("/")
    return results


@on_both
def test_not_empty_is_told_of_everything_within() -> object:
    results = []
    for name in ("file", "dir", "link", ".hidden"):
        os.mkdir(name + ".d")
        inner = f"{name}.d/{name}"
        if name == "dir":
            os.mkdir(inner)
        elif name == "link":
            os.symlink("nowhere", inner)
        else:
            file(inner)
        results.append(tried(os.rmdir, name + ".d"))
        (os.rmdir if name == "dir" else os.unlink)(inner)
        results.append(tried(os.rmdir, name + ".d"))
    return results


@on_both
def test_deep_trees_and_link_counts() -> object:
    for _ in range(60):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    file("bottom")
    depth = len(os.getcwd())
    counts = []
    os.unlink("bottom")
    for _ in range(60):
        os.chdir("..")
        counts.append(os.stat("d" * 20).st_nlink)
        os.rmdir("d" * 20)
    return depth > 1200, counts, os.stat(".").st_nlink
