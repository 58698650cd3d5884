"""S7, S8, S9, S10 on the transfer streams: a source that turned hostile, and a target that did.

The real `Target` and the real `Transfer` at the end of a real stream, the other end by hand.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hostile_tools import SECRET, Place, hostile_place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "dataplane"))
import contextlib

from resync_lab import stream_pair

from safepy.dataplane.resync import messages as m
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.intake import MAX_COMPARE_BYTES
from safepy.dataplane.resync.messages import Entry, Request, ResyncFailed
from safepy.dataplane.resync.source import Source
from safepy.dataplane.resync.target import Target
from safepy.dataplane.resync.zones import ZONE_BYTES
from safepy.errors import PeerError, SafekitError

FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def entry(name: bytes = b"x", mode: int = FILE, size: int = 0, **more: object) -> Entry:
    return Entry(name, mode, 7, 7, size, 5, 6, **more)  # type: ignore[arg-type]


class Victim:
    """A target in a thread, and what it ended with."""

    def __init__(self, place: Place, keep_aside: bool = False) -> None:
        self.place = place
        self.ours, self._theirs = stream_pair()
        self._root = place.open_root()
        aside = Aside(str(place.keep), "resync", ["data"]) if keep_aside else None
        self.target = Target([self._root], self._theirs, aside, acl=False)
        self.ended: list[BaseException | None] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.target.serve()
        except Exception as error:  # noqa: BLE001 - what it is is looked at below
            self.ended.append(error)
        else:
            self.ended.append(None)
        self._theirs.shutdown()

    def say(self, *requests: Request | bytes) -> list[m.Answer]:
        """Send, then a barrier; every answer until then or until the target gives up."""
        answers: list[m.Answer] = []
        try:
            for request in (*requests, m.Barrier()):
                data = request if isinstance(request, bytes) else m.encode(request)
                self.ours.send(data)
            while True:
                answer = m.decode_answer(self.ours.receive())
                if not isinstance(answer, m.Busy):
                    answers.append(answer)
                if isinstance(answer, m.Passed | m.Failed):
                    return answers
        except PeerError:
            return answers

    def close(self) -> None:
        with contextlib.suppress(PeerError):
            self.ours.send(m.encode(m.End()))
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.ours.close()
        self._theirs.close()
        os.close(self._root)
        # Nothing but a refusal or a fault in words may end it.
        assert all(error is None or isinstance(error, SafekitError) for error in self.ended)


@pytest.fixture
def victim() -> Iterator[Victim]:
    with hostile_place() as place:
        made = Victim(place)
        try:
            yield made
        finally:
            made.close()


BAD_NAMES = [b"..", b".", b"", b"/", b"a/b", b"../outside/x", b"way/file", b"a\0b", b"n" * 256]


def with_name(name: bytes) -> list[Request]:
    """Every place of a request that takes a name."""
    return [
        m.Listing(0, (), (entry(name),)),
        m.Listing(0, (), (), gone=(name,)),
        m.Listing(0, (name,), (entry(),)),
        m.Listing(0, (b"dir", name), ()),
        m.Group(0, ((name,), (b"y",)), entry()),
        m.Group(0, ((b"inside",), (name, b"y")), entry()),
        m.Compare(0, (), name, ((0, 1),), 1),
        m.Compare(0, (name,), b"file", ((0, 1),), 1),
        m.Data(0, (), (m.FileData(name, ((0, b"owned"),)),)),
        m.Data(0, (name,), (m.FileData(b"file", ((0, b"owned"),)),)),
        m.Attributes(0, (((name,), entry(b"d", DIRECTORY)),)),
        m.Summarise(0, ((b"dir", name),), True),
        m.Listing(0, (), (entry(),), holders=((name,),)),
        m.Listing(0, (), (entry(),), holders=((b"dir", name),)),
    ]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
@pytest.mark.parametrize("number", range(len(with_name(b"x"))))
def test_s8_no_request_takes_a_name_that_is_none(victim: Victim, name: bytes, number: int) -> None:
    before = sorted(os.listdir(victim.place.root))
    assert victim.say(with_name(name)[number]) == []
    victim._thread.join(10)
    assert isinstance(victim.ended[0], PeerError)
    assert sorted(os.listdir(victim.place.root)) == before
    victim.place.assert_untouched()


@pytest.mark.parametrize(
    "path", [(b"way",), (b"way", b"sub"), (b"up", b"outside"), (b"dir", b"deep")]
)
def test_s8_a_path_through_a_link_is_no_path(victim: Victim, path: tuple[bytes, ...]) -> None:
    """Links to the outside are missing directories, whatever is asked of them."""
    owned = entry(b"file", size=5)
    answers = victim.say(
        m.Listing(0, path, (entry(b"new"), entry(b"newdir", DIRECTORY)), gone=(b"file", b"sub")),
        m.Listing(0, path, (), whole=True),
        m.Group(0, ((*path, b"file"), (b"mine",)), owned),
        m.Group(0, ((b"mine",), (*path, b"file")), owned),
        m.Compare(0, path, b"file", ((0, 5),), 5),
        m.Data(0, path, (m.FileData(b"file", ((0, b"owned"),), (), owned),)),
        m.Attributes(0, (((*path, b"sub"), entry(b"sub", DIRECTORY)),)),
    )
    victim.place.assert_untouched()
    assert isinstance(answers[-1], m.Passed) and answers[-1].missing


HOLDERS = [(b"way", b"file"), (b"way", b"sub"), (b"up", b"outside"), (b"dir", b"deep", b"file")]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("mode", [FILE, DIRECTORY])
def test_s8_nothing_is_taken_from_beyond_a_link(
    victim: Victim, holder: tuple[bytes, ...], mode: int
) -> None:
    """A move takes an object from one place of the tree to another; a link leads to no place."""
    stolen = entry(b"stolen", mode, size=len(SECRET) if mode == FILE else 0, ident=b"i" * 16)
    victim.say(m.Listing(0, (), (stolen,), holders=(holder,)))
    victim.place.assert_untouched()
    victim.say(m.Summarise(0, (holder, (b"way",), (b"dir", b"deep")), True))
    victim.place.assert_untouched()


@pytest.mark.parametrize("name", [b"way", b"door", b"up"])
def test_s8_s9_what_is_said_of_a_link_is_done_to_the_link(victim: Victim, name: bytes) -> None:
    victim.say(
        m.Data(0, (), (m.FileData(name, ((0, b"owned"),), ((0, 1),), entry(name, size=5)),)),
    )
    victim.place.assert_untouched()
    assert (victim.place.root / os.fsdecode(name)).is_symlink()


@pytest.mark.parametrize("name", [b"way", b"door", b"up"])
@pytest.mark.parametrize("mode", [FILE, DIRECTORY, LINK, stat.S_IFIFO | 0o666], ids=oct)
def test_s8_s9_a_link_is_replaced_never_written_through(
    victim: Victim, name: bytes, mode: int
) -> None:
    link = b"/nowhere" if stat.S_ISLNK(mode) else b""
    made = entry(name, mode, xattrs=((b"trusted.x", b"v"),), link=link)
    victim.say(m.Listing(0, (), (made,)), m.Attributes(0, (((name,), made),)))
    victim.place.assert_untouched()
    assert stat.S_IFMT((victim.place.root / os.fsdecode(name)).lstat().st_mode) == stat.S_IFMT(mode)


def test_s9_set_attributes_of_a_link_change_the_link(victim: Victim) -> None:
    target = os.fsencode(victim.place.outside / "file")
    made = entry(b"door", LINK, link=target, xattrs=((b"trusted.x", b"v"),))
    victim.say(m.Listing(0, (), (made,)))
    victim.place.assert_untouched()
    door = victim.place.root / "door"
    assert door.lstat().st_uid == 7 and door.lstat().st_mtime_ns == 5
    assert os.getxattr(door, "trusted.x", follow_symlinks=False) == b"v"


def test_s8_links_swapped_in_while_a_second_stream_works(victim: Victim) -> None:
    """One stream makes and removes a link to the outside, the other writes below its name."""
    second = Victim(victim.place)
    stop = threading.Event()
    way = entry(b"race", LINK, link=b"../outside")
    folder = entry(b"race", DIRECTORY)

    def swap() -> None:
        while not stop.is_set() and not second.ended:
            second.say(m.Listing(0, (), (way,)), m.Listing(0, (), (folder,)))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(150):
            if victim.ended:
                break
            victim.say(
                m.Listing(0, (b"race",), (entry(b"file"), entry(b"sub", DIRECTORY)), whole=True),
                m.Data(0, (b"race",), (m.FileData(b"file", ((0, b"owned"),), (), entry(size=5)),)),
                m.Attributes(0, (((b"race",), folder), ((b"race", b"sub"), folder))),
            )
    finally:
        stop.set()
        thread.join(20)
        second.close()
    victim.place.assert_untouched()


@pytest.mark.parametrize(
    "xattr", [b"trusted.safekit", b"trusted.safekit.id", b"system.x", b"user.a\0b", b"nothing"]
)
def test_s10_attributes_of_ours_are_not_for_peers(victim: Victim, xattr: bytes) -> None:
    os.setxattr(victim.place.root / "inside", "trusted.safekit.id", b"ours")
    hostile = entry(b"inside", size=7, xattrs=((xattr, b"theirs"),))
    for request in (
        m.Listing(0, (), (hostile,)),
        m.Data(0, (), (m.FileData(b"inside", (), (), hostile),)),
        m.Attributes(0, (((b"dir",), hostile),)),
        m.Group(0, ((b"inside",), (b"y",)), hostile),
    ):
        with pytest.raises(PeerError, match=r"attribute refused|cannot be read"):
            m.decode_request(m.encode(request))
    assert victim.say(m.Listing(0, (), (hostile,))) == []
    assert os.getxattr(victim.place.root / "inside", "trusted.safekit.id") == b"ours"


def test_s10_attributes_of_ours_survive_a_source_that_leaves_them_out(victim: Victim) -> None:
    os.setxattr(victim.place.root / "inside", "trusted.safekit.id", b"ours")
    os.setxattr(victim.place.root / "inside", "trusted.other", b"gone")
    plain = entry(b"inside", size=7)
    victim.say(m.Data(0, (), (m.FileData(b"inside", ((0, b"x"),), (), plain),)))
    assert os.getxattr(victim.place.root / "inside", "trusted.safekit.id") == b"ours"
    assert "trusted.other" not in os.listxattr(victim.place.root / "inside")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_s9_a_device_is_never_opened(
    victim: Victim, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open one can have effects of its own: rewind a tape, arm a watchdog."""
    opened: list[int] = []
    real = os.open

    def watched(path: object, flags: int, *rest: object, **where: object) -> int:
        fd = real(path, flags, *rest, **where)  # type: ignore[arg-type]
        if not flags & os.O_PATH and stat.S_IFMT(os.fstat(fd).st_mode) == kind:
            opened.append(flags)
        return fd

    monkeypatch.setattr(trees.os, "open", watched)
    node = entry(b"node", kind | 0o600, rdev=os.makedev(1, 3))
    victim.say(m.Listing(0, (), (node,)))
    assert stat.S_IFMT((victim.place.root / "node").lstat().st_mode) == kind
    victim.say(m.Data(0, (), (m.FileData(b"node", ((0, b"x"),), (), entry(b"node", size=1)),)))
    assert opened == []
    victim._thread.join(10)
    assert isinstance(victim.ended[0], ResyncFailed)


