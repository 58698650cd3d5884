"""chown, lchown, fchown."""

from __future__ import annotations

import itertools
import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user


@on_both
def test_each_kind_of_object_and_path() -> object:
    return on_each_path(lambda path: os.chown(path, 11, 12))


@on_both
def test_each_kind_of_object_and_path_not_followed() -> object:
    return on_each_path(lambda path: os.chown(path, 11, 12, follow_symlinks=False))


@on_both
def test_ids() -> object:
    file("f")
    folder("d")
    results = []
    ids = (0, 1, 65534, 65535, 65536, 3_000_000_000, (1 << 32) - 2, -1)
    for name, uid, gid in itertools.product(("f", "d"), ids, ids):
        results += [tried(os.chown, name, uid, gid), look(name)]
    return results


@on_both
def test_what_it_stamps() -> object:
    file("f")
    folder("d")
    os.symlink("f", "l")
    fd = os.open("f", os.O_RDONLY)
    watch = ["f", "d", "l", ".", fd]
    return [
        effect(os.chown, "f", 5, 6, watch=watch),
        effect(os.chown, "f", 5, 6, watch=watch),
        effect(os.chown, "f", -1, -1, watch=watch),
        effect(os.chown, "f", -1, 7, watch=watch),
        effect(os.chown, "l", 8, 9, watch=watch),
        effect(os.chown, "l", 8, 9, follow_symlinks=False, watch=watch),
        effect(os.fchown, fd, 1, 2, watch=watch),
        effect(os.chown, "d", 3, 4, watch=watch),
        effect(os.chown, "d", -1, -1, watch=watch),
    ]


@on_both
def test_set_id_bits_and_roots_chown() -> object:
    results = []
    for mode in (0o4755, 0o2755, 0o6755, 0o2644, 0o4644, 0o1777, 0o6777):
        for uid, gid in ((5, 6), (-1, 6), (5, -1), (0, 0), (-1, -1)):
            for kind in ("file", "dir", "fifo"):
                name = f"{mode:o}-{uid}-{gid}-{kind}"
                if kind == "fifo":
                    os.mkfifo(name)
                else:
                    file(name) if kind == "file" else folder(name)
                os.chmod(name, mode)
                results += [tried(os.chown, name, uid, gid), look(name)]
    return results


@on_both
def test_set_id_bits_and_the_owners_chown() -> object:
    results = []
    for mode in (0o4755, 0o2755, 0o6755, 0o2644, 0o6644):
        for gid, group in itertools.product((1001, 4242, 4243, -1), (1001, 4242, 77)):
            for kind in ("file", "dir", "fifo"):
                name = f"{mode:o}-{gid}-{group}-{kind}"
                if kind == "fifo":
                    os.mkfifo(name)
                else:
                    file(name) if kind == "file" else folder(name)
                os.chown(name, 1001, group)
                os.chmod(name, mode)
                with user(1001, 1001, (4242,)):
                    results += [(name, tried(os.chown, name, -1, gid)), look(name)]
    return results


@on_both
def test_set_group_id_stays_at_roots_chown_outside_of_the_group() -> object:
    results = []
    for mode, ids in itertools.product((0o2644, 0o2755, 0o6660), ((5, 6), (-1, 6), (5, -1))):
        name = f"{mode:o}-{ids}"
        file(name, uid=1001, gid=77)
        os.chmod(name, mode)
        with user(0, 4242):  # root, but neither by its group nor by a further one of the file's
            results += [(name, tried(os.chown, name, *ids)), look(name)]
    return results


@on_both
def test_who_may() -> object:
    results = []
    for owner in (1001, 1002):
        for uid, gid in itertools.product((1001, 1002, 0, -1), (1001, 1002, 4242, -1)):
            if (uid, gid) == (-1, -1):
                continue
            name = f"{owner}-{uid}-{gid}"
            file(name, uid=owner, gid=owner)
            with user(1001, 1001, (4242,)):
                results.append((name, effect(os.chown, name, uid, gid, watch=[name])))
    return results


@on_both
def test_no_change_asked_of_a_strangers_plain_file() -> object:
    file("f")
    with user():
        return effect(os.chown, "f", -1, -1, watch=["f"])


@on_both
def test_descriptors() -> object:
    file("f")
    fds = os.open("f", os.O_PATH), os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    return [tried(os.fchown, fd, 1, 2) for fd in fds]
