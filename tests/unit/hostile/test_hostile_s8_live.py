"""S8, S9, S10 on the live stream: what a primary that turned hostile can make a secondary do.

The real `Secondary` on the real `Tree`; operations travel through the real codec.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest
from hostile_tools import Place, hostile_place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safepy.core.replica import ops
from safepy.core.replica.ops import ROOT, Op
from safepy.dataplane.secondary import Secondary
from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.storage import changes
from safepy.storage.backing import Tree
from safepy.wire import replication as wire

FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
WAY, DOOR, UP, INSIDE, DIR, NEW = 10, 11, 12, 13, 14, 90


class Victim:
    """A secondary that believes what it is told."""

    def __init__(self, place: Place, acknowledge_on: str = "apply") -> None:
        self.place = place
        self.loop = Loop()
        self.tree = Tree(place.open_root(), 0, True, 64)
        self.faults: list[int] = []
        self.acks: list[int] = []
        self.completions: list[tuple[int, int]] = []
        self.secondary = Secondary(
            self.loop,
            [self.tree],
            acknowledge_on,
            ack=self.acks.append,
            complete=lambda seq, number: self.completions.append((seq, number)),
            fault=lambda number, text: self.faults.append(number),
        )
        self.seq = 0

    def tell(self, *operations: Op, tree: int = 0) -> None:
        """One batch, as it comes from the wire. What the codec refuses is refused."""
        for op in operations:
            self.seq += 1
            data = wire.encode(wire.Apply(self.seq, tree, op))  # type: ignore[arg-type]
            message = wire.decode(data)
            assert isinstance(message, wire.Apply)
            self.secondary.receive(message.seq, message.tree, message.op)
        self.loop.turn(0)

    def bound(self) -> None:
        """It knows the links by handles, as an honest primary would introduce them."""
        names = ((WAY, b"way"), (DOOR, b"door"), (UP, b"up"), (INSIDE, b"inside"), (DIR, b"dir"))
        self.tell(*(ops.Bind(handle, name) for handle, name in names))
        assert self.faults == []

    def close(self) -> None:
        self.secondary.close()
        self.tree.close()
        self.loop.close()


@pytest.fixture
def victim() -> Iterator[Victim]:
    with hostile_place() as place:
        made = Victim(place)
        made.bound()
        try:
            yield made
        finally:
            made.close()


BAD_NAMES = [b"..", b".", b"", b"/", b"a/b", b"../outside/x", b"way/x", b"a\0b", b"\0", b"n" * 256]


def named(name: bytes) -> list[Op]:
    """Every operation that takes a name."""
    return [
        ops.Make(NEW, ROOT, name, FILE, 0, 0o22, 0, 0),
        ops.Make(NEW, ROOT, name, DIRECTORY, 0, 0o22, 0, 0),
        ops.Make(NEW, ROOT, name, stat.S_IFIFO | 0o600, 0, 0o22, 0, 0),
        ops.Symlink(NEW, ROOT, name, b"x", 0, 0),
        ops.Link(INSIDE, ROOT, name),
        ops.Unlink(ROOT, name),
        ops.Rmdir(ROOT, name),
        ops.Rename(ROOT, name, ROOT, b"x", 0),
        ops.Rename(ROOT, b"inside", ROOT, name, 0),
        ops.Rename(ROOT, b"inside", ROOT, name, 2),
        *([ops.Bind(NEW, name)] if name else []),  # an empty path is the root itself
    ]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_s8_no_operation_takes_a_name_that_is_none(name: bytes) -> None:
    for number in range(len(named(b"x"))):
        if number >= len(named(name)):
            continue
        with hostile_place() as place:
            made = Victim(place)
            try:
                made.bound()
                before = sorted(os.listdir(place.root))
                made.tell(named(name)[number])
                assert len(made.faults) == 1, named(name)[number]
                refusals = {errno.EINVAL, errno.ENAMETOOLONG, errno.EPROTO}
                if isinstance(named(name)[number], ops.Bind):  # a path, not a name
                    refusals |= {errno.ENOENT, errno.ENOTDIR}
                assert made.faults[0] in refusals
                assert sorted(os.listdir(place.root)) == before
                place.assert_untouched()
            finally:
                made.close()


THROUGH = [b"way/file", b"way/sub", b"way", b"up/outside", b"dir/deep/file", b"up/outside/file"]


@pytest.mark.parametrize("path", [p for p in THROUGH if b"/" in p], ids=repr)
def test_s8_a_path_through_a_link_names_nothing(victim: Victim, path: bytes) -> None:
    deep = path.startswith(b"dir/deep/")
    victim.tell(ops.Bind(NEW, path), ops.Write(NEW, 0, b"owned"))
    assert victim.faults == [errno.ENOTDIR], deep
    victim.place.assert_untouched()


def through(link: int) -> list[Op]:
    """Every operation on the handle of a link (to a directory, to a file)."""
    return [
        ops.Write(link, 0, b"owned"),
        ops.SetAttr(link, mode=0o777),
        ops.SetAttr(link, uid=1234, gid=1234),
        ops.SetAttr(link, size=0),
        ops.SetAttr(link, atime_ns=1, mtime_ns=1),
        ops.SetAttr(link, kill_priv=True),
        ops.Fallocate(link, 0, 0, 1 << 20),
        ops.SetXattr(link, b"trusted.owned", b"1", 0),
        ops.SetXattr(link, b"user.owned", b"1", 0, True),
        ops.RemoveXattr(link, b"user.owned"),
        ops.Link(link, ROOT, b"second"),
        ops.Make(NEW, link, b"x", FILE, 0, 0o22, 0, 0),
        ops.Make(NEW, link, b"x", DIRECTORY, 0, 0o22, 0, 0),
        ops.Make(NEW, link, b"x", stat.S_IFCHR | 0o600, os.makedev(1, 3), 0o22, 0, 0),
        ops.Tmpfile(NEW, link, 0o600, 0o22, 0, 0),
        ops.Symlink(NEW, link, b"x", b"y", 0, 0),
        ops.Link(INSIDE, link, b"x"),
        ops.Unlink(link, b"file"),
        ops.Rmdir(link, b"sub"),
        ops.Rename(link, b"file", ROOT, b"stolen", 0),
        ops.Rename(ROOT, b"inside", link, b"file", 0),
        ops.Rename(ROOT, b"inside", link, b"file", 2),
        ops.Fsync(link, True),
    ]


@pytest.mark.parametrize("link", [WAY, DOOR, UP], ids=["way", "door", "up"])
@pytest.mark.parametrize("number", range(len(through(WAY))))
def test_s8_s9_a_link_is_never_followed(victim: Victim, link: int, number: int) -> None:
    """What is done to a link is done to the link itself, or refused."""
    victim.tell(through(link)[number])
    victim.place.assert_untouched()
    for name in ("way", "door", "up"):
        assert (victim.place.root / name).is_symlink()
    assert "stolen" not in os.listdir(victim.place.root)


SWAPPED = [
    ops.Write(DIR, 0, b"x"),
    ops.Make(NEW, DIR, b"x", FILE, 0, 0o22, 7, 7),
    ops.Make(NEW, DIR, b"x", DIRECTORY, 0, 0o22, 7, 7),
    ops.Make(NEW, DIR, b"x", stat.S_IFIFO | 0o4600, 0, 0, 7, 7),
    ops.Symlink(NEW, DIR, b"x", b"y", 7, 7),
    ops.Tmpfile(NEW, DIR, 0o600, 0o22, 7, 7),
    ops.Unlink(DIR, b"file"),
    ops.Rmdir(DIR, b"sub"),
    ops.Rename(DIR, b"file", ROOT, b"stolen", 0),
    ops.Rename(ROOT, b"door", DIR, b"file", 0),
    ops.SetAttr(DIR, mode=0o777, uid=7, gid=7, mtime_ns=1),
    ops.SetXattr(DIR, b"trusted.owned", b"1", 0),
    ops.Link(INSIDE, DIR, b"x"),
    ops.Bind(NEW, b"dir/file"),
]


@pytest.mark.parametrize("number", range(len(SWAPPED)))
@pytest.mark.parametrize("forget_descriptors", [True, False])
def test_s8_a_directory_swapped_for_a_link_between_two_operations(
    victim: Victim, number: int, forget_descriptors: bool
) -> None:
    """A handle is a descriptor, or is found again by name and compared by inode."""
    if forget_descriptors:
        table = victim.tree._objects
        for found in list(table._closable):
            table._close(found)
        table._closable.clear()
    root = victim.place.root
    (root / "dir").rename(root / "away")
    (root / "dir").symlink_to(victim.place.outside)
    victim.tell(SWAPPED[number])
    victim.place.assert_untouched()


def test_s8_another_directory_in_the_place_of_one_is_another(victim: Victim) -> None:
    """A name that leads to something else by now is not what the handle stands for."""
    table = victim.tree._objects
    for found in list(table._closable):
        table._close(found)
    table._closable.clear()
    root = victim.place.root
    (root / "dir").rename(root / "away")
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"another")
    victim.tell(ops.Unlink(DIR, b"file"))
    assert victim.faults == [errno.ESTALE]
    assert (root / "dir" / "file").exists() and (root / "away" / "file").exists()


def test_s8_a_new_name_swapped_for_a_link_before_its_mode_is_set(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """chown drops set-id bits, so they are set again: of what was made, not of what stands there
    by then."""
    real = os.chown

    def chown(path: object, uid: int, gid: int, **where: object) -> None:
        real(path, uid, gid, **where)  # type: ignore[arg-type,call-overload]
        if path == b"x":
            (victim.place.root / "x").unlink()
            (victim.place.root / "x").symlink_to(victim.place.outside / "file")

    monkeypatch.setattr(changes.os, "chown", chown)
    victim.tell(ops.Make(NEW, ROOT, b"x", stat.S_IFIFO | 0o6755, 0, 0, 7, 7))
    victim.place.assert_untouched()


@pytest.mark.parametrize(
    "op",
    [
        ops.Bind(ROOT, b"dir"),
        ops.Bind(0, b"dir"),
        ops.Bind(-5, b"dir"),
        ops.Bind(1 << 63, b"dir"),
        ops.Bind(DIR, b"inside"),
        ops.Bind(NEW, b""),
        ops.Make(ROOT, ROOT, b"x", DIRECTORY, 0, 0o22, 0, 0),
        ops.Make(DIR, ROOT, b"x", FILE, 0, 0o22, 0, 0),
        ops.Symlink(INSIDE, ROOT, b"x", b"y", 0, 0),
        ops.Tmpfile(ROOT, ROOT, 0o600, 0, 0, 0),
    ],
    ids=repr,
)
def test_s4_a_handle_is_given_once_and_never_the_roots(victim: Victim, op: Op) -> None:
    before = sorted(os.listdir(victim.place.root))
    victim.tell(op)
    assert len(victim.faults) == 1
    assert sorted(os.listdir(victim.place.root)) == before
    assert victim.tree.path_of(ROOT) == b""


@pytest.mark.parametrize(
    "op",
    [
        ops.Write(99, 0, b"x"),
        ops.SetAttr(99, mode=0o777),
        ops.Unlink(99, b"file"),
        ops.Rename(ROOT, b"inside", 99, b"x", 0),
        ops.Fsync(99, False),
        ops.Write(INSIDE, -1, b"x"),
        ops.Write(INSIDE, 1 << 62, b"x"),
        ops.Write(INSIDE, (1 << 64) - 1, b"x"),
        ops.SetAttr(INSIDE, size=-1),
        ops.SetAttr(INSIDE, size=(1 << 64) - 1),
        ops.SetAttr(INSIDE, uid=1 << 40),
        ops.SetAttr(INSIDE, mode=1 << 40),
        ops.Fallocate(INSIDE, 1 << 32, 0, 4096),
        ops.Fallocate(INSIDE, 0, (1 << 64) - 4096, 8192),
        ops.Fallocate(INSIDE, 0, 0, -1),
        ops.Rename(ROOT, b"inside", ROOT, b"x", 1 << 32),
        ops.Rename(ROOT, b"inside", ROOT, b"x", -1),
        ops.Make(NEW, ROOT, b"x", FILE, 0, 1 << 40, 0, 0),
        ops.Make(NEW, ROOT, b"x", 1 << 40, 0, 0, 0, 0),
        ops.Make(NEW, ROOT, b"x", -1, 0, 0, 0, 0),
        ops.Make(NEW, ROOT, b"x", stat.S_IFCHR, -1, 0, 0, 0),
        ops.SetXattr(INSIDE, b"", b"v", 0),
        ops.SetXattr(INSIDE, b"user.a\0b", b"v", 0),
        ops.SetXattr(INSIDE, b"user." + b"x" * 300, b"v", 0),
        ops.SetXattr(INSIDE, b"user.big", bytes(70_000), 0),
        ops.SetXattr(INSIDE, b"user.a", b"v", 1 << 40),
        ops.Bind(NEW, b"/" * 5000),
        ops.Bind(NEW, b"a/" * 40_000),
    ],
    ids=lambda op: repr(op)[:60],
)
def test_s4_numbers_and_lengths_out_of_range_end_the_stream_and_change_nothing(
    victim: Victim, op: Op
) -> None:
    before = {p.name: p.lstat().st_size for p in victim.place.root.iterdir()}
    victim.tell(op)
    assert len(victim.faults) == 1
    assert {p.name: p.lstat().st_size for p in victim.place.root.iterdir()} == before
    # Nothing after it is carried out, and nothing is acknowledged any more.
    acknowledged = len(victim.acks)
    victim.tell(ops.Unlink(ROOT, b"inside"))
    assert (victim.place.root / "inside").exists() and len(victim.acks) == acknowledged


def test_s4_a_directory_number_out_of_range(victim: Victim) -> None:
    victim.tell(ops.Unlink(ROOT, b"inside"), tree=1)
    assert victim.faults == [errno.EPROTO]
    with pytest.raises(PeerError):
        wire.decode(wire.encode(wire.Apply(1, 256, ops.Unlink(ROOT, b"inside"))))
    with pytest.raises(PeerError):
        wire.decode(wire.encode(wire.Apply(1, -1, ops.Unlink(ROOT, b"inside"))))


@pytest.mark.parametrize("name", [b"trusted.safekit", b"trusted.safekit.id", b"trusted.safekitX"])
def test_s10_ordinary_operations_do_not_reach_our_attributes(victim: Victim, name: bytes) -> None:
    os.setxattr(victim.place.root / "inside", "trusted.safekit.id", b"ours")
    for op in (ops.SetXattr(INSIDE, name, b"theirs", 0), ops.RemoveXattr(INSIDE, name)):
        victim.faults.clear()
        victim.secondary.faulted = False
        victim.tell(op)
        assert victim.faults == [errno.EPERM]
    assert os.getxattr(victim.place.root / "inside", "trusted.safekit.id") == b"ours"
    assert name not in victim.tree.listxattr(INSIDE)
    with pytest.raises(OSError):
        victim.tree.getxattr(INSIDE, name)


def test_s9_devices_and_set_id_bits_are_made_but_never_opened(victim: Victim) -> None:
    """The mount behaves as the file system beneath it, so they are replicated
    (docs/differences.md); nothing of ours opens a device node, and no mode is more than asked."""
    device = stat.S_IFCHR | 0o600
    opened: list[object] = []
    real = os.open

    def watched(path: object, flags: int, *rest: object, **where: object) -> int:
        opened.append((path, flags))
        return real(path, flags, *rest, **where)  # type: ignore[arg-type]

    changes_os = changes.os
    try:
        changes_os.open = watched  # type: ignore[assignment]
        victim.tell(
            ops.Make(NEW, ROOT, b"dev", device, os.makedev(1, 3), 0, 7, 7, ((NEW, 5),)),
            ops.SetAttr(NEW, mode=0o6640),
            ops.SetXattr(NEW, b"trusted.x", b"v", 0),
            ops.Make(NEW + 1, ROOT, b"suid", stat.S_IFREG | 0o4755, 0, 0, 7, 7),
        )
    finally:
        changes_os.open = real
    assert victim.faults == []
    made = (victim.place.root / "dev").lstat()
    assert stat.S_ISCHR(made.st_mode) and made.st_rdev == os.makedev(1, 3)
    for path, flags in opened:
        if path == b"dev":
            assert flags & os.O_PATH
    victim.tell(ops.Write(NEW, 0, b"into the device"))
    assert victim.faults == [errno.EINVAL]


# -- anything at all ----------------------------------------------------------------------------

names = st.sampled_from(
    [*BAD_NAMES, b"way", b"door", b"up", b"inside", b"dir", b"file", b"x", b"y"]
)
paths = st.lists(names, max_size=4).map(b"/".join)
handles = st.sampled_from([ROOT, WAY, DOOR, UP, INSIDE, DIR, 20, 21, 0, 99, -1])
numbers = st.sampled_from([0, 1, 2, 4096, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, -1])
sizes = st.sampled_from([0, 1, 4096, 1 << 63, -1, 1 << 32])
modes = st.sampled_from([FILE, DIRECTORY, stat.S_IFIFO, stat.S_IFLNK, 0o777, 1 << 40, -1])
small = st.binary(max_size=8)
xattrs = st.sampled_from([b"user.a", b"trusted.safekit.id", b"trusted.b", b"", b"system.x"])
operations: st.SearchStrategy[Op] = st.one_of(
    st.builds(ops.Bind, handles, paths),
    st.builds(ops.Forget, st.lists(handles, max_size=3).map(tuple)),
    st.builds(ops.Write, handles, sizes, small, st.booleans()),
    st.builds(ops.SetAttr, handles, modes, sizes, sizes, sizes, numbers, numbers, st.booleans()),
    st.builds(ops.Fallocate, handles, numbers, sizes, sizes),
    st.builds(ops.Make, handles, handles, names, modes, st.just(0), numbers, sizes, sizes),
    st.builds(ops.Tmpfile, handles, handles, modes, numbers, sizes, sizes),
    st.builds(ops.Symlink, handles, handles, names, st.just(b"../outside"), sizes, sizes),
    st.builds(ops.Link, handles, handles, names),
    st.builds(ops.Unlink, handles, names),
    st.builds(ops.Rmdir, handles, names),
    st.builds(ops.Rename, handles, names, handles, names, st.integers(-1, 9)),
    st.builds(ops.SetXattr, handles, xattrs, small, numbers, st.booleans()),
    st.builds(ops.RemoveXattr, handles, xattrs),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(operations, max_size=12))
def test_s8_whatever_a_peer_says_stays_inside_the_tree(said: list[Op]) -> None:
    with hostile_place() as place:
        victim = Victim(place)
        try:
            victim.bound()
            for op in said:
                try:
                    victim.tell(op)
                except PeerError:
                    continue
                victim.secondary.faulted = False  # go on: each operation is an attempt of its own
            place.assert_untouched()
            assert all(ack <= victim.seq for ack in victim.acks)
        finally:
            victim.close()