def tiny_ranges(count: int) -> tuple[tuple[int, int], ...]:
    return tuple((n * ZONE_BYTES, n * ZONE_BYTES + 1) for n in range(count))


@pytest.mark.parametrize(
    "request_",
    [
        m.Listing(1, (), ()),
        m.Compare(200, (), b"inside", ((0, 1),), 1),
        m.Compare(0, (), b"inside", ((0, MAX_COMPARE_BYTES + 1),), 1 << 40),
        m.Compare(0, (), b"inside", tiny_ranges(MAX_COMPARE_BYTES // ZONE_BYTES + 1), 1 << 40),
        m.Compare(0, (), b"inside", ((5, 6),), 7),
        m.Compare(0, (), b"inside", ((ZONE_BYTES, 0),), 7),
        m.Data(0, (), (m.FileData(b"inside", (((1 << 63) - 2, b"xyz"),)),)),
        m.Data(0, (), (m.FileData(b"inside", (), ((9, 3),)),)),
        m.Listing(0, (), (entry(mode=0o644),)),
        m.Listing(0, (), (entry(mode=LINK),)),
        m.Listing(0, (), (entry(link=b"x"),)),
        m.Listing(0, (), (entry(mode=LINK, link=b"x\0y"),)),
        m.Group(0, ((),), entry()),
        m.Listing(0, (b"d" * 255,) * 4000, ()),
    ],
    ids=lambda request: repr(request)[:70],
)
def test_s4_numbers_out_of_range_are_refused(victim: Victim, request_: Request) -> None:
    before = sorted(os.listdir(victim.place.root))
    assert victim.say(request_) == []
    victim._thread.join(10)
    assert isinstance(victim.ended[0], PeerError)
    assert sorted(os.listdir(victim.place.root)) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        m.encode(m.Wanted(())),
        msgspec.msgpack.encode([4, 0, [b"d"] * 5000, []]),
        msgspec.msgpack.encode([1, 0, [], [[b"x", FILE, -1, 0, 0, 0, 0]]]),
        msgspec.msgpack.encode([1, 0, [], [[b"x", FILE, 1 << 32, 0, 0, 0, 0]]]),
        msgspec.msgpack.encode([1, 0, [], [[b"x", FILE, 0, 0, 1 << 63, 0, 0]]]),
        msgspec.msgpack.encode([1, 0, [], [[b"x", FILE, 0, 0, 0, 0, 0, 1 << 40]]]),
        b"\x94\x01\x00\xdd\xff\xff\xff\xff",
        b"\x94\x01\x00\x90\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
    ],
    ids=lambda data: repr(data)[:40],
)
def test_s4_what_is_no_request_ends_the_stream(victim: Victim, data: bytes) -> None:
    assert victim.say(data) == []
    victim._thread.join(10)
    assert isinstance(victim.ended[0], PeerError)


