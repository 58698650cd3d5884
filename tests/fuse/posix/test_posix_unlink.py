"""unlink, and files that are open without a name."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, opened, tried, user


@on_both
def test_each_kind_of_object_and_path() -> object:
    return on_each_path(os.unlink)


@on_both
def test_what_it_stamps() -> object:
    file("f")
    os.link("f", "g")
    os.symlink("f", "l")
    fd = os.open("f", os.O_RDONLY)
    return [
        effect(os.unlink, "f", watch=[".", "f", "g", fd]),
        effect(os.unlink, "g", watch=[".", "g", fd]),
        effect(os.unlink, "l", watch=[".", "l"]),
        effect(os.unlink, "none", watch=["."]),
    ]


@on_both
def test_an_open_file_lives_on() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"before")
    os.unlink("f")
    results: list[object] = [look("f"), look(fd), os.listdir(".")]
    os.write(fd, b" after")
    os.fsync(fd)
    results += [os.pread(fd, 100, 0), effect(os.fchmod, fd, 0o4711, watch=[fd]), look(fd)]
    results += [effect(os.fchown, fd, 7, 8, watch=[fd]), look(fd)]
    results += [effect(os.ftruncate, fd, 3, watch=[fd]), effect(os.utime, fd, watch=[fd])]
    os.setxattr(fd, "user.x", b"1")
    results += [os.listxattr(fd), tried(os.posix_fallocate, fd, 0, 10_000), look(fd)]
    file("f", b"another")
    results += [os.pread(fd, 10, 0), tried(os.link, f"/proc/self/fd/{fd}", "back")]
    os.close(fd)
    return results, look("f")


@on_both
def test_many_open_files_without_a_name() -> object:
    fds = []
    for number in range(100):
        fds.append(os.open("same", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        os.write(fds[-1], b"%d" % number)
        os.unlink("same")
    return [os.pread(fd, 10, 0) for fd in fds], os.listdir(".")


@on_both
def test_who_may_unlink() -> object:
    results = []
    for mode in (0o777, 0o755, 0o700, 0o300, 0o666, 0o1777, 0o1755):
        for owner in (0, 1001, 1002):
            for who in (1001, 1002):
                parent = folder(f"d{mode:o}-{owner}-{who}", mode, 1001, 1001)
                file(f"{parent}/f", b"", 0o600, owner)
                with user(who, who):
                    results.append((parent, tried(os.unlink, f"{parent}/f")))
    return results


@on_both
def test_a_replaced_open_file_lives_on() -> object:
    file("a", b"old")
    file("b", b"new")
    fd = os.open("a", os.O_RDWR)
    os.rename("b", "a")
    os.pwrite(fd, b"OLD", 0)
    with open("a", "rb") as there:
        return os.pread(fd, 9, 0), there.read(), look(fd), look("a"), opened("b", os.O_RDONLY)


@on_both
def test_a_mapped_file_without_a_name() -> object:
    import mmap

    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8192)
    with mmap.mmap(fd, 0) as mapped:
        os.unlink("f")
        mapped[5000:5005] = b"hello"
        mapped.flush()
        return os.pread(fd, 5, 5000), bytes(mapped[5000:5005])
