"""O_TMPFILE: files that have no name yet."""

from __future__ import annotations

import os

from cases import effect, folder, look, on_both, on_each_path, opened, tried, user

from safepy.storage.syscalls import link_descriptor


def name_it(fd: int, name: str) -> None:
    at = os.open(".", os.O_RDONLY)
    try:
        link_descriptor(fd, at, os.fsencode(name))
    finally:
        os.close(at)


@on_both
def test_at_each_path() -> object:
    return on_each_path(lambda path: opened(path, os.O_TMPFILE | os.O_RDWR))


@on_both
def test_flags_and_modes() -> object:
    os.umask(0o022)
    results = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_EXCL):
        for mode in (0o666, 0o4777, 0):
            fd = tried(os.open, ".", os.O_TMPFILE | flags, mode)
            results.append(look(fd) if isinstance(fd, int) else fd)
            if isinstance(fd, int):
                name = f"named-{flags:o}-{mode:o}"
                results += [tried(os.write, fd, b"x"), tried(name_it, fd, name), look(name)]
                os.close(fd)
    return results


@on_both
def test_what_it_stamps() -> object:
    made: list[int] = []

    def make() -> None:
        made.append(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640))

    results = [effect(make, watch=["."])]
    fd = made[0]
    results += [
        effect(os.write, fd, b"x", watch=[".", fd]),
        effect(name_it, fd, "named", watch=[".", fd]),
        effect(name_it, fd, "again", watch=[".", fd]),
        effect(os.unlink, "named", watch=[".", fd]),
        effect(os.unlink, "again", watch=[".", fd]),
    ]
    return results, tried(name_it, fd, "never"), look(fd), os.listdir(".")


@on_both
def test_owner_and_rights() -> object:
    folder("open", 0o777)
    folder("set-group", 0o2777, 0, 4242)
    folder("closed", 0o755)
    results = []
    with user():
        for parent in ("open", "set-group", "closed"):
            fd = tried(os.open, parent, os.O_TMPFILE | os.O_RDWR, 0o2755)
            results.append(look(fd) if isinstance(fd, int) else fd)
    return results


@on_both
def test_all_that_a_file_can_do_before_it_has_a_name() -> object:
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"x" * 10_000)
    os.ftruncate(fd, 5000)
    os.fchmod(fd, 0o644)
    os.fchown(fd, 7, 8)
    os.setxattr(fd, "user.x", b"1")
    os.utime(fd, ns=(1, 2))
    os.fsync(fd)
    before = look(fd)
    name_it(fd, "named")
    return before, look("named"), os.stat("named").st_mtime_ns, os.getxattr("named", "user.x")


@on_both
def test_many_at_once() -> object:
    fds = [os.open(".", os.O_TMPFILE | os.O_RDWR) for _ in range(50)]
    for number, fd in enumerate(fds):
        os.write(fd, b"%d" % number)
    for number, fd in enumerate(fds[::2]):
        name_it(fd, f"n{number}")
    return sorted(os.listdir(".")), [os.pread(fd, 9, 0) for fd in fds]
