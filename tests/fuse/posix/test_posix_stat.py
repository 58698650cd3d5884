"""stat, statvfs, access."""

from __future__ import annotations

import itertools
import os

from cases import file, folder, look, on_both, on_each_path, one_of_each, tried, user


@on_both
def test_stat_of_each_kind_of_object_and_path() -> object:
    def kind(path: str) -> object:
        st = os.stat(path)
        return oct(st.st_mode), st.st_nlink

    return on_each_path(kind)


@on_both
def test_lstat_of_each_path() -> object:
    return on_each_path(lambda path: os.lstat(path).st_mode)


@on_both
def test_access_of_each_kind_of_object_and_path() -> object:
    # errno is what is wanted, so not os.access.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def access(path: str) -> str:
        if libc.access(os.fsencode(path), os.R_OK | os.W_OK) < 0:
            raise OSError(ctypes.get_errno(), path)
        return "ok"

    return on_each_path(access)


@on_both
def test_access_by_mode_and_user() -> object:
    results = []
    for mode, kind in itertools.product((0o777, 0o755, 0o640, 0o070, 0o007, 0o111, 0), "fd"):
        name = f"{kind}{mode:o}"
        file(name) if kind == "f" else folder(name)
        os.chown(name, 1001, 1001)
        os.chmod(name, mode)
        for who in ((0, 0), (1001, 1001), (1002, 1001), (1002, 1002), (1002, 1002, (1001,))):
            with user(*who):
                allowed = [os.access(name, bits, effective_ids=True) for bits in range(8)]
            results.append((name, who, allowed))
    return results


@on_both
def test_block_counts_follow_the_data() -> object:
    counts = []
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    for size in (1, 4096, 5000, 100_000):
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"x" * size, 0)
        os.fsync(fd)
        counts.append((os.fstat(fd).st_blocks, os.fstat(fd).st_blksize))
    os.ftruncate(fd, 1 << 30)
    os.fsync(fd)
    counts.append((os.fstat(fd).st_blocks, os.fstat(fd).st_size))
    os.ftruncate(fd, 5)  # less to compare
    return counts


@on_both
def test_statvfs() -> object:
    # Others write to the same disk meanwhile, so what is free is compared roughly.
    seen = [os.statvfs("."), os.fstatvfs(os.open(".", os.O_RDONLY))]
    return [(v.f_bsize, v.f_frsize, v.f_blocks, v.f_files, v.f_namemax) for v in seen]


@on_both
def test_free_space_is_that_of_the_file_system_beneath() -> object:
    before = os.statvfs(".").f_bfree
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 512 << 20)
    after = os.statvfs(".").f_bfree
    os.ftruncate(fd, 0)
    return (before - after) * 4096 > 400 << 20


@on_both
def test_inode_numbers_are_unique_and_stay() -> object:
    names = one_of_each()
    numbers = [os.lstat(name).st_ino for name in names]
    os.rename("file", "renamed")
    return (
        len(set(numbers)) == len(names),
        os.stat("renamed").st_ino == numbers[0],
        len({os.lstat(name).st_dev for name in ["renamed", "dir", "pipe"]}),
        os.fstat(os.open("renamed", os.O_RDONLY)).st_ino == numbers[0],
    )


@on_both
def test_search_rights_on_the_way() -> object:
    results = []
    for mode in (0o755, 0o711, 0o744, 0o700, 0o766):
        here = folder(f"d{mode:o}", mode)
        folder(f"{here}/e", 0o777)
        file(f"{here}/e/f", b"x", 0o666)
        with user():
            for call in (
                lambda at: look(at),
                lambda at: tried(lambda: len(os.listdir(at[:-2]))),
                lambda at: tried(os.truncate, at, 1),
                lambda at: tried(os.unlink, at),
            ):
                results.append((here, call(f"{here}/e/f")))
    return results
