"""What was renamed while the other node was away is renamed there, not copied; never wrongly."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resync_lab import ZONE, Lab, Logged, assert_equal, full_marks, idents_of, resync, walk_marks

from safepy.core.replica.marks import Marks
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.messages import Entry
from safepy.dataplane.resync.moves import Moves

SIZE = 20 * ZONE


class Pair:
    """Two equal trees, and a primary's marks of what is renamed in the left one."""

    def __init__(self, tmp_path):
        self.left, self.right = tmp_path / "left", tmp_path / "right"
        self.left.mkdir()
        self.right.mkdir()
        self.marks = Marks()

    def file(self, path, size=SIZE):
        (self.left / path).parent.mkdir(parents=True, exist_ok=True)
        (self.left / path).write_bytes(os.urandom(size))

    def begin(self):
        resync(self.left, self.right)
        return self.inodes()

    def inodes(self):
        return {
            ident: os.lstat(os.path.join(os.fsencode(self.right), path)).st_ino
            for path, ident in idents_of(self.right).items()
        }

    def rename(self, old, new):
        directory = (self.left / old).is_dir()
        os.rename(self.left / old, self.left / new)
        self.marks.moved(old.encode(), new.encode(), directory)
        for path in (old, new):
            self.marks.add_attributes(os.path.dirname(path).encode())

    def new(self, path):
        self.marks.add_full(path.encode())
        self.marks.add_attributes(os.path.dirname(path).encode())

    def resync(self, mode, **options):
        marks = {"zones": self.marks.take, "walk": walk_marks, "everything": full_marks}[mode]()
        result, sent = resync(self.left, self.right, marks, **options)
        assert_equal(self.left, self.right)
        assert idents_of(self.left) == idents_of(self.right)
        assert not [name for name in os.listdir(self.right) if name.startswith(".safekit")]
        return result, sent


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


MODES = pytest.mark.parametrize("mode", ["zones", "walk", "everything"])


