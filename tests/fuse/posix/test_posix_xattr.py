"""Extended attributes."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, one_of_each, tried, user

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE


@on_both
def test_setting_on_each_kind_of_object_and_path() -> object:
    return on_each_path(lambda path: os.setxattr(path, "user.x", b"1"))


@on_both
def test_trusted_on_each_kind_of_object_not_followed() -> object:
    results = []
    for name in one_of_each():
        for key in ("user.a", "trusted.a", "security.a"):
            results += [
                (name, key, tried(os.setxattr, name, key, b"v", follow_symlinks=False)),
                (name, key, tried(os.getxattr, name, key, follow_symlinks=False)),
                (name, tried(os.listxattr, name, follow_symlinks=False)),
                (name, key, tried(os.removexattr, name, key, follow_symlinks=False)),
            ]
    return results


@on_both
def test_flags() -> object:
    file("f")
    results = []
    for flags in (0, CREATE, REPLACE, CREATE | REPLACE, 8):
        for there in (False, True):
            if there:
                os.setxattr("f", "user.x", b"old")
            results += [
                (flags, there, tried(os.setxattr, "f", "user.x", b"new", flags)),
                tried(os.getxattr, "f", "user.x"),
            ]
            tried(os.removexattr, "f", "user.x")
    return results


@on_both
def test_names_and_spaces() -> object:
    file("f")
    names = ["user.x", "user.", "user", "", "x", "trusted.x", "security.x", "system.x", "other.x"]
    names += ["user." + "n" * 250, "user." + "n" * 251, "user.é", "user.a.b", "User.x"]
    names += ["system.posix_acl", "security.capability", "trusted."]
    results = []
    for name in names:
        results += [
            (name[:30], tried(os.setxattr, "f", name, b"v")),
            tried(os.getxattr, "f", name),
            sorted(os.listxattr("f")),
            tried(os.removexattr, "f", name),
        ]
    return results


@on_both
def test_sizes() -> object:
    results = []
    for size in (0, 1, 100, 1000, 3000, 4000, 4096, 5000, 65_535, 65_536, 65_537):
        file(f"f{size}")
        outcome = tried(os.setxattr, f"f{size}", "user.x", b"v" * size)
        value = tried(os.getxattr, f"f{size}", "user.x")
        results.append((size, outcome, value if isinstance(value, str) else len(value)))  # type: ignore[arg-type]
    return results


@on_both
def test_many() -> object:
    file("f")
    outcomes = [tried(os.setxattr, "f", f"user.{n}", b"v" * 20) for n in range(80)]
    listed = sorted(os.listxattr("f"))
    removed = [tried(os.removexattr, "f", f"user.{n}") for n in range(0, 80, 2)]
    return outcomes, listed, removed, sorted(os.listxattr("f"))


@on_both
def test_what_they_stamp() -> object:
    file("f")
    watch = ["f", "."]
    return [
        effect(os.setxattr, "f", "user.x", b"1", watch=watch),
        effect(os.setxattr, "f", "user.x", b"1", watch=watch),
        effect(os.setxattr, "f", "user.x", b"2", CREATE, watch=watch),
        effect(os.getxattr, "f", "user.x", watch=watch),
        effect(os.listxattr, "f", watch=watch),
        effect(os.removexattr, "f", "user.x", watch=watch),
        effect(os.removexattr, "f", "user.x", watch=watch),
    ]


@on_both
def test_who_may() -> object:
    results = []
    for mode in (0o666, 0o644, 0o600, 0o444, 0o222, 0o1777):
        for owner in (0, 1001):
            for kind in ("file", "dir"):
                name = f"{mode:o}-{owner}-{kind}"
                file(name) if kind == "file" else folder(name)
                os.setxattr(name, "user.roots", b"r")
                os.setxattr(name, "trusted.roots", b"t")
                os.chown(name, owner, 0)
                os.chmod(name, mode)
                with user():
                    results += [
                        (name, tried(os.setxattr, name, "user.mine", b"m")),
                        (name, tried(os.getxattr, name, "user.roots")),
                        (name, tried(os.removexattr, name, "user.roots")),
                        (name, tried(os.setxattr, name, "trusted.mine", b"m")),
                        (name, tried(os.getxattr, name, "trusted.roots")),
                        (name, tried(os.setxattr, name, "security.mine", b"m")),
                        (name, sorted(tried(os.listxattr, name))),  # type: ignore[call-overload]
                    ]
    return results


@on_both
def test_they_stay_with_the_object() -> object:
    file("f")
    os.setxattr("f", "user.x", b"1")
    os.link("f", "g")
    os.rename("f", "h")
    fd = os.open("h", os.O_RDWR)
    os.write(fd, b"data")
    os.ftruncate(fd, 1)
    return tried(os.getxattr, "g", "user.x"), tried(os.getxattr, fd, "user.x"), look("g")


@on_both
def test_a_write_takes_capabilities_away() -> object:
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    results = []
    for change in ("write", "truncate", "chown", "chmod", "link", "utime", "same chown"):
        name = change.replace(" ", "-")
        file(name, b"program", 0o755)
        os.setxattr(name, "security.capability", value)
        if change == "write":
            with open(name, "ab") as opened:
                opened.write(b"x")
        elif change == "truncate":
            os.truncate(name, 1)
        elif change == "chown":
            os.chown(name, 5, 5)
        elif change == "same chown":
            os.chown(name, -1, -1)
        elif change == "chmod":
            os.chmod(name, 0o700)
        elif change == "link":
            os.link(name, name + "2")
        else:
            os.utime(name)
        results.append((change, tried(os.getxattr, name, "security.capability")))
    return results
