"""chmod, fchmod."""

from __future__ import annotations

import os

from cases import effect, file, folder, look, on_both, on_each_path, tried, user

MODES = (0, 0o111, 0o444, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6755, 0o7777, 0o2644)


@on_both
def test_each_kind_of_object_and_path() -> object:
    return on_each_path(lambda path: os.chmod(path, 0o751))


@on_both
def test_every_mode() -> object:
    file("f")
    folder("d")
    os.mkfifo("p")
    return [(tried(os.chmod, name, mode), look(name)) for mode in MODES for name in ("f", "d", "p")]


@on_both
def test_what_it_stamps() -> object:
    file("f")
    folder("d")
    fd = os.open("f", os.O_RDONLY)
    return [
        effect(os.chmod, "f", 0o600, watch=["f", ".", fd]),
        effect(os.chmod, "f", 0o600, watch=["f", "."]),
        effect(os.fchmod, fd, 0o4700, watch=["f", "."]),
        effect(os.chmod, "d", 0o1777, watch=["d", "."]),
    ]


@on_both
def test_who_may_and_which_bits_stay() -> object:
    """Set-group-id is for members of the group, sticky for files is nobody's concern."""
    results = []
    for kind in ("file", "dir"):
        for owner, group in ((1001, 1001), (1001, 4242), (0, 1001)):
            for who in ((1001, 1001, ()), (1001, 1001, (4242,)), (1002, 1002, ())):
                name = f"{kind}-{owner}-{group}-{who[0]}-{len(who[2])}"
                file(name) if kind == "file" else folder(name)
                os.chown(name, owner, group)
                for mode in MODES:
                    with user(*who):
                        results.append((name, oct(mode), tried(os.chmod, name, mode), look(name)))
    return results


@on_both
def test_descriptors() -> object:
    file("f")
    folder("d")
    fds = {
        "path": os.open("f", os.O_PATH),
        "read": os.open("f", os.O_RDONLY),
        "dir": os.open("d", os.O_RDONLY),
    }
    return {name: tried(os.fchmod, fd, 0o700) for name, fd in fds.items()}


@on_both
def test_a_mode_counts_at_once() -> object:
    file("f", b"#!/bin/sh\n", 0o644)
    folder("d")
    file("d/f")
    results = []
    for mode in (0o777, 0o700, 0o711, 0o744, 0o755):
        os.chmod("f", mode)
        os.chmod("d", mode)
        with user():
            results += [
                os.access("f", kind, effective_ids=True) for kind in (os.R_OK, os.W_OK, os.X_OK)
            ]
            results += [tried(os.listdir, "d"), look("d/f")]
    return results
