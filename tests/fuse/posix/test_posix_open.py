"""open(2) and creat: flags, what they make, what they refuse, what they stamp."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess

from cases import chain, effect, file, folder, look, on_both, on_each_path, opened, tried, user


@on_both
def test_each_kind_of_object_with_each_flag() -> object:
    access = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]
    more = [0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_NOFOLLOW, os.O_DIRECTORY]
    more += [os.O_CREAT | os.O_TRUNC, os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_APPEND]
    more += [os.O_CREAT | os.O_NOFOLLOW, os.O_TRUNC | os.O_NOFOLLOW, os.O_NOATIME]
    results = []
    for flags in (a | b for a, b in itertools.product(access, more)):
        os.mkdir(f"{flags:o}")
        os.chdir(f"{flags:o}")
        results.append((oct(flags), on_each_path(lambda path, flags=flags: opened(path, flags))))
        os.chdir("..")
    return results


@on_both
def test_mode_and_umask() -> object:
    results = []
    for mode, umask in itertools.product([0o777, 0o644, 0o7777, 0o4751, 0], [0, 0o22, 0o77, 0o777]):
        os.umask(umask)
        name = f"{mode:o}-{umask:o}"
        results += [opened(name, os.O_CREAT | os.O_RDWR, mode), look(name)]
    return results


@on_both
def test_what_creation_stamps() -> object:
    file("there", b"x")
    flags = os.O_CREAT | os.O_WRONLY
    return [
        effect(opened, "new", flags, watch=[".", "new"]),
        effect(opened, "there", flags, watch=[".", "there"]),
        effect(opened, "there", flags | os.O_EXCL, watch=[".", "there"]),
        effect(opened, "there", flags | os.O_TRUNC, watch=[".", "there"]),
        effect(opened, "there", os.O_WRONLY | os.O_TRUNC, watch=[".", "there"]),
        effect(opened, "there", os.O_RDONLY | os.O_TRUNC, watch=[".", "there"]),
        effect(opened, "there", os.O_RDONLY, watch=[".", "there"]),
    ]


@on_both
def test_times_of_a_new_file_are_those_of_its_directory() -> object:
    opened("new", os.O_CREAT | os.O_WRONLY)
    new, parent = os.stat("new"), os.stat(".")
    return (
        new.st_mtime_ns == new.st_atime_ns,
        new.st_ctime_ns >= new.st_mtime_ns,
        abs(parent.st_mtime_ns - new.st_mtime_ns) < 10**8,
        parent.st_mtime_ns == parent.st_ctime_ns,
    )


@on_both
def test_owner_and_group_of_what_is_made() -> object:
    folder("open", 0o777)
    folder("set-group", 0o2777, 0, 4242)
    results = []
    for uid, gid, groups in [(1001, 1001, []), (1001, 1001, [4242]), (1002, 4242, [])]:
        with user(uid, gid, groups):
            for parent in ("open", "set-group"):
                for mode in (0o644, 0o2755, 0o6777, 0o2745):
                    name = f"{parent}/{uid}-{len(groups)}-{mode:o}"
                    results += [opened(name, os.O_CREAT | os.O_WRONLY, mode), look(name)]
    return results


@on_both
def test_a_mode_counts_from_the_next_open_on() -> object:
    os.chmod(".", 0o777)
    results: list[object] = []
    with user():
        for mode in (0, 0o200, 0o400, 0o444):
            name = f"{mode:o}"
            fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
            results += [tried(os.write, fd, b"mine"), tried(os.pread, fd, 10, 0)]
            os.close(fd)
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                results.append((mode, flags, opened(name, flags)))
    return results


@on_both
def test_who_may_open() -> object:
    results = []
    for mode in range(0, 0o1000, 0o11):
        file(f"{mode:o}", b"x", mode, 1001, 1001)
    for who in [(1001, 1001), (1002, 1001), (1002, 1002), (1002, 1002, (1001,))]:
        with user(*who):
            for mode in range(0, 0o1000, 0o11):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
                    results.append((who, oct(mode), flags, opened(f"{mode:o}", flags)))
    return results


@on_both
def test_who_may_create() -> object:
    results = []
    for mode in (0o777, 0o755, 0o775, 0o700, 0o666, 0o333, 0o1777, 0o300):
        folder(f"d{mode:o}", mode, 1001, 1001)
    for who in [(1001, 1001), (1002, 1001), (1002, 1002)]:
        with user(*who):
            for mode in (0o777, 0o755, 0o775, 0o700, 0o666, 0o333, 0o1777, 0o300):
                path = f"d{mode:o}/{who[0]}-{who[1]}"
                results.append((who, oct(mode), opened(path, os.O_CREAT | os.O_WRONLY), look(path)))
    return results


@on_both
def test_noatime_is_for_the_owner() -> object:
    file("theirs", b"x", 0o666)
    with user():
        return opened("theirs", os.O_RDONLY | os.O_NOATIME)


@on_both
def test_as_many_links_as_the_kernel_follows() -> object:
    longest = chain(42)
    assert longest == "link42"
    return [(n, opened(f"link{n}", os.O_RDONLY)) for n in (1, 39, 40, 41, 42)]


@on_both
def test_a_running_program_is_busy() -> object:
    with open("/bin/sleep", "rb") as program:
        file("sleep", program.read(), 0o755)
    with subprocess.Popen(["./sleep", "30"]) as running:
        result = [opened("sleep", flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)]
        result.append(str(tried(os.truncate, "sleep", 0)))
        running.kill()
    # A program that is open for writing cannot be run.
    fd = os.open("sleep", os.O_WRONLY)
    result.append(str(tried(subprocess.call, ["./sleep", "0"])))
    os.close(fd)
    return result, subprocess.call(["./sleep", "0"])


@on_both
def test_a_file_without_a_right_to_run_is_not_run() -> object:
    file("script", b"#!/bin/sh\nexit 0\n", 0o644)
    before = tried(subprocess.call, ["./script"])
    os.chmod("script", 0o755)
    return before, tried(subprocess.call, ["./script"])


@on_both
def test_a_socket_and_a_pipe_without_a_reader() -> object:
    os.mkfifo("pipe")
    flags = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    return [opened("pipe", access) for access in flags], errno.ENXIO


@on_both
def test_append_goes_to_the_end_whatever_the_position() -> object:
    file("f", b"0123456789")
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 2, os.SEEK_SET)
    os.write(fd, b"A")
    where = os.lseek(fd, 0, os.SEEK_CUR)
    os.pwrite(fd, b"B", 3)  # Linux appends all the same
    os.ftruncate(fd, 4)
    os.write(fd, b"C")
    return where, os.pread(fd, 100, 0)