@MODES
def test_a_renamed_directory_is_not_copied(pair, mode):
    for number in range(4):
        pair.file(f"d/sub/large{number}")
        pair.file(f"d/small{number}", 5000)
    before = pair.begin()
    (pair.left / "other").mkdir()
    pair.new("other")
    pair.rename("d", "other/renamed")
    result, sent = pair.resync(mode)
    assert result.bytes_copied == 0
    assert sent < 10_000 + (SIZE // ZONE * 16 * 8 if mode == "everything" else 0)
    assert before.items() <= pair.inodes().items()


@MODES
@pytest.mark.parametrize(
    "renames",
    [
        [("a", "t"), ("b", "a"), ("t", "b")],  # a swap
        [("a", "t"), ("b", "a"), ("c", "b"), ("t", "c")],  # a rotation
        [("c", "z"), ("b", "c"), ("a", "b")],  # a chain
        [("a", "b/x"), ("b", "c/y")],  # one into the other
        [("a/in", "a_in"), ("b/in", "a/in"), ("a_in", "b/in")],  # swapped below
    ],
)
@pytest.mark.parametrize("kind", ["directories", "files"])
def test_chains_and_swaps_of_names(pair, mode, renames, kind):
    if kind == "files" and any("/" in new for _, new in renames):
        return  # files hold nothing
    for name in "abc":
        pair.file(f"{name}/in/f" if kind == "directories" else name)
    before = pair.begin()
    for old, new in renames:
        pair.rename(old, new)
    result, _ = pair.resync(mode)
    assert result.bytes_copied == 0
    assert before.items() <= pair.inodes().items()


@MODES
def test_directories_swapped_that_share_files(pair, mode):
    """Hard links lead from one to the other and out of both: nothing is copied, the links stay."""
    pair.file("a/one")
    pair.file("b/two")
    for old, new in (("a/one", "b/one too"), ("b/two", "a/two too"), ("a/one", "outside")):
        os.link(pair.left / old, pair.left / new)
    before = pair.begin()
    for old, new in (("a", "t"), ("b", "a"), ("t", "b"), ("b/one", "a/one"), ("outside", "b/in")):
        pair.rename(old, new)
    result, _ = pair.resync(mode)  # compares which names are one file, too
    assert result.bytes_copied == 0
    assert before.items() <= pair.inodes().items()


@pytest.mark.parametrize("mode", ["zones", "walk"])
def test_a_new_one_in_the_old_ones_place(pair, mode):
    pair.file("a/f")
    pair.file("keep/g")
    before = pair.begin()
    pair.rename("a", "keep/a")
    pair.file("a/f", 3 * ZONE)
    pair.new("a")
    result, _ = pair.resync(mode)
    assert result.bytes_copied == 3 * ZONE
    assert before.items() <= pair.inodes().items()


@MODES
def test_taken_out_of_a_directory_that_is_gone(pair, mode):
    pair.file("a/b/sub/f")
    pair.file("a/b/g")
    before = pair.begin()
    pair.rename("a/b/sub", "z")
    pair.rename("a/b/g", "zz")
    shutil.rmtree(pair.left / "a")
    pair.new("a")
    result, _ = pair.resync(mode)
    assert result.bytes_copied == 0
    kept = {ident: inode for ident, inode in pair.inodes().items() if ident in before}
    assert len(kept) == 3 and kept.items() <= before.items()


def test_a_moved_file_that_was_written_is_compared(pair):
    pair.file("f")
    pair.begin()
    pair.rename("f", "g")
    with (pair.left / "g").open("r+b") as file:
        file.seek(5 * ZONE)
        file.write(b"changed")
    pair.marks.add_extent(b"g", 5 * ZONE, 7)
    result, _ = pair.resync("zones")
    assert result.bytes_copied == ZONE


@MODES
def test_an_ident_in_two_places_moves_nothing(pair, mode):
    """A tree that was copied with all attributes while nobody looked."""
    pair.file("a/f")
    pair.begin()
    for name in ("copy1", "copy2"):
        os.system(f"cp -a {pair.right}/a {pair.right}/{name}")
        (pair.right / name / "f").write_bytes(os.urandom(SIZE))
        os.utime(pair.right / name / "f", ns=(1, (pair.left / "a" / "f").stat().st_mtime_ns))
    pair.rename("a", "b")
    pair.marks.add_full(b"copy1")
    pair.marks.add_full(b"copy2")
    (pair.right / "a").rename(pair.right / "elsewhere")
    pair.marks.add_full(b"elsewhere")
    pair.resync(mode)


@MODES
def test_the_source_has_it_in_both_places(pair, mode):
    pair.file("a/f")
    before = pair.begin()
    os.system(f"cp -a {pair.left}/a {pair.left}/b")
    (pair.left / "b" / "f").write_bytes(os.urandom(SIZE))
    pair.new("b")
    pair.resync(mode)
    assert before.items() <= {**pair.inodes(), **before}.items()
    assert (pair.right / "a" / "f").read_bytes() == (pair.left / "a" / "f").read_bytes()


def test_what_an_interrupted_attempt_held_is_claimed_or_goes(pair):
    pair.file("a/f")
    pair.file("b/f")
    before = pair.begin()
    hold = pair.right / ".safekit-moved-old"
    for number, name in enumerate(("a", "b")):
        (hold / str(number)).mkdir(parents=True)
        (pair.right / name).rename(hold / str(number) / name)
    shutil.rmtree(pair.left / "b")
    result, _ = pair.resync("walk")
    assert result.bytes_copied == 0
    assert pair.inodes().items() <= before.items()


def test_what_is_held_and_not_claimed_is_kept_aside(pair, tmp_path):
    pair.file("gone/f")
    pair.file("stays/f")
    pair.begin()
    content = (pair.right / "gone" / "f").read_bytes()
    shutil.rmtree(pair.left / "gone")
    pair.rename("stays", "moved")
    aside = Aside(str(tmp_path / "kept"), "resync", ["/srv/data"])
    pair.resync("walk", keep_aside=aside)
    kept = Path(aside.folder, "0_srv_data")
    assert (kept / "gone" / "f").read_bytes() == content
    assert os.listdir(kept) == ["gone"]


@pytest.mark.parametrize("mode", ["zones", "walk"])
@pytest.mark.parametrize("seed", range(6))
def test_many_renames_end_equal(pair, seed, mode):
    first = Logged(pair.left, seed, session=b"earlier!")
    for _ in range(60):
        first.step()
    resync(pair.left, pair.right)
    application = Logged(pair.left, seed + 100, pair.marks, sly=False)
    with Lab(pair.left, pair.right) as lab:
        for _ in range(5):
            for _ in range(12):
                with application.lock:
                    try:
                        choices = [application.rename, application.exchange, application.mkdir]
                        application.random.choice(choices)()
                    except (OSError, IndexError):
                        pass
            taken = pair.marks.take()
            lab.round(taken if mode == "zones" else walk_marks())
            assert_equal(pair.left, pair.right)
            assert idents_of(pair.left) == idents_of(pair.right)
        lab.source.finish()
        assert not lab.errors


def test_only_what_has_the_ident_is_taken(tmp_path):
    """The index may be of a time when something else stood there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        os.setxattr(tmp_path / name, "trusted.safekit.id", name.encode() * 16)
    root = os.open(tmp_path, os.O_RDONLY)
    moves = Moves([root])

    def take(holder, path, ident, mode=0o40755):
        entry = Entry(b"new", mode, 0, 0, 0, 0, 0, ident=ident)
        return moves.take(0, holder, path, root, entry, lambda: None)

    assert moves.holder(0, b"a" * 16, lambda: None) == (b"a",)
    (tmp_path / "a").rename(tmp_path / "aside")
    (tmp_path / "b").rename(tmp_path / "a")
    assert not take((b"a",), (b"new",), b"a" * 16)
    assert not take((b"gone",), (b"new",), b"a" * 16)
    assert not take((b"a",), (b"new",), b"b" * 16, mode=0o100644)
    assert not take((b"a",), (b"a", b"new"), b"b" * 16)  # not into itself
    assert os.listdir(tmp_path / "a") == []
    assert take((b"a",), (b"new",), b"b" * 16)
    assert sorted(os.listdir(tmp_path)) == ["aside", "new"]
    os.close(root)
