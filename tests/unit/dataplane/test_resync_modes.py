"""Every mode ends equal when what it trusts is true; and without it, it does not."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resync_lab import (
    ZONE,
    Lab,
    Logged,
    assert_equal,
    full_marks,
    idents_of,
    resync,
    tree_of,
    walk_marks,
)

from safepy.core.replica.marks import Marks
from safepy.core.replica.suspects import Suspects, ident_of

SEEDS = int(os.environ.get("SAFEPY_RESYNC_SEEDS", "12"))


@pytest.fixture
def trees(tmp_path):
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    right.mkdir()
    return left, right


def grow(top, seed, steps=80, **options):
    application = Logged(top, seed, **options)
    for _ in range(steps):
        application.step()
    return application


@pytest.mark.parametrize("mode", ["zones", "walk", "everything"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_truthful_run_ends_equal(trees, seed, mode):
    left, right = trees
    grow(left, seed, session=b"earlier!")
    resync(left, right)
    assert_equal(left, right)
    assert idents_of(left) == idents_of(right)
    marks = Marks()
    application = grow(left, seed + 1000, marks=marks)
    there = None
    if mode != "zones":  # the target was a primary itself, and crashed
        there = grow(right, seed + 2000, steps=40, session=b"session2").suspects
    with Lab(
        left,
        right,
        suspects=[application.suspects] if mode == "walk" else (),
        target_suspects=[there] if there else (),
    ) as lab:
        by_mode = {"zones": marks.take(), "walk": walk_marks(), "everything": full_marks()}
        lab.round(by_mode[mode])
        assert_equal(left, right)
        assert idents_of(left) == idents_of(right)
        # Later rounds go by marks, whatever the first one was.
        marks.take()
        for _ in range(3):
            for _ in range(15):
                application.step()
            lab.round(marks)
            assert_equal(left, right)
        lab.source.finish()
        assert not lab.errors
    assert not [name for name in os.listdir(right) if name.startswith(".safekit")]


def sly(path, offset=0, byte=b"!"):
    """Other content, but the same size and time; returns the inode number."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(byte)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return before.st_ino


def suspect(inode, start=0, end=1 << 20):
    suspects = Suspects()
    suspects.add(inode, start, end)
    return suspects


@pytest.mark.parametrize("size", [5 * ZONE, 30 * ZONE])
@pytest.mark.parametrize("known", ["source log", "target log", "path mark", "nothing"])
def test_what_only_a_mark_tells(trees, known, size):
    """With it the trees are equal, without it they are not."""
    left, right = trees
    for number in range(3):
        (left / f"f{number}").write_bytes(os.urandom(size))
    resync(left, right)
    changed = (right if known == "target log" else left) / "f1"
    suspects = [suspect(sly(changed, 2 * ZONE))]
    marks = walk_marks()
    options = {}
    if known == "source log":
        options["suspects"] = suspects
    elif known == "target log":
        options["target_suspects"] = suspects
    elif known == "path mark":
        added = Marks()
        added.add_extent(b"f1", 2 * ZONE, 1)
        marks.update(added.take())
    result, _ = resync(left, right, marks, **options)
    if known == "nothing":
        assert tree_of(left) != tree_of(right)
    else:
        assert_equal(left, right)
        assert result.bytes_copied == ZONE


def test_new_objects_are_suspect_by_one_mark(trees):
    left, right = trees
    for number in range(6):
        (left / f"f{number}").write_bytes(b"content")
        ident = ident_of(b"sessionX", 0, number)
        os.setxattr(left / f"f{number}", "trusted.safekit.id", ident)
    resync(left, right)
    for number in range(6):
        sly(right / f"f{number}")
    suspects = Suspects()
    suspects.add_new_since(b"sessionX", 3)
    result, _ = resync(left, right, walk_marks(), suspects=[suspects])
    assert result.files_copied == 3
    assert [(right / f"f{n}").read_bytes()[:1] for n in range(6)] == [b"!"] * 3 + [b"c"] * 3


def test_a_walk_compares_content_of_what_looks_different_only(trees):
    left, right = trees
    for number in range(600):
        (left / f"f{number}").write_bytes(os.urandom(2000))
    resync(left, right)
    os.utime(left / "f7", ns=(1, 7))
    (left / "f8").write_bytes(b"short")
    (left / "f9").unlink()
    (left / "new").write_bytes(b"new")
    os.setxattr(left / "f10", "user.some", b"value")
    os.setxattr(left / "f11", "trusted.safekit.id", b"i" * 16)
    sly(right / "f11")
    result, sent = resync(left, right, walk_marks())
    assert_equal(left, right)
    assert result.files_copied == 3  # f8, f11 and new
    assert result.files == 600
    assert sent < 600 * 150  # a few segments were listed, not all


def test_an_equal_tree_costs_a_message_for_many_directories(trees):
    left, right = trees
    for number in range(200):
        (left / f"d{number}").mkdir()
        for name in "abc":
            (left / f"d{number}" / name).write_bytes(b"x" * 100)
    resync(left, right)
    for marks in (walk_marks(), full_marks()):
        _, sent = resync(left, right, marks)
        assert sent < 12_000