def test_s4_an_answer_that_would_not_fit_is_refused(victim: Victim) -> None:
    """Many small files with digests for each: the answer is longer than the question."""
    (victim.place.root / "zones").write_bytes(bytes(8 * ZONE_BYTES))
    wanted = entry(b"zones", size=8 * ZONE_BYTES)
    assert victim.say(m.Listing(0, (), (wanted,) * 12_000)) == []
    victim._thread.join(10)
    assert "more than one answer" in str(victim.ended[0])


def test_s26_directories_that_are_missing_are_counted(victim: Victim) -> None:
    nothing = m.FileData(b"f", ((0, b"x"),))
    flood = [m.Data(0, (b"%0200d" % n, b"y" * 200), (nothing,)) for n in range(4000)]
    assert victim.say(*flood) == []
    victim._thread.join(10)
    assert "too many directories" in str(victim.ended[0])
    assert victim.target._missing_bytes < 1 << 20


def test_s8_a_directory_moved_while_it_is_removed_is_not_climbed_out_of() -> None:
    """ ".." of a directory that was moved is another one."""
    with hostile_place() as place:
        deep = place.root / "a" / "b" / "c"
        deep.mkdir(parents=True)
        other = place.outside / "a"
        (other / "c").mkdir(parents=True)
        moved: list[int] = []

        def move() -> None:
            if not deep.exists() or moved:
                return
            moved.append(1)
            deep.rename(other / "c")  # over the empty directory of the same name

        root = place.open_root()
        calls = iter(range(1000))

        def breathe() -> None:
            if next(calls) == 2:  # inside of a/b/c
                move()

        try:
            with pytest.raises(OSError) as caught:
                trees.remove(root, b"a", breathe)
            assert moved and caught.value.errno == errno.ESTALE
        finally:
            os.close(root)
        assert (other / "c").is_dir()  # rmdir("c") there would have taken it


