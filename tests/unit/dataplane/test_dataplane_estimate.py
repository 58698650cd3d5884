"""rfsdiff: names, files and bytes that a resynchronisation would look at, on a real tree."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.marks import TO_THE_END, ZONE_BYTES
from safepy.core.replica.suspects import Suspects
from safepy.dataplane.estimate import Estimate, Kept, estimate
from safepy.dataplane.pathmarks import PathMarks
from safepy.model import SyncMode

ZONES, WALK, EVERYTHING = SyncMode.ZONES, SyncMode.WALK, SyncMode.EVERYTHING


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """top/ (a: 1000, b: 4 zones, sub/ (c: 300, deep/ (d: 50)), link)"""
    top = tmp_path / "top"
    (top / "sub" / "deep").mkdir(parents=True)
    for name, size in (
        ("a", 1000),
        ("b", 4 * ZONE_BYTES),
        ("sub/c", 300),
        ("sub/deep/d", 50),
    ):
        (top / name).write_bytes(bytes(size))
    (top / "link").symlink_to("a")
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    yield top, fd
    os.close(fd)


ALL_NAMES = 8  # with the root
ALL_BYTES = 1000 + 4 * ZONE_BYTES + 300 + 50


def told(
    tree: tuple[Path, int],
    mode: SyncMode,
    *marks: tuple[str, bytes, int, int],
    suspects: Suspects | None = None,
    rules: tuple[tuple[str, str], ...] = (),
    newer_than_ns: int | None = None,
) -> tuple[int, int, int]:
    paths = PathMarks(1)
    for kind, path, offset, length in marks:
        paths.add(0, kind, path, offset, length)
    kept = Kept(tree[1], paths.saved()[0], suspects or Suspects(), Exclusion(rules))
    found = estimate([kept], mode, newer_than_ns)
    assert isinstance(found, Estimate)
    return found.names, found.files, found.bytes


def test_nothing_marked_is_nothing(tree: tuple[Path, int]) -> None:
    assert told(tree, ZONES) == (0, 0, 0)


def test_everything(tree: tuple[Path, int]) -> None:
    assert told(tree, EVERYTHING) == (ALL_NAMES, 4, ALL_BYTES)
    assert told(tree, EVERYTHING, rules=(("path", "sub"),)) == (4, 2, 1000 + 4 * ZONE_BYTES)


def test_marked_zones(tree: tuple[Path, int]) -> None:
    marks = [
        ("extents", b"b", 0, 10),
        ("extents", b"b", 3 * ZONE_BYTES, 1),
        ("attributes", b"sub/c", 0, 0),
        ("extents", b"gone", 0, 10),
    ]
    assert told(tree, ZONES, *marks) == (2, 1, 2 * ZONE_BYTES)
    # Not beyond the end of a file that is shorter by now.
    assert told(tree, ZONES, ("extents", b"a", 0, 10)) == (1, 1, 1000)


def test_marked_whole_and_walked(tree: tuple[Path, int]) -> None:
    assert told(tree, ZONES, ("full", b"sub", 0, 0)) == (4, 2, 350)
    assert told(tree, ZONES, ("walk", b"sub", 0, 0)) == (4, 0, 0)
    both = [("walk", b"sub", 0, 0), ("full", b"sub/deep", 0, 0), ("extents", b"sub/c", 0, 1)]
    assert told(tree, ZONES, *both) == (4, 2, 350)
    assert told(tree, ZONES, ("full", b"subx", 0, 0), ("full", b"link", 0, 0)) == (1, 0, 0)


def test_a_walk_counts_marks_and_suspects(tree: tuple[Path, int]) -> None:
    assert told(tree, WALK) == (ALL_NAMES, 0, 0)
    suspects = Suspects()
    suspects.add(os.stat(tree[0] / "b").st_ino, 0, ZONE_BYTES)
    suspects.add(os.stat(tree[0] / "sub/deep/d").st_ino, 0, TO_THE_END)
    marks = [("extents", b"b", 0, 2 * ZONE_BYTES), ("full", b"a", 0, 0)]
    found = told(tree, WALK, *marks, suspects=suspects)
    assert found == (ALL_NAMES, 3, 2 * ZONE_BYTES + 1000 + 50)


def test_a_date_that_an_operator_gave_counts_what_is_younger_whole(tree: tuple[Path, int]) -> None:
    date_ns = 1_700_000_000 * 10**9
    for name, age_ns in (("a", 0), ("b", 5), ("sub/c", -1), ("sub/deep/d", 1)):
        os.utime(tree[0] / name, ns=(0, date_ns - age_ns))
    found = told(tree, WALK, ("extents", b"b", 0, 10), newer_than_ns=date_ns)
    assert found == (ALL_NAMES, 2, 300 + ZONE_BYTES), "what is younger, and what is marked"
    # It says nothing where not everything is walked, and cannot take from what is all wanted.
    assert told(tree, ZONES, newer_than_ns=0) == (0, 0, 0)
    assert told(tree, EVERYTHING, newer_than_ns=date_ns) == (ALL_NAMES, 4, ALL_BYTES)


def test_suspect_content_counts_wherever_its_file_is_visited(tree: tuple[Path, int]) -> None:
    suspects = Suspects()
    suspects.add(os.stat(tree[0] / "sub/c").st_ino, 0, TO_THE_END)
    suspects.add(os.stat(tree[0] / "a").st_ino, 0, TO_THE_END)
    assert told(tree, ZONES, suspects=suspects) == (0, 0, 0)
    assert told(tree, ZONES, ("walk", b"sub", 0, 0), suspects=suspects) == (4, 1, 300)
    assert told(tree, ZONES, ("attributes", b"a", 0, 0), suspects=suspects) == (1, 1, 1000)


def test_deep_trees_and_names_that_are_no_text(tree: tuple[Path, int]) -> None:
    place = os.fsencode(tree[0])
    made = 0
    while len(place) < 3800:
        place += b"/" + b"\xff" * 200
        os.mkdir(place)
        made += 1
    assert told(tree, EVERYTHING) == (ALL_NAMES + made, 4, ALL_BYTES)
