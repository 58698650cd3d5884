"""What is left out, how fast it goes, and which segments of a directory differ."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from resync_lab import ZONE, Lab, full_marks, resync, walk_marks

from safepy.core.replica.marks import Marks
from safepy.dataplane.resync import intake, pacing, scope, summary
from safepy.dataplane.resync.pacing import Pace
from safepy.dataplane.resync.scope import in_order
from safepy.dataplane.resync.summary import Seen, Summary, differing

RULES = (("path", "local"), ("regex", r"\.tmp$"))


@pytest.fixture
def trees(tmp_path):
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    right.mkdir()
    return left, right


@pytest.mark.parametrize("mode", ["zones", "walk", "everything"])
def test_what_is_left_out_is_neither_copied_nor_removed(trees, mode):
    left, right = trees
    for top, mine in ((left, b"left"), (right, b"right")):
        for name in ("a.tmp", "d/b.tmp", "local/deep/x", "dir.tmp/x"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(mine)
        (top / "d" / f"only {mine.decode()}.tmp").write_bytes(mine)
    (left / "d" / "f").write_bytes(b"f")
    (right / "extra").mkdir()
    (right / "extra" / "c.tmp").write_bytes(b"goes with its directory")
    (right / "extra2").write_bytes(b"goes")
    marks = Marks()
    for path in (b"a.tmp", b"d/b.tmp", b"local/deep", b"dir.tmp", b"local", b"d/f", b"extra",
                 b"extra2", b"dir.tmp/x"):  # fmt: skip
        marks.add_full(path)
    for path in (b"", b"d"):
        marks.add_attributes(path)
    all_marks = {"zones": marks.take(), "walk": walk_marks(), "everything": full_marks()}
    resync(left, right, all_marks[mode], rules=RULES)
    assert (right / "d" / "f").read_bytes() == b"f"
    assert not (right / "extra").exists() and not (right / "extra2").exists()
    for name in ("a.tmp", "d/b.tmp", "local/deep/x", "dir.tmp/x", "d/only right.tmp"):
        assert (right / name).read_bytes() == b"right"
    assert not (right / "d" / "only left.tmp").exists()
    resync(left, right, walk_marks(), rules=[("only", r"^f$")])
    assert sorted(os.listdir(right)) == ["a.tmp", "d", "dir.tmp", "local"]
    assert (left / "local").stat().st_mtime_ns == (right / "local").stat().st_mtime_ns


def test_a_directory_that_is_gone_counts_where_only_some_files_do(trees):
    left, right = trees
    (right / "was a directory").mkdir()
    (right / "was a directory" / "f").touch()
    (right / "was left out").write_bytes(b"stays")
    marks = Marks()
    for path in (b"was a directory", b"was left out"):
        marks.add_full(path)
    resync(left, right, marks.take(), rules=[("only", r"^f$")])
    assert os.listdir(right) == ["was left out"]


@pytest.mark.parametrize("mode", ["walk", "everything"])
def test_nothing_is_taken_from_what_is_left_out(trees, mode):
    left, right = trees
    for top, path in ((left, "new"), (right, "local/mine")):
        (top / path).mkdir(parents=True)
        (top / path / "f").write_bytes(b"x" * ZONE)
        for place in (top / path, top / path / "f"):
            os.setxattr(place, "trusted.safekit.id", place.name.encode()[-1:] * 16)
    for top, path in ((left, "new"), (right, "local/mine")):
        os.setxattr(top / path, "trusted.safekit.id", b"same" * 4)
    marks = walk_marks() if mode == "walk" else full_marks()
    resync(left, right, marks, rules=RULES)
    assert (right / "local" / "mine" / "f").exists()
    assert (right / "new" / "f").exists()


def test_a_rate_is_kept_by_all_transfers_together(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now_s)
    pace = Pace(1000)

    def sleep(seconds):
        nonlocal now_s
        now_s += seconds
        return False

    monkeypatch.setattr(pace._stopped, "wait", sleep)
    for _ in range(50):
        pace.wait(400)
    assert 50 * 0.4 * 0.9 < now_s - 100 < 50 * 0.4 * 1.1
    now_s += 1000  # a pause is no credit
    before_s = now_s
    for _ in range(10):
        pace.wait(400)
    assert 10 * 0.4 * 0.85 < now_s - before_s < 10 * 0.4 * 1.1
    monkeypatch.undo()
    pace.stop()
    pace.wait(1 << 40)  # returns
    Pace(0).wait(1 << 60)


def test_a_bandwidth_limits_what_is_sent(trees, monkeypatch):
    left, right = trees
    (left / "f").write_bytes(os.urandom(10 * ZONE))
    waited = []
    monkeypatch.setattr(Pace, "wait", lambda self, size: waited.append((self._bytes_s, size)))
    _, sent = resync(left, right, bytes_s=12345)
    assert {rate for rate, _ in waited} == {12345}
    assert 0.9 * sent < sum(size for _, size in waited) <= sent


def test_a_large_file_is_committed_now_and_then(trees, monkeypatch):
    left, right = trees
    (left / "f").write_bytes(os.urandom(40 * ZONE))
    (left / "small").write_bytes(b"x")
    commits = []
    monkeypatch.setattr(intake.os, "fdatasync", commits.append)
    with Lab(left, right) as lab:
        lab.receiver.commit_bytes = 10 * ZONE
        lab.round(full_marks())
        lab.source.finish()
    assert 3 <= len(commits) <= 4


def test_room_counts_more_than_what_may_be_moved(trees, monkeypatch):
    """The disk is full of what is held: that goes, and the copy goes on."""
    left, right = trees
    (right / "gone" / "deep").mkdir(parents=True)
    (right / "gone" / "f").write_bytes(b"x" * 100)
    (left / "f").write_bytes(b"new")
    write_all = intake.write_all

    def full(fd, piece, offset):
        if any(name.startswith(".safekit-moved") for name in os.listdir(right)):
            raise OSError(28, "No space left on device")
        write_all(fd, piece, offset)

    monkeypatch.setattr(intake, "write_all", full)
    resync(left, right)
    assert os.listdir(right) == ["f"] and (right / "f").read_bytes() == b"new"


STATUS = os.stat("/")
NAMES = st.dictionaries(st.binary(min_size=1, max_size=3), st.sampled_from([b"1", b"2"]))


def seen(names):
    return [Seen(name, STATUS, b"", names[name] * 16, ()) for name in sorted(names)]


@settings(max_examples=300, deadline=None)
@given(NAMES, NAMES, NAMES, st.integers(0, 3))
def test_every_difference_lies_in_a_range_that_differs(common, here, there, seed):
    ours, theirs = {**common, **here}, {**common, **there}
    before, summary.SEGMENT_NAMES = summary.SEGMENT_NAMES, 3
    try:
        digests = [
            tuple(Summary(-1, seed, False, lambda _: False).of(seen(names)))
            for names in (ours, theirs)
        ]
    finally:
        summary.SEGMENT_NAMES = before
    names = sorted(ours)
    if not names or not theirs:
        return  # listed whole
    ranges = list(differing(names, *digests))
    assert [at for first, last, _ in ranges for at in range(first, last)] == [*range(len(names))]
    for first, last, differs in ranges:
        start = names[first] if first else b""
        end = names[last] if last < len(names) else b"\xff" * 9
        mine = {n: i for n, i in ours.items() if start <= n < end}
        other = {n: i for n, i in theirs.items() if start <= n < end}
        assert differs or mine == other
    if ours == theirs:
        assert not any(differs for _, _, differs in ranges)


def test_many_names_are_sorted_in_portions(monkeypatch):
    monkeypatch.setattr(scope, "_PORTION_NAMES", 7)
    names = [os.urandom(4) for _ in range(1000)]
    assert in_order(list(names)) == sorted(names)
