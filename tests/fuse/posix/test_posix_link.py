"""link(2): further names of one object."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user


@on_both
def test_to_each_kind_of_object_and_path() -> object:
    numbers = iter(range(10_000))
    return [on_each_path(lambda path: os.link(path, f"name{next(numbers)}", follow_symlinks=False))]


@on_both
def test_at_each_path() -> object:
    folder("x")
    file("source")
    os.chdir("x")
    return on_each_path(lambda path: os.link("../source", path))


@on_both
def test_following_or_not() -> object:
    file("f")
    os.symlink("f", "l")
    os.link("l", "not", follow_symlinks=False)
    os.link("l", "followed", follow_symlinks=True)
    return look("not"), look("followed"), look("f"), look("l")


@on_both
def test_what_it_stamps() -> object:
    file("f")
    folder("d")
    watch = ["f", ".", "d", "d/g", "h"]
    return [
        effect(os.link, "f", "d/g", watch=watch),
        effect(os.link, "d/g", "h", watch=watch),
        effect(os.link, "f", "h", watch=watch),
        effect(os.unlink, "f", watch=watch),
    ]


@on_both
def test_all_names_are_one_file() -> object:
    file("f", b"1")
    for number in range(100):
        os.link("f", f"name{number}")
    with open("name7", "ab") as opened:
        opened.write(b"23")
    os.chmod("name99", 0o600)
    os.unlink("f")
    inodes = {os.stat(f"name{number}").st_ino for number in range(100)}
    with open("name50", "rb") as opened:
        return look("name0"), len(inodes), opened.read()


@on_both
def test_who_may_link() -> object:
    results = []
    folder("open", 0o777)
    for mode in (0o666, 0o644, 0o600, 0o4755):
        file(f"open/{mode:o}", b"", mode)
        for who in (1001, 1002):
            with user(who, who):
                results.append(tried(os.link, f"open/{mode:o}", f"open/{mode:o}-{who}"))
                results.append(tried(os.link, f"open/{mode:o}", f"{mode:o}-{who}"))
    return results


@on_both
def test_to_another_mount() -> object:
    file("f")
    return tried(os.link, "f", "/dev/shm/safepy-f")


@on_both
def test_as_many_as_the_file_system_allows() -> object:
    """65,000 on ext4."""
    file("f")
    at = os.open(".", os.O_RDONLY)
    made = 0
    outcome: object = None
    while outcome is None and made < 300:
        outcome = tried(os.link, "f", f"l{made}", src_dir_fd=at, dst_dir_fd=at)
        made += 1
    for number in range(made):
        os.unlink(f"l{number}")
    return made, outcome, look("f")
