"""What is remembered of each modification by path, so that the other copy can be made equal."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest
from live_path import LivePath, make_live_path

from safepy.core.replica.marks import FULL, TO_THE_END, WALK, ZONE_BYTES, Mark
from safepy.core.replica.ops import (
    ROOT,
    Fallocate,
    Fsync,
    Link,
    Make,
    Op,
    Rename,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
    Write,
)
from safepy.storage.syscalls import FALLOC_COLLAPSE_RANGE, RENAME_EXCHANGE

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
ATTRIBUTES = Mark()


@pytest.fixture
def live() -> Iterator[LivePath]:
    with make_live_path() as made:
        made.alone()
        made.primary.modified_recorded()
        yield made


def do(live: LivePath, op: Op) -> dict[bytes, Mark]:
    """The marks that an operation leaves."""
    name = f"{len(live.answers.order)} {op}"
    live.modify(name, op)
    live.until(lambda: name in live.answers.given)
    assert live.answers.given[name][0] == 0
    return live.keeper.take()[0]


def make(live: LivePath, parent: int, name: bytes, mode: int = FILE) -> int:
    handle = live.pair.here.new_handle()
    do(live, Make(handle, parent, name, mode, 0, 0, 0, 0))
    return handle


def settle(live: LivePath) -> None:
    """As if the peer had all."""
    live.keeper.reset()


def zones(*numbers: int) -> Mark:
    return Mark(extents=tuple((n * ZONE_BYTES, (n + 1) * ZONE_BYTES) for n in numbers))


def test_each_operation_marks_what_it_touches(live: LivePath) -> None:
    folder = make(live, ROOT, b"d", FOLDER)
    handle = live.pair.here.new_handle()
    made = do(live, Make(handle, folder, b"f", FILE, 0, 0, 0, 0))
    assert made == {b"d/f": FULL, b"d": ATTRIBUTES}
    settle(live)
    assert do(live, Write(handle, ZONE_BYTES - 1, b"ab")) == {
        b"d/f": Mark(extents=((0, 2 * ZONE_BYTES),))
    }
    assert do(live, SetAttr(handle, size=5)) == {b"d/f": Mark(extents=((0, 2 * ZONE_BYTES),))}
    assert do(live, SetAttr(handle, size=5)) == {b"d/f": ATTRIBUTES}
    assert do(live, SetAttr(handle, mode=0o600)) == {b"d/f": ATTRIBUTES}
    assert do(live, SetXattr(folder, b"user.a", b"", 0)) == {b"d": ATTRIBUTES}
    assert do(live, Fallocate(handle, 0, ZONE_BYTES, 1)) == {b"d/f": zones(1)}
    do(live, SetAttr(handle, size=8 << 20))
    collapse = Fallocate(handle, FALLOC_COLLAPSE_RANGE, 0, 1 << 20)
    assert do(live, collapse) == {b"d/f": Mark(extents=((0, TO_THE_END),))}
    link = Symlink(live.pair.here.new_handle(), ROOT, b"l", b"t", 0, 0)
    assert do(live, link) == {b"l": FULL, b"": ATTRIBUTES}
    assert do(live, Unlink(ROOT, b"l")) == {b"l": FULL, b"": ATTRIBUTES}
    live.modify("sync", Fsync(0, False))
    assert live.keeper.take() == [{}]


def test_a_zone_that_is_marked_is_not_looked_at_again_before_a_window_ends(
    live: LivePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = make(live, ROOT, b"f")
    settle(live)
    assert do(live, Write(handle, 0, b"a")) == {b"f": zones(0)}
    live.modify("again", Write(handle, 1, b"b"))
    with monkeypatch.context() as patch:
        patch.setattr("safepy.dataplane.keeper.marks_of", lambda *_: pytest.fail("looked at"))
        live.modify("hot", Write(handle, 2, b"c"))
    assert live.keeper.take() == [{b"f": zones(0)}]
    for end_window in (live.keeper.rotate, live.keeper.reset):
        live.modify(f"before {end_window}", Write(handle, 3, b"d"))
        end_window()
        assert do(live, Write(handle, 4, b"e")) == {b"f": zones(0)}


def test_marks_follow_a_renamed_directory_and_both_names_are_marked(live: LivePath) -> None:
    folder = make(live, ROOT, b"d", FOLDER)
    handle = make(live, folder, b"f")
    settle(live)
    live.modify("write", Write(handle, 0, b"x"))
    assert do(live, Rename(ROOT, b"d", ROOT, b"e", 0)) == {
        b"d": FULL,
        b"e": WALK,
        b"e/f": zones(0),
        b"": ATTRIBUTES,
    }


def test_what_a_round_took_before_a_rename_is_marked_again_after_it(live: LivePath) -> None:
    """The round may not have come to the old name, which it will not find."""
    folder = make(live, ROOT, b"d", FOLDER)
    handle = make(live, folder, b"f")
    settle(live)
    assert do(live, Write(handle, 0, b"x")) == {b"d/f": zones(0)}
    assert do(live, Rename(ROOT, b"d", ROOT, b"e", 0))[b"e/f"] == zones(0)
    live.keeper.paths.put_back()
    assert live.keeper.take()[0][b"e/f"] == zones(0)


def test_an_exchange_marks_both_names(live: LivePath) -> None:
    one, _ = make(live, ROOT, b"one"), make(live, ROOT, b"two")
    settle(live)
    live.modify("write", Write(one, 0, b"x"))
    marks = do(live, Rename(ROOT, b"one", ROOT, b"two", RENAME_EXCHANGE))
    walked = Mark(walk=True, extents=zones(0).extents)
    assert marks == {b"one": WALK, b"two": walked, b"": ATTRIBUTES}


def test_a_rename_that_fails_moves_no_mark(live: LivePath) -> None:
    folder = make(live, ROOT, b"d", FOLDER)
    make(live, folder, b"f")
    settle(live)
    live.modify("fails", Rename(ROOT, b"d", folder, b"x", 0))
    assert live.answers.given["fails"][0] != 0
    assert live.keeper.take()[0].keys() <= {b"", b"d"}
    handle = live.pair.here.known_at(folder, b"f")
    assert do(live, Write(handle, 0, b"x")) == {b"d/f": zones(0)}


@pytest.mark.parametrize("known", [True, False])
def test_content_of_a_file_that_loses_the_name_it_was_written_by(
    live: LivePath, known: bool
) -> None:
    handle = make(live, ROOT, b"one")
    if known:
        do(live, Link(handle, ROOT, b"two"))
    else:
        os.link(live.pair.here_path / "one", live.pair.here_path / "two")
    settle(live)
    live.modify("write", Write(handle, 0, b"x"))
    live.modify("unlink", Unlink(ROOT, b"one"))
    assert live.keeper.take()[0][b"two"] == FULL


def test_a_file_that_is_replaced_but_has_another_name(live: LivePath) -> None:
    handle = make(live, ROOT, b"one")
    do(live, Link(handle, ROOT, b"two"))
    make(live, ROOT, b"new")
    settle(live)
    live.modify("write", Write(handle, 0, b"x"))
    assert do(live, Rename(ROOT, b"new", ROOT, b"one", 0))[b"two"] == FULL


def test_older_objects_get_an_id_before_they_get_another_name(live: LivePath) -> None:
    handle, folder = make(live, ROOT, b"f"), make(live, ROOT, b"d", FOLDER)
    assert live.pair.here.ident_of(handle) == b""
    do(live, Rename(ROOT, b"f", ROOT, b"g", 0))
    ident = live.pair.here.ident_of(handle)
    assert len(ident) == 16
    do(live, Link(handle, ROOT, b"h"))
    assert live.pair.here.ident_of(handle) == ident
    do(live, Rename(ROOT, b"d", ROOT, b"e", 0))
    assert len(live.pair.here.ident_of(folder)) == 16


def test_the_peer_hears_the_id_before_the_rename(live: LivePath) -> None:
    handle = make(live, ROOT, b"f")
    live.pair.there.apply(Make(99, ROOT, b"f", FILE, 0, 0, 0, 0))
    live.primary.hold()
    live.join()
    live.follow()
    live.automatic = True
    live.modify("rename", Rename(ROOT, b"f", ROOT, b"g", 0))
    assert live.sent() == ["Bind", "Identify", "Rename"]
    live.deliver()
    live.until(lambda: "rename" in live.answers.given)
    there, _ = live.pair.there.lookup(ROOT, b"g")
    assert live.pair.there.ident_of(there) == live.pair.here.ident_of(handle) != b""


def test_a_lost_peer_leaves_both_windows_to_compare(live: LivePath) -> None:
    """I6: what a checkpoint has not ended may be lost there."""
    handle = make(live, ROOT, b"f")
    settle(live)
    live.modify("one", Write(handle, 0, b"x"))
    live.keeper.rotate()
    live.modify("two", Write(handle, 2 * ZONE_BYTES, b"x"))
    live.keeper.go_alone()
    assert live.keeper.take() == [{b"f": zones(0, 2)}]


def test_a_recorded_checkpoint_ends_the_window_before_it_only(live: LivePath) -> None:
    handle = make(live, ROOT, b"f")
    settle(live)
    live.modify("one", Write(handle, 0, b"x"))
    live.keeper.rotate()
    live.modify("two", Write(handle, 2 * ZONE_BYTES, b"x"))
    live.keeper.drop_previous()
    live.keeper.go_alone()
    assert live.keeper.take() == [{b"f": zones(2)}]


def test_i8_what_an_attempt_took_is_back_when_it_fails(live: LivePath) -> None:
    handle = make(live, ROOT, b"f")
    settle(live)
    assert do(live, Write(handle, 0, b"x")) == {b"f": zones(0)}
    assert do(live, Write(handle, ZONE_BYTES, b"x")) == {b"f": zones(1)}
    live.keeper.paths.put_back()
    assert live.keeper.take() == [{b"f": Mark(extents=((0, 2 * ZONE_BYTES),))}]
    live.keeper.reset()
    live.keeper.paths.put_back()
    assert live.keeper.take() == [{}]


def test_marks_are_saved_and_loaded_whole(live: LivePath) -> None:
    paths = live.keeper.paths
    for kind, path in (("full", b"a"), ("walk", b"b"), ("attributes", b"c")):
        paths.add(0, kind, path)
    paths.add(0, "extents", b"b/f", 0, 5)
    paths.add(0, "extents", b"b", 0, 5)
    saved = paths.saved()
    again = type(paths)(1)
    again.load(saved)
    assert again.take() == paths.take()


def test_a_checkpoint_that_was_never_recorded_keeps_its_window(live: LivePath) -> None:
    handle = make(live, ROOT, b"f")
    settle(live)
    for zone in (0, 2, 4):
        live.modify(str(zone), Write(handle, zone * ZONE_BYTES, b"x"))
        live.keeper.rotate()
    live.keeper.go_alone()
    assert live.keeper.take() == [{b"f": zones(0, 2, 4)}]
