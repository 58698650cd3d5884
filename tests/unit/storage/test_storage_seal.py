"""The seal of a clean stop finds whatever changes without it, by equality and no clock."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.storage import seal

NEVER = lambda: False  # noqa: E731 - a condition, not a function of its own


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[list[Path], list[int]]]:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        (root / "d" / "deep").mkdir(parents=True)
        for name in ("f", "d/f", "d/deep/f"):
            (root / name).write_bytes(b"content")
        (root / "link").symlink_to("f")
    fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY) for root in roots]
    yield roots, fds
    for fd in fds:
        os.close(fd)


def changes(tmp_path: Path, fds: list[int]) -> dict[tuple[int, bytes], bool]:
    """(tree, path) -> whether content of a file may have changed."""
    found = seal.compare(str(tmp_path / "seal"), fds)
    assert found is not None
    return {(each.tree, each.path): bool(each.inode) for each in found}


def same_time(path: Path, work: Callable[[], object]) -> None:
    before = path.stat()
    work()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: None, {}),
        (lambda root: (root / "f").write_bytes(b"CONTENT"), {(0, b"f"): True}),
        (
            lambda root: same_time(root / "f", lambda: (root / "f").write_bytes(b"CONTENT")),
            {(0, b"f"): True},
        ),
        (lambda root: (root / "d/deep/f").chmod(0o600), {(0, b"d/deep/f"): True}),
        (
            lambda root: (root / "d/deep/f").unlink(),
            {(0, b"d/deep/"): False, (0, b"d/deep"): False},
        ),
        (lambda root: (root / "d/new").write_bytes(b""), {(0, b"d/new"): True, (0, b"d/"): False}),
        (lambda root: (root / "d").chmod(0o700), {(0, b"d/"): False}),
        (lambda root: root.chmod(0o700), {(0, b"/"): False}),
        (
            lambda root: (root / "d").rename(root / "e"),
            {(0, b"e"): False, (0, b""): False, (0, b"/"): False},
        ),
        (
            lambda root: (root / "f").rename(root / "g"),
            {(0, b"g"): True, (0, b""): False, (0, b"/"): False},
        ),
        (
            lambda root: ((root / "link").unlink(), (root / "link").symlink_to("other")),
            {(0, b"link"): False, (0, b"/"): False},
        ),
        (
            lambda root: ((root / "f").unlink(), (root / "f").mkdir()),
            {(0, b"f"): False, (0, b"/"): False},
        ),
    ],
)
def test_what_changed_is_found(
    tmp_path: Path,
    trees: tuple[list[Path], list[int]],
    change: Callable[[Path], object],
    expected: dict[tuple[int, bytes], bool],
) -> None:
    roots, fds = trees
    assert seal.write(str(tmp_path / "seal"), fds, NEVER)
    change(roots[0])
    assert changes(tmp_path, fds) == expected


def test_a_whole_new_directory_is_found(
    tmp_path: Path, trees: tuple[list[Path], list[int]]
) -> None:
    roots, fds = trees
    seal.write(str(tmp_path / "seal"), fds, NEVER)
    (roots[1] / "n" / "m").mkdir(parents=True)
    (roots[1] / "n" / "m" / "f").write_bytes(b"x")
    found = changes(tmp_path, fds)
    assert {(1, b"n"), (1, b"n/m"), (1, b"n/m/f")} <= found.keys()
    assert found[1, b"n/m/f"]


def test_without_a_seal_nothing_is_said(
    tmp_path: Path, trees: tuple[list[Path], list[int]]
) -> None:
    _, fds = trees
    path = str(tmp_path / "seal")
    assert seal.compare(path, fds) is None
    assert not seal.write(path, fds, lambda: True)
    assert seal.compare(path, fds) is None


def test_a_damaged_seal_is_no_seal(tmp_path: Path, trees: tuple[list[Path], list[int]]) -> None:
    _, fds = trees
    path = tmp_path / "seal"
    seal.write(str(path), fds, NEVER)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40], b"", whole[:20] + b"\xff" + whole[21:]):
        path.write_bytes(damaged)
        with pytest.raises(LocalFault, match="damaged"):
            seal.compare(str(path), fds)
    path.write_bytes(whole)
    with pytest.raises(LocalFault):
        seal.compare(str(path), fds[:1])  # of other directories than now


def test_a_damaged_count_costs_no_memory(
    tmp_path: Path, trees: tuple[list[Path], list[int]]
) -> None:
    """It says that a directory of the seal has so many entries: 48 GiB of hashes."""
    _, fds = trees
    path = tmp_path / "seal"
    seal.write(str(path), fds, NEVER)
    whole = bytearray(path.read_bytes())
    at = len(seal._MAGIC) + seal._DIRECTORY.size - 4
    whole[at : at + 4] = b"\xff" * 4
    path.write_bytes(whole)
    tracemalloc.start()
    try:
        with pytest.raises(LocalFault, match="damaged"):
            seal.compare(str(path), fds)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
