"""The engine on chosen trees: every kind of difference, and every kind of trouble."""

import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import contextlib

from resync_lab import ZONE, Lab, assert_equal, full_marks, resync, stream_pair, tree_of

from safepy.core.replica.marks import Marks
from safepy.dataplane.resync import messages, tree
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.messages import (
    Attributes,
    Compare,
    Data,
    End,
    Entry,
    FileData,
    Group,
    Listing,
    ResyncFailed,
    encode,
)
from safepy.dataplane.resync.source import Source
from safepy.dataplane.resync.target import Target
from safepy.errors import PeerError
from safepy.storage.syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate


@pytest.fixture
def trees(tmp_path):
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    right.mkdir()
    return left, right


def odd_tree(top):
    """Every kind of thing, with names that hurt."""
    base = os.fsencode(top)
    for name in (b"new\nline", b"\xff\xfe\x80", b" ", b"x" * 255, "é€".encode(), b"-rf", b"*"):
        Path(os.fsdecode(base + b"/" + name)).write_bytes(name * 3)
    (top / "empty").touch()
    (top / "dir").mkdir(0o2711)
    (top / "dir" / "suid").write_bytes(b"#!")
    (top / "dir" / "suid").chmod(0o6755)
    os.chown(top / "dir" / "suid", 1000, 1001)
    (top / "dir" / "suid").chmod(0o6755)
    os.mkfifo(top / "fifo", 0o622)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(top / "socket"))
    (top / "link").symlink_to("../../etc/passwd")
    (top / "dangling").symlink_to("x" * 4000)
    os.chown(top / "link", 5, 6, follow_symlinks=False)
    os.setxattr(top / "dangling", "trusted.of", b"link", follow_symlinks=False)
    os.setxattr(top / "empty", "user.text", b"value")
    os.setxattr(top / "dir", "trusted.binary", bytes(200))
    os.setxattr(top / "empty", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    os.setxattr(top, "trusted.safekit.marker", b"this node's own")
    deep = os.open(top, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 60, dir_fd=deep)
        inner = os.open("d" * 60, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    for name in (".", "dir", "empty", "link", "fifo"):
        os.utime(top / name, ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.utime(top / "null", ns=(1, -5_000_000_001))


def shallow(found):
    return {path: value for path, value in found[0].items() if path.count(b"/") < 20}


def test_odd_things_and_a_tree_deeper_than_path_max(trees):
    left, right = trees
    odd_tree(left)
    os.setxattr(right, "trusted.safekit.marker", b"the other's own")
    resync(left, right)
    # Paths beyond PATH_MAX: compared by descriptors, one component at a time.
    left_fd, right_fd = os.open(left, os.O_RDONLY), os.open(right, os.O_RDONLY)
    for _ in range(300):
        assert os.fstat(left_fd).st_mtime_ns == os.fstat(right_fd).st_mtime_ns
        names = sorted(os.listdir(left_fd))
        assert names == sorted(os.listdir(right_fd))
        step = [os.open("d" * 60, os.O_RDONLY, dir_fd=fd) for fd in (left_fd, right_fd)]
        os.close(left_fd)
        os.close(right_fd)
        left_fd, right_fd = step
    assert os.listdir(right_fd) == ["bottom"]
    os.close(left_fd)
    os.close(right_fd)
    for top in (left, right):  # now without the deep part, everything
        fd = os.open(top, os.O_RDONLY)
        tree.remove(fd, b"d" * 60)
        os.close(fd)
        os.utime(top, ns=(1, 7))
    assert_equal(left, right)
    assert os.getxattr(right, "trusted.safekit.marker") == b"the other's own"
    # and everything away again
    for path in left.iterdir():
        tree.remove(os.open(left, os.O_RDONLY), os.fsencode(path.name))
    resync(left, right)
    assert os.listdir(right) == []


def test_a_second_pass_moves_nothing(trees):
    left, right = trees
    for number in range(300):
        (left / f"f{number}").write_bytes(os.urandom(3000))
    (left / "large").write_bytes(os.urandom(20 * ZONE))
    first, _ = resync(left, right)
    assert (first.files, first.files_copied) == (301, 301)
    assert first.bytes_copied == first.bytes_compared == 300 * 3000 + 20 * ZONE
    before = {p.name: p.stat().st_ctime_ns for p in right.iterdir()}
    second, sent = resync(left, right)
    assert (second.files, second.files_copied, second.bytes_copied) == (301, 0, 0)
    assert second.bytes_compared == first.bytes_compared
    assert sent < 60_000
    assert before == {p.name: p.stat().st_ctime_ns for p in right.iterdir()}


@pytest.mark.parametrize("size", [5 * ZONE + 7, 40 * ZONE])
def test_only_the_changed_zone_travels(trees, size):
    left, right = trees
    (left / "f").write_bytes(os.urandom(size))
    resync(left, right)
    with (right / "f").open("r+b") as file:  # same size, same time: found by content
        file.seek(2 * ZONE + 5)
        file.write(b"stale")
    os.utime(right / "f", ns=(1, (left / "f").stat().st_mtime_ns))
    result, sent = resync(left, right)
    assert result.bytes_copied == ZONE
    assert ZONE < sent < ZONE + 5000
    assert_equal(left, right)


def test_an_extent_mark_compares_and_moves_only_it(trees):
    left, right = trees
    (left / "d").mkdir()
    (left / "d" / "f").write_bytes(os.urandom(100 * ZONE))
    marks = Marks()
    with Lab(left, right) as lab:
        lab.round(full_marks())
        sent = lab.sent_bytes
        with (left / "d" / "f").open("r+b") as file:
            file.seek(70 * ZONE)
            file.write(b"new")
        marks.add_extent(b"d/f", 70 * ZONE, 3)
        result = lab.round(marks)
        assert result.bytes_compared == result.bytes_copied == ZONE
        assert lab.sent_bytes - sent < ZONE + 3000
        with (left / "d" / "f").open("ab") as file:  # grows: what is new follows by itself
            file.write(bytes(3 * ZONE + 5))
        marks.add_attributes(b"d/f")
        lab.round(marks)
        assert_equal(left, right)
        os.truncate(left / "d" / "f", 5)
        marks.add_extent(b"d/f", 0, 1 << 62)
        lab.round(marks)
        assert_equal(left, right)


def test_holes_stay_holes(trees):
    left, right = trees
    with (left / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        for zone in (0, 9, 10, 5000):
            file.seek(zone * ZONE + 100)
            file.write(b"data")
    with (left / "all hole").open("wb") as file:
        file.truncate(50 * ZONE)
    (left / "punched").write_bytes(os.urandom(30 * ZONE))
    (left / "zeros").write_bytes(bytes(3 * ZONE))
    (right / "all hole").write_bytes(os.urandom(50 * ZONE))
    os.truncate(left / "sparse", 6000 * ZONE)
    resync(left, right)
    fd = os.open(left / "punched", os.O_WRONLY)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 3 * ZONE, 20 * ZONE)
    os.close(fd)
    result, sent = resync(left, right)
    assert sent < 50_000 and result.bytes_copied == 0
    assert_equal(left, right)
    for name in ("sparse", "all hole", "punched", "zeros"):
        assert (left / name).stat().st_blocks == (right / name).stat().st_blocks, name


def make_one(top, kind):
    place = top / "it"
    if kind == "file":
        place.write_bytes(b"content")
    elif kind == "large":
        place.write_bytes(os.urandom(12 * ZONE))
    elif kind == "dir":
        (place / "below" / "more").mkdir(parents=True)
        (place / "below" / "f").write_bytes(b"x")
    elif kind == "symlink":
        place.symlink_to("/etc")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    elif kind == "linked":
        place.write_bytes(b"one of two")
        os.link(place, top / "two")


KINDS = ["none", "file", "large", "dir", "symlink", "fifo", "device", "linked"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("here", KINDS)
@pytest.mark.parametrize("there", KINDS)
def test_type_changes(trees, here, there, whole):
    left, right = trees
    make_one(left, here)
    make_one(right, there)
    marks = Marks()
    if whole:
        marks.add_full(b"")
    else:
        for name in (b"it", b"two"):
            marks.add_full(name)
        marks.add_attributes(b"")
    with Lab(left, right, streams=2) as lab:
        lab.round(marks)
        lab.source.finish()
    assert_equal(left, right)


def files(top, contents, *links):
    for name, content in contents.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(content)
    for old, new in links:
        (top / new).parent.mkdir(exist_ok=True)
        os.link(top / old, top / new)


@pytest.mark.parametrize(
    "there",
    [
        ({"a": b"1"}, ("a", "b"), ("a", "c"), ("a", "d/e")),  # all one
        ({"a": b"1", "b": b"2", "c": b"3", "d/e": b"4"},),  # none
        ({"a": b"1", "c": b"3"}, ("a", "d/e"), ("c", "b")),  # crosswise
        ({"b": b"2", "x": b"x"}, ("b", "a"), ("x", "c"), ("x", "d/e"), ("x", "y")),  # with others
        ({"a": b"1", "d/e": b"9" * 5000}, ("a", "c"), ("d/e", "b")),
        ({},),
        ({"c": b"3", "d/e": b"4"}, ("c", "b"), ("d/e", "a"), ("d/e", "d/extra")),
    ],
)
def test_hard_links_in_every_wrong_arrangement(trees, there):
    left, right = trees
    files(left, {"a": os.urandom(2000), "c": os.urandom(3 * ZONE)}, ("a", "b"), ("c", "d/e"))
    files(right, *there)
    resync(left, right)
    assert_equal(left, right)
    moved, _ = resync(left, right)
    assert moved.bytes_copied == 0


def test_links_of_large_files_special_files_and_names_outside(trees, tmp_path):
    left, right = trees
    (left / "d").mkdir()
    (left / "big").write_bytes(os.urandom(30 * ZONE))
    os.link(left / "big", left / "d" / "big")
    os.link(left / "big", tmp_path / "outside")
    (left / "s").symlink_to("target")
    os.link(left / "s", left / "d" / "s", follow_symlinks=False)
    os.mkfifo(left / "p")
    os.link(left / "p", left / "d" / "p")
    resync(left, right)
    assert_equal(left, right)
    assert (right / "big").stat().st_nlink == 2


def test_a_change_through_a_name_that_is_gone_reaches_the_other_name(trees):
    left, right = trees
    files(left, {"a": b"old"}, ("a", "d/b"))
    marks = Marks()
    with Lab(left, right) as lab:
        lab.round(full_marks())
        (left / "d" / "b").write_bytes(b"new content")
        marks.add_extent(b"d/b", 0, 1 << 62)
        (left / "d" / "b").unlink()
        marks.add_full(b"d/b")
        marks.add_attributes(b"d")
        lab.round(marks)
        assert (right / "a").read_bytes() == b"new content"
        assert_equal(left, right)


def test_more_links_than_fit_in_a_message(trees, monkeypatch):
    monkeypatch.setattr("safepy.dataplane.resync.parts.GROUP_BYTES", 100)
    left, right = trees
    files(left, {"a": b"content"}, *[("a", f"link{n}") for n in range(100)])
    (right / "link7").write_bytes(b"wrong")
    resync(left, right)
    assert_equal(left, right)
    resync(left, right)
    assert_equal(left, right)


def test_a_large_directory_comes_in_parts(trees, monkeypatch):
    monkeypatch.setattr("safepy.dataplane.resync.parts.PART_NAMES", 10)
    left, right = trees
    for number in range(0, 300, 3):
        (left / f"{number}").write_bytes(b"l")
    for number in range(0, 300, 2):
        (right / f"{number}").write_bytes(b"r")
    resync(left, right, streams=1)
    assert_equal(left, right)


def test_a_mark_below_what_the_target_lacks_goes_one_level_up(trees):
    left, right = trees
    (left / "a" / "b" / "c").mkdir(parents=True)
    (left / "a" / "b" / "c" / "f").write_bytes(b"x")
    marks = Marks()
    with Lab(left, right) as lab:
        marks.add_full(b"a/b/c/f")
        marks.add_attributes(b"")
        lab.round(marks)
    assert_equal(left, right)


def test_progress_ends_complete(trees):
    left, right = trees
    for number in range(50):
        (left / f"{number}").write_bytes(bytes(1000))
    seen = []
    resync(left, right, on_progress=seen.append)
    assert seen[-1].files_done == 50 and seen[-1].bytes_copied == 50_000
    assert seen[-1].files_total in (0, 50)


def test_each_file_of_which_content_travelled_is_told_once(trees):
    left, right = trees
    names = ["small", "empty", "large", "fresh/small", "fresh/large", "fresh/deeper/small"]
    (left / "fresh/deeper").mkdir(parents=True)
    for name in names:
        size = {"empty": 0, "large": 3 * ZONE}.get(name.rsplit("/", 1)[-1], 100)
        (left / name).write_bytes(os.urandom(size))
    told = []
    with Lab(left, right) as lab:
        lab.source.tell_copied(lambda tree, path: told.append((tree, path)))
        lab.round(full_marks())
        lab.source.finish()
    expected = [(0, tuple(map(os.fsencode, name.split("/")))) for name in names if name != "empty"]
    assert sorted(told) == sorted(expected)


# --- keep aside


def kept(aside):
    return {
        os.path.relpath(os.path.join(at, name), aside.folder): Path(at, name).read_bytes()
        for at, _, names in os.walk(aside.folder)
        for name in names
        if not os.path.islink(os.path.join(at, name))
    }


def test_what_is_overwritten_or_deleted_is_kept(trees, tmp_path):
    left, right = trees
    (left / "same").write_bytes(b"same")
    (left / "changed").write_bytes(b"new")
    (left / "large").write_bytes(os.urandom(20 * ZONE))
    (left / "shorter").write_bytes(b"12")
    (left / "becomes file").write_bytes(b"file")
    (left / "meta only").write_bytes(b"m")
    files(left, {"group": b"group"}, ("group", "group2"))
    old_large = os.urandom(20 * ZONE)
    (right / "same").write_bytes(b"same")
    (right / "changed").write_bytes(b"old")
    (right / "large").write_bytes(old_large)
    (right / "shorter").write_bytes(b"12345")
    (right / "becomes file" / "x").mkdir(parents=True)
    (right / "becomes file" / "x" / "y").write_bytes(b"deep")
    (right / "meta only").write_bytes(b"m")
    (right / "meta only").chmod(0o600)
    (right / "extra").mkdir()
    (right / "extra" / "f").write_bytes(b"extra")
    (right / "gone link").symlink_to("nowhere")
    (right / "group").write_bytes(b"old one")
    (right / "group2").write_bytes(b"old two")
    os.chown(right / "changed", 42, 43)
    os.utime(right / "changed", ns=(1, 99))
    aside = Aside(str(tmp_path / "kept"), "resync", ["/srv/data"])
    resync(left, right, keep_aside=aside)
    assert_equal(left, right)
    top = "0_srv_data/"
    found = kept(aside)
    assert found.pop(top + "group", b"old one") == b"old one"
    assert found.pop(top + "group2", b"old two") == b"old two"
    assert found == {
        top + "changed": b"old",
        top + "large": old_large,
        top + "shorter": b"12345",
        top + "becomes file/x/y": b"deep",
        top + "extra/f": b"extra",
    }
    assert os.readlink(Path(aside.folder, top, "gone link")) == "nowhere"
    status = Path(aside.folder, top, "changed").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (42, 43, 99)
    assert aside.files >= 7
    assert aside.bytes >= len(old_large)
    # a second resynchronisation with nothing to keep makes no folder
    again = Aside(str(tmp_path / "kept2"), "resync", ["/srv/data"])
    resync(left, right, keep_aside=again)
    assert not os.path.exists(tmp_path / "kept2")


def test_no_room_to_keep_aside_overwrites_nothing(trees, tmp_path, monkeypatch):
    left, right = trees
    (left / "f").write_bytes(b"new")
    (right / "f").write_bytes(b"old")
    monkeypatch.setattr("safepy.dataplane.resync.aside.RESERVE_BYTES", 1 << 60)
    monkeypatch.setattr("safepy.dataplane.resync.aside._cloned", lambda *_: False)
    aside = Aside(str(tmp_path / "kept"), "resync", ["data"])
    with Lab(left, right, keep_aside=aside) as lab:
        with pytest.raises(ResyncFailed, match=r"no room in .* to keep f ") as caught:
            lab.round(full_marks())
        assert caught.value.fatal
    assert (right / "f").read_bytes() == b"old"


# --- trouble


def test_disk_full_on_the_target_is_said(trees, monkeypatch):
    left, right = trees
    (left / "d").mkdir()
    (left / "d" / "f").write_bytes(b"x")

    def full(fd, piece, offset):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safepy.dataplane.resync.intake.write_all", full)
    with Lab(left, right) as lab, pytest.raises(ResyncFailed, match=r"d/f .* \(ENOSPC\)"):
        lab.round(full_marks())


def test_a_broken_connection_then_a_new_run_ends_equal(trees):
    left, right = trees
    odd = left / "odd"
    odd.mkdir()
    for number in range(400):
        (left / f"{number}").write_bytes(os.urandom(20_000))
    files(left, {"a": os.urandom(9 * ZONE)}, ("a", "odd/b"))
    with Lab(left, right) as lab:
        cut = threading.Event()
        receive = lab.theirs[0].receive
        seen = []

        def receive_some(patient=False):
            seen.append(1)
            if len(seen) > 4:
                cut.set()
                for stream in lab.theirs:
                    stream.shutdown()
            return receive()

        lab.theirs[0].receive = receive_some
        with pytest.raises(PeerError):
            lab.round(full_marks())
            lab.round(full_marks())
            lab.round(full_marks())
        assert cut.is_set()
    resync(left, right)
    assert_equal(left, right)


def test_files_that_vanish_or_shrink_under_our_hands(trees, monkeypatch):
    left, right = trees
    for number in range(40):
        (left / f"{number:02}").write_bytes(os.urandom(5 * ZONE))
    opened = []
    open_file = tree.open_file

    def meddle(dir_fd, name, flags=os.O_RDONLY):
        path = left / os.fsdecode(name)
        if flags == os.O_RDONLY and os.fstat(dir_fd).st_ino == left.stat().st_ino:
            opened.append(name)
            if len(opened) % 3 == 0:
                path.unlink()
            elif len(opened) % 3 == 1:
                os.truncate(path, ZONE + 1)
        return open_file(dir_fd, name, flags)

    monkeypatch.setattr(tree, "open_file", meddle)
    with Lab(left, right) as lab:
        lab.round(full_marks())
        monkeypatch.undo()
        lab.round(full_marks())
        assert_equal(left, right)
    assert len(opened) == 40


# --- hostile peers


def entry(name, mode=stat.S_IFREG | 0o644, **more):
    values = {"uid": 0, "gid": 0, "size": 0, "mtime_ns": 0, "atime_ns": 0}
    return Entry(name, mode, **{**values, **more})


LINK = {"mode": stat.S_IFLNK | 0o777, "link": b"x"}


def hostile():
    bad = [b"..", b".", b"a/b", b"/etc", b"x\0y", b"", b"n" * 256]
    for name in bad:
        yield Listing(0, (), (entry(b"ok"), entry(name)))
        yield Listing(0, (), (), gone=(name,))
        yield Listing(0, (name,), ())
        yield Data(0, (), (FileData(b"ok", ((0, b"x"),)), FileData(name, ((0, b"x"),))))
        yield Data(0, (name,), (FileData(b"f", ((0, b"x"),)),))
        yield Group(0, ((b"ok",), (b"d", name)), entry(b"ok"))
        yield Attributes(0, (((b"keep",), entry(b"keep")), ((name,), entry(b"x"))))
        yield Compare(0, (), name, ((0, 10),), 10)
    yield Listing(1, (), (entry(b"ok"),))
    yield Group(0, ((),), entry(b"ok"))
    yield Listing(0, (), (entry(b"ok"), entry(b"odd", mode=0o170000)))
    yield Listing(0, (), (entry(b"ok"), entry(b"s", mode=stat.S_IFLNK | 0o777)))
    yield Listing(0, (), (entry(b"ok"), entry(b"s", xattrs=((b"trusted.safekit", b"x"),))))
    yield Listing(0, (), (entry(b"ok"), entry(b"s", xattrs=((b"system.other", b"x"),))))
    yield Listing(0, (), (entry(b"ok"), entry(b"s", size=-1)))
    yield Listing(0, (), (entry(b"ok"), entry(b"s", uid=1 << 32)))
    yield Listing(0, (b"d",) * 5000, (entry(b"ok"),))
    yield Data(0, (), (FileData(b"ok", (((1 << 63) - 1, b"xx"),)),))
    yield Data(0, (), (FileData(b"ok", (), ((5, 5),)),))
    yield Compare(0, (), b"keep", ((0, 1 << 40),), 1 << 40)
    yield b"\x93garbage"
    yield b""


@pytest.mark.parametrize("request_", list(hostile()), ids=lambda r: repr(r)[:50])
def test_hostile_requests_are_refused_and_nothing_changes(trees, request_):
    _, right = trees
    (right / "keep").write_bytes(b"keep")
    before = tree_of(right)
    ours, theirs = stream_pair()
    ours.send(request_ if isinstance(request_, bytes) else encode(request_))
    fd = os.open(right, os.O_RDONLY)
    with pytest.raises(PeerError):
        Target([fd], theirs).serve()
    os.close(fd)
    ours.close()
    theirs.close()
    assert tree_of(right) == before


def test_links_on_the_target_lead_nowhere(trees, tmp_path):
    """Links that a hostile peer makes, or that stand there, are never followed."""
    _, right = trees
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"precious")
    (right / "out").symlink_to(outside)
    (right / "file").symlink_to(outside / "f")
    before = tree_of(outside)
    for request in (
        Data(0, (b"out",), (FileData(b"f", ((0, b"bad"),), entry=entry(b"f")),)),
        Data(0, (), (FileData(b"file", ((0, b"bad"),), entry=entry(b"file")),)),
        Listing(0, (b"out",), (entry(b"new"),), whole=True),
        Group(0, ((b"out", b"f"), (b"stolen",)), entry(b"f")),
        Attributes(0, (((b"out",), entry(b"out", mode=stat.S_IFDIR | 0o777)),)),
        Attributes(0, (((b"out", b"f"), entry(b"f", mode=0o100777)),)),
        Compare(0, (b"out",), b"f", ((0, 10),), 10),
        Compare(0, (), b"file", ((0, 10),), 10),
    ):
        ours, theirs = stream_pair()
        ours.send(encode(request))
        ours.send(encode(End()))
        fd = os.open(right, os.O_RDONLY)
        with contextlib.suppress(ResyncFailed, PeerError):
            Target([fd], theirs).serve()
        os.close(fd)
        ours.close()
        theirs.close()
        assert tree_of(outside) == before
        assert not (right / "stolen").exists()


def test_a_hostile_target_is_refused(trees):
    left, _ = trees
    (left / "f").write_bytes(b"x")
    for answer in (
        messages.Wanted((messages.Want(9, 1, digests=b"x" * 16),)),
        messages.Wanted((messages.Want(0, 1, digests=b"x" * 7),)),
        messages.Wanted((messages.Want(0, 1, digests=b"x" * 32),)),
        messages.Passed(((0, (b"..",)),)),
        messages.Digests(b""),
    ):
        ours, theirs = stream_pair()
        theirs.send(encode(answer))
        fd = os.open(left, os.O_RDONLY)
        with pytest.raises(PeerError):
            Source([fd], [ours]).run_round([full_marks()])
        os.close(fd)
        ours.close()
        theirs.close()
