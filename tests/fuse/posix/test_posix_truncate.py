"""truncate and ftruncate."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user


@on_both
def test_each_kind_of_object_and_path() -> object:
    return on_each_path(lambda path: os.truncate(path, 5))


@on_both
def test_lengths_and_stamps() -> object:
    file("f", b"0123456789")
    fd = os.open("f", os.O_RDWR)
    results = []
    for length in (10, 5, 5, 100_000, 0, 0, 1, 4096, 4095):
        results.append(effect(os.truncate, "f", length, watch=["f", "."]))
        results.append(effect(os.ftruncate, fd, length + 1, watch=["f", "."]))
    return results, os.pread(fd, 10_000, 0)


@on_both
def test_lengths_that_cannot_be() -> object:
    file("f", b"x")
    fd = os.open("f", os.O_RDWR)
    lengths = (-1, -(1 << 63), 1 << 44, (1 << 44) - 4096, (1 << 44) - 4095, (1 << 63) - 1)
    results = []
    for length in lengths:
        results.append((tried(os.truncate, "f", length), tried(os.ftruncate, fd, length)))
        results.append((length, look("f")))
    os.truncate("f", 1)
    return results


@on_both
def test_descriptors_that_cannot_truncate() -> object:
    file("f", b"x" * 10)
    folder("d")
    fds = [
        os.open("f", os.O_RDONLY),
        os.open("f", os.O_WRONLY | os.O_APPEND),
        os.open("d", os.O_RDONLY),
    ]
    return [tried(os.ftruncate, fd, 3) for fd in fds], look("f")


@on_both
def test_who_may_truncate() -> object:
    results = []
    for mode in (0o666, 0o644, 0o444, 0o600, 0o200, 0o020, 0o002):
        for who in ((1001, 1001), (1002, 1001), (1002, 1002)):
            name = f"{mode:o}-{who[0]}-{who[1]}"
            file(name, b"0123456789", mode, 1001, 1001)
            with user(*who):
                results.append((name, effect(os.truncate, name, 3, watch=[name])))
                results.append((name, tried(os.truncate, name, 3)))
    return results


@on_both
def test_a_length_that_is_the_same_is_stamped_too() -> object:
    file("f", b"12345")
    file("empty")
    return (
        effect(os.truncate, "f", 5, watch=["f"]),
        effect(os.truncate, "empty", 0, watch=["empty"]),
    )


@on_both
def test_truncation_takes_set_id_bits_away() -> object:
    results = []
    for mode in (0o6777, 0o4777, 0o2777, 0o2767, 0o2666):
        for how in ("truncate", "ftruncate", "O_TRUNC"):
            name = f"{mode:o}-{how}"
            file(name, b"program", mode, 0, 0)
            with user():
                if how == "truncate":
                    os.truncate(name, 3)
                else:
                    fd = os.open(name, os.O_RDWR | (os.O_TRUNC if how == "O_TRUNC" else 0))
                    if how == "ftruncate":
                        os.ftruncate(fd, 3)
                    os.close(fd)
            results.append((name, look(name)))
    return results


@on_both
def test_what_was_cut_off_does_not_come_back() -> object:
    file("f", b"x" * 20_000)
    fd = os.open("f", os.O_RDWR)
    os.ftruncate(fd, 5_000)
    os.ftruncate(fd, 20_000)
    first = os.pread(fd, 30_000, 0)
    os.ftruncate(fd, 5_000)
    os.pwrite(fd, b"y", 19_999)
    return first, os.pread(fd, 30_000, 0)
