"""What is left out lives on the primary alone; files cross the border, directories do not."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from live_path import LivePath, Rules, make_live_path
from replica_trees import picture
from test_dataplane_random import Application

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.ops import ROOT, Fsync, Link, Make, Rename, Rmdir, Unlink, Write
from safepy.dataplane import border
from safepy.storage.syscalls import RENAME_EXCHANGE

FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
TMP: Rules = (("regex", r"\.tmp$"), ("path", "d/cache"))


def difference(live: LivePath) -> str:
    """The first difference of what is replicated, or ""."""
    both = []
    for top in (live.pair.here_path, live.pair.there_path):
        found = picture(top, False)
        both.append(
            {
                name: value
                for name, value in found.items()
                if name == "."
                or not live.exclusion.covers(
                    tuple(os.fsencode(name).split(b"/")), value[1].startswith("0o4")
                )
            }
        )
    for name in sorted(both[0].keys() | both[1].keys()):
        if both[0].get(name) != both[1].get(name):
            return f"{name!r}: {both[0].get(name)} here, {both[1].get(name)} there"
    return ""


class Story:
    """Operations one after the other, each answered when the peer has it."""

    def __init__(self, live: LivePath) -> None:
        self.live = live
        self.count = 0
        live.automatic = True
        live.follow()
        live.join()

    def do(self, op: object) -> int:
        self.count += 1
        name = str(self.count)
        self.live.modify(name, op)  # type: ignore[arg-type]
        for _ in range(3):
            self.live.deliver()
            self.live.turn()
        assert self.live.peer_faults == [] and self.live.faults == []
        return self.live.answers.given[name][0]

    def make(self, parent: int, name: bytes, mode: int = FILE, content: bytes = b"") -> int:
        handle = self.live.pair.here.new_handle()
        assert self.do(Make(handle, parent, name, mode, 0, 0, 0, 0)) == 0
        if content:
            assert self.do(Write(handle, 0, content)) == 0
        return handle

    def there(self, *names: str) -> bytes | None:
        path = self.live.pair.there_path.joinpath(*names)
        return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "rules",
    [
        (("regex", "^[cd]$"),),
        (("path", "a/b"), ("path", "c")),
        (("only", "^[ab]"),),
        (("regex", "a/[bc]$"), ("path", "d")),
    ],
)
def test_random_operations_leave_equal_what_is_replicated(seed: int, rules: Rules) -> None:
    with make_live_path(rules=rules) as live:
        application = Application(live, seed)
        live.automatic = True
        for generation in range(3):
            live.follow("receipt" if seed % 2 else "apply")
            live.join(generation + 2)
            for number in range(500):
                application.step()
                if number % 7 == 0:
                    live.deliver()
                    live.turn()
            live.modify(f"last {generation}", Fsync(0, False))
            live.until(
                lambda: not live.deliver() and not live.turn() and not live.primary.in_flight
            )
            assert live.peer_faults == []
            assert live.faults == []
            assert difference(live) == ""
            live.primary.disconnect()
        here = set(picture(live.pair.here_path, False))
        there = set(picture(live.pair.there_path, False))
        assert there < here  # something was left out
        assert application.done > 300


def test_a_file_is_written_under_a_name_that_is_left_out_and_renamed_in() -> None:
    """As careful programs replace a file."""
    with make_live_path(rules=TMP) as live:
        story = Story(live)
        story.make(ROOT, b"config", content=b"old")
        temporary = story.make(ROOT, b"config.tmp", content=b"new content")
        assert story.there("config.tmp") is None
        assert story.do(Rename(ROOT, b"config.tmp", ROOT, b"config", 0)) == 0
        assert story.there("config") == b"new content"
        assert story.do(Write(temporary, 0, b"NEW")) == 0
        assert story.there("config") == b"NEW content"
        assert story.do(Rename(ROOT, b"config", ROOT, b"gone.tmp", 0)) == 0
        assert story.there("config") is None
        assert story.do(Write(temporary, 0, b"here only")) == 0
        assert story.do(Rename(ROOT, b"gone.tmp", ROOT, b"config", 0)) == 0
        assert story.there("config") == b"here onlynt"
        assert difference(live) == ""


def test_what_may_not_cross() -> None:
    with make_live_path(rules=TMP) as live:
        story = Story(live)
        folder = story.make(ROOT, b"d", DIRECTORY)
        story.make(folder, b"cache", DIRECTORY)
        story.make(ROOT, b"x", DIRECTORY)
        inside, outside = story.make(ROOT, b"f", content=b"1"), story.make(ROOT, b"f.tmp")
        for op in (
            Rename(ROOT, b"x", ROOT, b"x.tmp", 0),
            Rename(folder, b"cache", ROOT, b"cache", 0),
            Rename(ROOT, b"d", ROOT, b"e", 0),  # what is left out in it would not be any more
            Rename(ROOT, b"f", ROOT, b"f.tmp", RENAME_EXCHANGE),
            Link(inside, ROOT, b"g.tmp"),
            Link(outside, ROOT, b"g"),
        ):
            assert story.do(op) == errno.EXDEV
        assert difference(live) == ""


def test_a_large_file_is_left_to_mv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "CROSSING_BYTES_MAX", 100)
    with make_live_path(rules=TMP) as live:
        story = Story(live)
        story.make(ROOT, b"f.tmp", content=b"x" * 101)
        assert story.do(Rename(ROOT, b"f.tmp", ROOT, b"f", 0)) == errno.EXDEV


def test_with_a_directory_goes_what_was_left_out_in_it_there() -> None:
    """The other node has its own, of a time when it was the primary."""
    with make_live_path(rules=TMP) as live:
        story = Story(live)
        folder = story.make(ROOT, b"d", DIRECTORY)
        there = live.pair.there_path / "d"
        (there / "old.tmp").write_bytes(b"x")
        (there / "cache" / "deep").mkdir(parents=True)
        assert story.do(Unlink(folder, b"none")) == errno.ENOENT
        assert story.do(Rmdir(ROOT, b"d")) == 0
        assert not there.exists()


def test_the_other_node_keeps_what_is_not_left_out() -> None:
    with make_live_path(rules=TMP) as live:
        story = Story(live)
        story.make(ROOT, b"d", DIRECTORY)
        (live.pair.there_path / "d" / "precious").write_bytes(b"x")
        live.modify("rmdir", Rmdir(ROOT, b"d"))
        live.deliver()
        live.turn()
        assert live.peer_faults != []
        assert (live.pair.there_path / "d" / "precious").exists()


def test_what_a_rule_says() -> None:
    rules = Exclusion([("path", "a/b/"), ("regex", "^x"), ("regex", "^q/.*z$")])
    assert rules.excludes((b"a", b"b"), True) and rules.covers((b"a", b"b", b"c"), False)
    assert not rules.covers((b"b",), True) and not rules.covers((b"c", b"a", b"b"), True)
    assert rules.covers((b"n", b"xyz", b"m"), False) and not rules.covers((b"n", b"yx"), False)
    assert rules.covers((b"q", b"1z"), False) and not rules.covers((b"r", b"1z"), False)
    only = Exclusion([("only", r"\.dat$"), ("only", r"\.idx$")])
    assert only.covers((b"d", b"f.txt"), False) and not only.covers((b"d", b"f.idx"), False)
    assert not only.covers((b"d",), True)
    assert Exclusion([("regex", "\udcff")]).covers((b"\xff",), False)
    for wrong in (("path", "../x"), ("path", "/"), ("regex", "(a"), ("other", "x")):
        with pytest.raises(ValueError):
            Exclusion([wrong])
