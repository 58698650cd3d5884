"""rename and renameat2 with its flags."""

from __future__ import annotations

import os
import stat

from cases import effect, file, folder, look, on_both, on_each_path, tried, user

from safepy.storage import syscalls

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
HERE = -100


def move(old: str, new: str, flags: int) -> None:
    syscalls.renameat2(HERE, os.fsencode(old), HERE, os.fsencode(new), flags)


def make(kind: str, path: str) -> None:
    match kind:
        case "file":
            file(path, b"content")
        case "dir" | "full":
            folder(path)
            if kind == "full":
                file(f"{path}/inner")
        case "link":
            os.symlink("nowhere", path)
        case "pipe":
            os.mkfifo(path)
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3))


@on_both
def test_from_each_kind_of_object_and_path() -> object:
    return on_each_path(lambda path: os.rename(path, "target"))


@on_both
def test_onto_each_kind_of_object_and_path() -> object:
    file("source")
    folder("source.d")
    results = []
    for source in ("source", "source.d"):

        def onto(path: str, source: str = source) -> None:
            os.rename(source, path)
            os.rename(path, source)

        folder(f"in.{source}")
        os.chdir(f"in.{source}")
        os.rename(f"../{source}", source)
        results.append(on_each_path(onto))
        os.chdir("..")
    return results


@on_both
def test_every_kind_onto_every_kind_with_every_flag() -> object:
    kinds = ["file", "dir", "full", "link", "pipe", "device"]
    results = []
    for flags in (0, NOREPLACE, EXCHANGE, WHITEOUT):
        for old in kinds:
            for new in [*kinds, "none"]:
                here = folder(f"{flags}-{old}-{new}")
                make(old, f"{here}/old")
                folder(f"{here}/d")
                make(new, f"{here}/d/new")
                watch = [f"{here}/old", f"{here}/d/new", here, f"{here}/d"]
                before = [look(name) for name in watch]
                outcome = tried(move, watch[0], watch[1], flags)
                results.append((here, outcome, before, [look(name) for name in watch]))
    return results


@on_both
def test_flags_that_exclude_each_other() -> object:
    file("f")
    file("g")
    return [(flags, tried(move, "f", "g", flags)) for flags in (3, 6, 5, 7, 8, 16, 1 << 31)]


@on_both
def test_what_it_stamps() -> object:
    folder("a")
    folder("b")
    file("a/f")
    file("b/g")
    folder("a/d")
    os.link("a/f", "b/same")
    watch = ["a", "b", "a/f", "b/f", "b/g", "a/d", "b/d", "b/same", "a/new"]
    return [
        effect(os.rename, "a/f", "a/new", watch=watch),
        effect(os.rename, "a/new", "b/f", watch=watch),
        effect(os.rename, "b/f", "b/g", watch=watch),
        effect(os.rename, "b/g", "b/same", watch=watch),
        effect(os.rename, "a/d", "b/d", watch=watch),
        effect(os.rename, "b/d", "b/d", watch=watch),
        effect(move, "b/g", "b/d", EXCHANGE, watch=watch),
        effect(move, "b/g", "a/d", WHITEOUT, watch=[*watch, "b/g"]),
        effect(os.rename, "none", "b/g", watch=watch),
    ]


@on_both
def test_two_names_of_one_file_both_stay() -> object:
    file("a", b"x")
    os.link("a", "b")
    return tried(os.rename, "a", "b"), look("a"), look("b"), tried(move, "a", "b", NOREPLACE)


@on_both
def test_a_directory_into_itself() -> object:
    os.makedirs("d/e/f")
    return [
        tried(os.rename, old, new)
        for old, new in (
            ("d", "d/x"),
            ("d", "d/e/x"),
            ("d", "d/e"),
            ("d/e", "d"),
            ("d", "d"),
            (".", "x"),
            ("d", "."),
            ("..", "x"),
            ("d/.", "x"),
            ("d/e/..", "x"),
            ("d", "d/e/.."),
        )
    ]


@on_both
def test_directories_over_each_other() -> object:
    for name in ("empty", "empty2", "full/x", "full2/y"):
        os.makedirs(name)
    results = [
        tried(os.rename, "full", "full2"),
        tried(os.rename, "empty", "full"),
        tried(os.rename, "full", "empty"),
        tried(os.rename, "empty2", "empty/x"),
        look("."),
        look("empty"),
        look("empty/x"),
    ]
    return results, sorted(os.listdir(".")), sorted(os.listdir("empty"))


@on_both
def test_link_counts_of_parents() -> object:
    os.makedirs("a/d1")
    os.makedirs("a/d2")
    os.makedirs("b/d3")

    def counts() -> list[int]:
        return [os.stat(name).st_nlink for name in (".", "a", "b")]

    results = [counts()]
    os.rename("a/d1", "b/d1")
    results.append(counts())
    os.rename("a/d2", "b/d3")
    results.append(counts())
    file("a/f")
    move("a/f", "b/d1", EXCHANGE)
    results.append(counts())
    return results


@on_both
def test_who_may_rename_in_sticky_directories() -> object:
    results = []
    for mode in (0o1777, 0o777, 0o755):
        for parent_owner in (0, 1001):
            for owner in (0, 1001, 1002):
                for kind in ("file", "dir"):
                    here = folder(f"{mode:o}-{parent_owner}-{owner}-{kind}", mode, parent_owner)
                    (file if kind == "file" else folder)(f"{here}/old", uid=owner)
                    (file if kind == "file" else folder)(f"{here}/new", uid=owner)
                    with user(1001):
                        if mode & 2:
                            file(f"{here}/mine")
                        results += [
                            (here, tried(os.rename, f"{here}/old", f"{here}/other")),
                            (here, tried(os.rename, f"{here}/mine", f"{here}/new")),
                        ]
    return results


@on_both
def test_a_directory_of_another_owner_cannot_move_to_another_parent() -> object:
    """Its entry ".." would change, which needs the right to write to it."""
    folder("a", 0o777)
    folder("b", 0o777)
    results = []
    for mode in (0o755, 0o777):
        folder(f"a/d{mode:o}", mode)
        with user():
            results.append(tried(os.rename, f"a/d{mode:o}", f"a/r{mode:o}"))
            results.append(tried(os.rename, f"a/r{mode:o}", f"b/r{mode:o}"))
    return results


@on_both
def test_an_open_file_follows_its_name() -> object:
    folder("d")
    file("f", b"one")
    fd, at = os.open("f", os.O_RDWR), os.open("d", os.O_RDONLY)
    os.rename("f", "d/g")
    os.rename("d", "e")
    os.pwrite(fd, b"ONE", 0)
    with open("g", "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=at)) as moved:
        return moved.read(), look("e/g"), look(fd), os.readlink(f"/proc/self/fd/{fd}")[-4:]


@on_both
def test_a_whiteout_is_a_device_of_nothing() -> object:
    file("f")
    os.chmod(".", 0o777)
    move("f", "g", WHITEOUT)
    with user():
        file("u")
        outcome = tried(move, "u", "v", WHITEOUT)
    return look("f"), stat.S_ISCHR(os.lstat("f").st_mode), outcome, look("u")


@on_both
def test_to_another_mount() -> object:
    file("f")
    folder("d")
    return tried(os.rename, "f", "/dev/shm/safepy-f"), tried(os.rename, "d", "/dev/shm/safepy-d")
