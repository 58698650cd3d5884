"""POSIX ACLs, enforced and inherited. (The mount has acl="on".)"""

from __future__ import annotations

import os
import struct

from cases import effect, file, folder, look, on_both, opened, tried, user

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    rows = [(*entry, NOBODY_IN_PARTICULAR)[:3] for entry in entries]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


def shared(mask: int = 7, other: int = 0) -> bytes:
    return acl(
        (USER_OBJ, 7),
        (USER, 6, 1001),
        (GROUP_OBJ, 4),
        (GROUP, 5, 4242),
        (MASK, mask),
        (OTHER, other),
    )


def all_of(path: str) -> object:
    return look(path), tried(os.getxattr, path, ACCESS), tried(os.getxattr, path, DEFAULT)


@on_both
def test_an_access_acl_decides_who_may() -> object:
    results = []
    for mask, other in ((7, 0), (4, 0), (0, 7), (6, 4)):
        name = f"f{mask}{other}"
        file(name, b"x")
        results += [tried(os.setxattr, name, ACCESS, shared(mask, other)), all_of(name)]
        for who in ((1001, 9), (1002, 4242), (1002, 9), (1002, 9, (4242,)), (1002, 0)):
            with user(*who):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    results.append((name, who, flags, opened(name, flags)))
    return results


@on_both
def test_chmod_and_the_mask() -> object:
    file("f")
    os.setxattr("f", ACCESS, shared())
    results = []
    for mode in (0o600, 0o640, 0o677, 0o000, 0o770):
        os.chmod("f", mode)
        results.append(all_of("f"))
    return results


@on_both
def test_a_default_acl_is_handed_down_instead_of_the_umask() -> object:
    os.umask(0o077)
    folder("d")
    results = [tried(os.setxattr, "d", DEFAULT, shared(7, 5)), all_of("d")]
    os.makedirs("d/sub/subsub", 0o751)
    for number, mode in enumerate((0o666, 0o644, 0o600, 0o777, 0o000)):
        opened(f"d/f{number}", os.O_CREAT | os.O_WRONLY, mode)
        os.mkfifo(f"d/sub/p{number}", mode)
        results += [all_of(f"d/f{number}"), all_of(f"d/sub/p{number}")]
    os.symlink("f0", "d/l")
    fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    results += [look(fd), tried(os.getxattr, fd, ACCESS)]
    return results, all_of("d/sub"), all_of("d/sub/subsub"), look("d/l")


@on_both
def test_a_default_acl_of_an_ordinary_user() -> object:
    folder("d", 0o777)
    os.setxattr("d", DEFAULT, shared(6, 4))
    with user(1002, 1002):
        opened("d/f", os.O_CREAT | os.O_WRONLY, 0o666)
        tried(os.mkdir, "d/e")
        results = [all_of("d/f"), all_of("d/e"), opened("d/f", os.O_RDWR)]
        results.append(tried(os.setxattr, "d/f", ACCESS, shared()))
        results.append(tried(os.setxattr, "d", ACCESS, shared()))
    return results, all_of("d/f")


@on_both
def test_what_they_stamp() -> object:
    file("f")
    folder("d")
    return [
        effect(os.setxattr, "f", ACCESS, shared(), watch=["f", "."]),
        effect(os.removexattr, "f", ACCESS, watch=["f", "."]),
        effect(os.setxattr, "d", DEFAULT, shared(), watch=["d", "."]),
        effect(os.removexattr, "d", DEFAULT, watch=["d", "."]),
        all_of("f"),
        all_of("d"),
    ]


@on_both
def test_acls_that_are_none() -> object:
    file("f")
    folder("d")
    os.symlink("f", "l")
    values = {
        "empty": b"",
        "version": struct.pack("<I", 1),
        "short": shared()[:-1],
        "head": struct.pack("<I", 2),
        "no mask": acl((USER_OBJ, 7), (USER, 6, 1001), (GROUP_OBJ, 4), (OTHER, 0)),
        "no other": acl((USER_OBJ, 7), (GROUP_OBJ, 4)),
        "order": acl((GROUP_OBJ, 4), (USER_OBJ, 7), (OTHER, 0)),
        "minimal": acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 1)),
        "bits": acl((USER_OBJ, 15), (GROUP_OBJ, 4), (OTHER, 0)),
    }
    results = []
    for key, value in values.items():
        for name in ("f", "d"):
            for kind in (ACCESS, DEFAULT):
                results += [(key, name, kind, tried(os.setxattr, name, kind, value)), all_of(name)]
        results.append(tried(os.setxattr, "l", ACCESS, value, follow_symlinks=False))
    return results


@on_both
def test_set_group_id_and_an_acl_of_a_stranger_to_the_group() -> object:
    """Setting an access ACL takes the bit away from those outside of the group."""
    results = []
    for group in (1001, 77):
        for kind in ("file", "dir"):
            name = f"{group}{kind}"
            file(name) if kind == "file" else folder(name)
            os.chown(name, 1001, group)
            os.chmod(name, 0o2775)
            with user():
                results += [tried(os.setxattr, name, ACCESS, shared()), look(name)]
    return results


@on_both
def test_who_may_list_and_remove() -> object:
    file("f", uid=1001)
    os.setxattr("f", ACCESS, shared())
    results: list[object] = [sorted(os.listxattr("f"))]
    with user(1002, 1002):
        results += [tried(os.getxattr, "f", ACCESS), tried(os.removexattr, "f", ACCESS)]
    with user(1001):
        results += [tried(os.removexattr, "f", ACCESS), tried(os.removexattr, "f", ACCESS)]
    return results, all_of("f")


@on_both
def test_a_write_of_a_stranger_and_set_id_bits_with_an_acl() -> object:
    file("f", b"x", 0o6775, 0, 0)
    os.setxattr("f", ACCESS, shared())
    results = [look("f")]
    with user(1001, 9):
        fd = os.open("f", os.O_WRONLY)
        os.write(fd, b"y")
        results.append(look(fd))
    return results