# -- a target that turned hostile -----------------------------------------------------------------


def lying_target(answers: Sequence[object], place: Place) -> BaseException | None:
    """One round of the real source against a target that answers this; what it ended with."""
    ours, theirs = stream_pair(3.0)
    root = place.open_root()
    source = Source([root], [ours], None, acl=False)
    told = iter(answers)

    def answer() -> None:
        try:
            while True:
                request = m.decode_request(theirs.receive())
                if isinstance(request, m.Data | m.Attributes | m.End):
                    continue
                while True:
                    given = next(told, None)
                    if given is None:
                        theirs.shutdown()
                        return
                    theirs.send(given if isinstance(given, bytes) else m.encode(given))
                    if not isinstance(given, m.Busy):
                        break
        except PeerError:
            return

    thread = threading.Thread(target=answer)
    thread.start()
    from safepy.core.replica.marks import FULL

    try:
        source.run_round([{b"": FULL}])
    except Exception as error:  # noqa: BLE001 - looked at by the test
        return error
    finally:
        ours.shutdown()
        theirs.shutdown()
        thread.join(10)
        ours.close()
        theirs.close()
        os.close(root)
    return None


@pytest.mark.parametrize(
    "lie",
    [
        m.Wanted((m.Want(99, -1),)),
        m.Wanted((m.Want(0, 3, False, False, b""), m.Want(0, 3, False, False, bytes(160)))),
        m.Wanted((m.Want(1, (1 << 63) - 1, True, True, bytes(16)),)),
        m.Wanted((m.Want(0, -1),) * 2000),
        m.Digests(bytes(16)),
        m.Digests(b"x"),
        m.Passed(((9, (b"x",)),)),
        m.Passed(((0, (b"..", b"x")),)),
        m.Failed("no", False),
        m.Failed("x" * 100_000, True),
        b"",
        b"\xff" * 40,
        m.encode(m.Barrier()),
        m.encode(m.Failed("rrrr", True)).replace(b"rrrr", b"\xff\xfe\xff\xfe"),
        m.encode(m.Wanted((m.Want(0, 5, False, False, bytes(15)),))),
    ],
    ids=lambda lie: repr(lie)[:50],
)
def test_s7_a_lying_target_ends_its_own_stream_and_nothing_else(lie: object) -> None:
    with hostile_place() as place:
        before = sorted(os.listdir(place.root))
        error = lying_target([lie], place)
        assert isinstance(error, SafekitError), error
        assert len(str(error)) < 2000 and str(error).isprintable()
        assert sorted(os.listdir(place.root)) == before
        place.assert_untouched()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.builds(
                m.Wanted,
                st.lists(
                    st.builds(
                        m.Want,
                        st.integers(0, 9),
                        st.sampled_from([-1, 0, 7, 1 << 40]),
                        st.booleans(),
                        st.booleans(),
                        st.sampled_from([None, b"", bytes(16), bytes(32)]),
                    ),
                    max_size=4,
                ).map(tuple),
                st.booleans(),
            ),
            st.builds(m.Digests, st.sampled_from([b"", bytes(16), bytes(48)])),
            st.builds(m.Passed, st.sampled_from([(), ((0, (b"dir",)),), ((3, ()),)])),
            st.just(m.Busy()),
            st.just(m.Failed("no", False)),
        ),
        max_size=6,
    )
)
def test_s7_a_source_survives_whatever_a_target_answers(answers: list[object]) -> None:
    with hostile_place() as place:
        error = lying_target(answers, place)
        assert error is None or isinstance(error, SafekitError), error


def test_the_stream_of_these_tests_is_a_real_one() -> None:
    ours, theirs = stream_pair()
    ours.send(b"x")
    assert theirs.receive() == b"x"
    assert ours._sock.family == socket.AF_UNIX
    ours.close()
    theirs.close()