def test_the_date_of_an_operator_decides(trees):
    left, right = trees
    old, new = 1_000_000_000 * 10**9, 1_700_000_000 * 10**9
    for name, time_ns in (("old", old), ("new", new), ("size", old), ("gone", old)):
        (left / name).write_bytes(b"here " + name.encode())
        (right / name).write_bytes(b"ther " + name.encode())
        for top in (left, right):
            os.utime(top / name, ns=(time_ns, time_ns))
    (right / "size").write_bytes(b"other length")
    (right / "gone").unlink()
    os.chmod(right / "old", 0o600)
    os.utime(right / "old", ns=(1, 5))
    resync(left, right, walk_marks(), newer_than_ns=(old + new) // 2)
    assert (right / "old").read_bytes() == b"ther old"
    assert (right / "old").stat().st_mtime_ns == old
    assert (right / "old").stat().st_mode == (left / "old").stat().st_mode
    (left / "old").unlink()
    (right / "old").unlink()
    for top in (left, right):
        os.utime(top, ns=(1, 1))
    assert_equal(left, right)


def test_a_first_synchronisation_gives_ids(trees):
    left, right = trees
    (left / "d" / "e").mkdir(parents=True)
    (left / "d" / "large").write_bytes(bytes(1 << 20))
    (left / "d" / "small").write_bytes(b"x")
    os.setxattr(left / "d" / "small", "trusted.safekit.id", b"has one already!")
    resync(left, right)
    found = idents_of(left)
    assert found.keys() == {b"d", b"d/e", b"d/large", b"d/small"}
    assert found[b"d/small"] == b"has one already!"
    assert len(set(found.values())) == 4
    assert idents_of(right) == found
    # And if the other node had the same content by other means.
    os.removexattr(left / "d" / "e", "trusted.safekit.id")
    os.removexattr(right / "d" / "e", "trusted.safekit.id")
    resync(left, right)
    assert idents_of(left)[b"d/e"] == idents_of(right)[b"d/e"] != b""


@pytest.mark.parametrize("there", ["absent", "partly"])
def test_a_large_file_is_shared_by_the_transfers(trees, monkeypatch, there):
    monkeypatch.setattr("safepy.dataplane.resync.content._COMPARE_BYTES", 2 * ZONE)
    monkeypatch.setattr("safepy.dataplane.resync.content._WINDOWS_A_PART", 3)
    left, right = trees
    content = os.urandom(70 * ZONE + 77)
    (left / "f").write_bytes(content)
    os.utime(left / "f", ns=(1, 12345))
    if there == "partly":
        (right / "f").write_bytes(content[: 30 * ZONE] + os.urandom(50 * ZONE))
    with Lab(left, right, streams=4) as lab:
        used = []
        for stream in lab.ours:
            send = stream.send
            stream.send = lambda data, s=stream, send=send: (
                used.append((s, len(data))),
                send(data),
            )
        result = lab.round(full_marks())
        lab.source.finish()
    assert_equal(left, right)
    assert (result.files, result.files_copied) == (1, 1)
    moved = 70 * ZONE + 77 if there == "absent" else 40 * ZONE + 77
    assert result.bytes_copied == moved
    assert len({id(stream) for stream, size in used if size > ZONE}) > 1


ALONE = {
    "mode": lambda p: p["f"].chmod(0o4711),
    "owner": lambda p: os.chown(p["f"], 5, 6),
    "group of a link": lambda p: os.chown(p["link"], -1, 7, follow_symlinks=False),
    "time": lambda p: os.utime(p["f"], ns=(1, 77)),
    "time of a directory": lambda p: os.utime(p["d"], ns=(1, 77)),
    "xattr": lambda p: os.setxattr(p["f"], "user.x", b"y"),
    "xattr of a directory": lambda p: os.setxattr(p["d"], "trusted.x", b"y"),
    "target of a link": lambda p: (p["link"].unlink(), p["link"].symlink_to("t2")),
    "device": lambda p: (p["dev"].unlink(), os.mknod(p["dev"], 0o20600, os.makedev(1, 7))),
    "another name": lambda p: os.link(p["f"], p["d"] / "second"),
    "kind": lambda p: (p["f"].unlink(), p["f"].mkdir()),
    "gone": lambda p: p["f"].unlink(),
    "new": lambda p: (p["d"] / "new").touch(),
}


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("kind", ALONE)
def test_one_difference_and_no_other_is_found_by_a_walk(trees, kind, side):
    left, right = trees
    (left / "d").mkdir()
    places = {"f": "f", "d": "d", "link": "d/link", "dev": "d/dev"}
    (left / "f").write_bytes(b"content")
    (left / "d" / "link").symlink_to("t1")
    os.mknod(left / "d" / "dev", 0o20600, os.makedev(1, 3))
    resync(left, right)
    top = left if side == "source" else right
    before = {at: (top / at).stat().st_mtime_ns for at in (".", "d")}
    ALONE[kind]({name: top / at for name, at in places.items()})
    for at, time_ns in before.items():  # so that nothing else tells
        if kind != "time of a directory":
            os.utime(top / at, ns=(1, time_ns))
    resync(left, right, walk_marks())
    assert_equal(left, right)
    assert idents_of(left) == idents_of(right)
