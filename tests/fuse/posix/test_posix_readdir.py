"""Reading directories."""

from __future__ import annotations

import os
import subprocess

from cases import effect, file, folder, on_both, on_each_path, one_of_each, tried, user


@on_both
def test_each_kind_of_object_and_path() -> object:
    def names(path: str) -> list[str]:
        # Of the fewest whose names a case does not know: "..", and what is made on the way.
        return sorted(os.listdir(path))

    return on_each_path(names)


@on_both
def test_types_and_inode_numbers() -> object:
    one_of_each()
    with os.scandir(".") as entries:
        return sorted(
            (
                entry.name,
                entry.is_dir(follow_symlinks=False),
                entry.is_file(follow_symlinks=False),
                entry.is_symlink(),
                entry.inode() == os.lstat(entry.name).st_ino,
            )
            for entry in entries
        )


@on_both
def test_dots_are_there_once_and_lead_where_they_should() -> object:
    folder("d")
    listed = subprocess.run(["ls", "-fai", "d"], capture_output=True, check=True, text=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    wanted = [(str(os.stat(f"d/{name}").st_ino), name) for name in (".", "..")]
    return sorted(map(tuple, pairs)) == sorted(wanted)


@on_both
def test_reading_from_the_start_again() -> object:
    fd = os.open(".", os.O_RDONLY)
    seen = [os.listdir(fd)]
    for change in (lambda: file("a"), lambda: file("b"), lambda: os.unlink("a")):
        change()
        os.lseek(fd, 0, os.SEEK_SET)
        seen.append(sorted(os.listdir(fd)))
    return seen


@on_both
def test_removing_what_was_read() -> object:
    for number in range(1200):
        os.mknod(f"name-{number}")
    count = 0
    with os.scandir(".") as entries:
        for entry in entries:
            os.unlink(entry.name)
            count += 1
    return count, os.listdir(".")


@on_both
def test_names_of_any_bytes() -> object:
    names = [bytes([number, number + 1]) for number in range(1, 255, 2) if number not in b"./"]
    names += [b"...", b"..x", b"\xff" * 255, b"\n", b"a b\tc", "é".encode(), "e\u0301".encode()]
    for name in names:
        file(name, name)
    same = []
    for name in names:
        with open(name, "rb") as opened:
            same.append(opened.read() == name)
    return all(same), sorted(os.listdir(b".")) == sorted(names)


@on_both
def test_reading_changes_nothing_but_atime() -> object:
    folder("d")
    file("d/f")
    return effect(os.listdir, "d", watch=["d/f", "."])


@on_both
def test_who_may_read() -> object:
    results = []
    for mode in (0o755, 0o711, 0o744, 0o700, 0o444, 0o111):
        here = folder(f"d{mode:o}", mode)
        file(f"{here}/f")
        with user():
            results.append(
                (tried(os.listdir, here), tried(lambda at: os.stat(at).st_mode, f"{here}/f"))
            )
    return results


@on_both
def test_descriptors_that_are_no_directories() -> object:
    file("f")
    return tried(os.listdir, os.open("f", os.O_RDONLY)), tried(os.listdir, os.open(".", os.O_PATH))
