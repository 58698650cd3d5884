"""Every parser of bytes that others made, as a function of bytes: what it may not do is raise.

`run(data)` ends quietly when the parser takes the bytes or refuses them with *its* error; any
other exception is a bug. `seeds` are valid inputs for mutation to begin with. Used by
`guided.py` (coverage-guided, by hand) and by `tests/unit/hostile` (properties and the corpus, in
every run).
"""

from __future__ import annotations

import io
import os
import random
import socket
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fuzz_host import HOST
from fuzz_host import close as close_host

from safepy.config import cluster, settings, userconfig
from safepy.config.archive import BROKEN, members_of_zip
from safepy.config.ere import compile_ere
from safepy.core.replica import intent, ops
from safepy.core.replica.patterns import Pattern
from safepy.dataplane.resync import messages as resync
from safepy.errors import ConfigError, LocalFault, PackageError, PeerError, RequestRefused
from safepy.fuse import protocol
from safepy.fuse.opcodes import OPCODES, Opcode
from safepy.fuse.operations import Filesystem
from safepy.fuse.protocol import ProtocolError
from safepy.host.loop import Loop
from safepy.model import Beat, PeerView, Record, State, Status
from safepy.net.dialing import Incoming
from safepy.storage import record as record_file
from safepy.storage import statefile
from safepy.storage.backing import Tree
from safepy.wire import admin, heartbeat, replication
from safepy.wire.framing import LENGTH, FrameParser, pack_messages, unpack_messages
from safepy.wire.secure import (
    VERSION,
    Hello,
    Refused,
    Sealer,
    Welcome,
    decode_first,
    encode_first,
    module_key,
    pack_hello,
    parse_hello,
    stream_ciphers,
)

KEY = bytes(range(32))
SESSION = "ab" * 16
BEAT = Beat(
    SESSION,
    42,
    "cd" * 16,
    41,
    PeerView(
        node="n1",
        state=State.PRIM,
        status=Status.READY,
        record=Record(epoch=7, gen="ab" * 16, history=((6, "cd" * 16),)),
        resources=(("state.local", "PRIM Ready"),),
    ),
)


@dataclass(frozen=True)
class Target:
    """One parser. `bounded_bytes`: how much it may hold on to beyond its input."""

    name: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    modules: tuple[str, ...]


# -- heartbeats ---------------------------------------------------------------------------


def _datagram(data: bytes) -> None:
    opener = heartbeat.Opener(KEY, "web", "n1")
    try:
        opener.open(0, data)
    except PeerError:
        return


def _beat_body(data: bytes) -> None:
    """What a node that holds the key can put into an authentic datagram."""
    counter = int.from_bytes(data[:1], "big")
    header = heartbeat._HEADER.pack(heartbeat.MAGIC, 1, bytes.fromhex(SESSION), 0, counter)
    cipher = AESGCM(heartbeat._key(KEY, "web", "n1", bytes.fromhex(SESSION)))
    sealed = cipher.encrypt(heartbeat._nonce(0, counter), data[1:], header)
    try:
        beat = heartbeat.Opener(KEY, "web", "n1").open(0, header + sealed)
    except PeerError:
        return
    for name, value in beat.view.resources:
        assert name.isprintable() and value.isprintable()
        assert len(name) + len(value) <= 600


def _beats() -> tuple[bytes, ...]:
    return tuple(
        bytes([beat.counter]) + heartbeat._ENCODE(beat)
        for beat in (BEAT, replace(BEAT, view=replace(BEAT.view, resources=(("a\x1b[2J", "\n"),))))
    )


# -- streams ------------------------------------------------------------------------------


def _first(data: bytes) -> None:
    try:
        message = decode_first(data)
    except PeerError:
        return
    assert message.detail.isprintable()
    assert len(encode_first(message)) < 2000  # what is refused is answered in one small record


def _hello(data: bytes) -> None:
    try:
        parse_hello(data)
    except PeerError:
        return


def _frames(data: bytes) -> None:
    """In pieces, with a maximum; never more is kept than one record and one piece."""
    parser = FrameParser(maximum_bytes=1000)
    at = 0
    chunk = 1 + (data[0] if data else 0)
    try:
        while at < len(data):
            parser.feed(data[at : at + chunk])
            at += chunk
            while (record := parser.take()) is not None:
                assert len(record) <= 1000
                unpack_messages(record)
            assert parser.buffered_bytes < 1000 + 4 + chunk
    except PeerError:
        return


class _Listener:
    """As much of `net.dialing.Listener` as one connection sees."""

    def __init__(self) -> None:
        self.accepted: list[Hello] = []

    def _forget(self, incoming: Incoming) -> None:
        pass

    def _refused(self, line: str) -> None:
        assert line.isprintable()

    def _on_accept(self, hello: Hello, incoming: Incoming) -> None:
        self.accepted.append(hello)
        incoming.refuse(Refused(VERSION, "n1", "m", 1, hello.purpose, detail="x" * 300))


def _handshake(data: bytes) -> None:
    """A stranger's bytes on a new connection: nothing is accepted, little is answered."""
    ours, theirs = socket.socketpair()
    loop, listener = Loop(), _Listener()
    try:
        ours.setblocking(False)
        Incoming(loop, ours, module_key(KEY, "m"), listener, "192.0.2.1")  # type: ignore[arg-type]
        theirs.setblocking(False)
        theirs.send(data[:60_000]) if data else None
        for _ in range(8):
            loop.turn(0)
        assert not listener.accepted
        try:
            answer = theirs.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            answer = b""
        assert len(answer) <= min(len(data), 40)
    finally:
        theirs.close()
        ours.close()
        loop.close()


def _live_message(data: bytes) -> None:
    try:
        message = replication.decode(data)
    except PeerError:
        return
    for name in ("text", "reason", "phase"):
        text = getattr(message, name, "")
        assert text.isprintable() and len(text) <= 600


def _transfer_request(data: bytes) -> None:
    try:
        resync.decode_request(data)
    except PeerError:
        return


def _transfer_answer(data: bytes) -> None:
    try:
        resync.decode_answer(data)
    except PeerError:
        return


LIVE = (
    replication.Apply(7, 0, ops.Write(3, 4096, b"\x00\xff" * 20, True, ((3, 17), (1, 18)))),
    replication.Apply(8, 1, ops.Rename(1, b"a\n", 2, b"\xff", 2)),
    replication.Apply(9, 0, ops.SetAttr(5, 0o4755, 1, 2, 0, 3, 4, True)),
    replication.Apply(10, 0, ops.Bind(4, b"d/e")),
    replication.Apply(11, 0, ops.Forget((4, 5))),
    replication.Apply(12, 0, ops.Fallocate(4, 3, 0, 4096)),
    replication.Apply(13, 0, ops.Make(9, 1, b"f", stat.S_IFREG | 0o644, 0, 0o22, 1, 1)),
    replication.Apply(14, 0, ops.Tmpfile(10, 1, 0o600, 0o22, 1, 1)),
    replication.Apply(15, 0, ops.Symlink(11, 1, b"l", b"../x", 1, 1)),
    replication.Apply(16, 0, ops.Link(9, 1, b"g")),
    replication.Apply(17, 0, ops.Unlink(1, b"g")),
    replication.Apply(18, 0, ops.Rmdir(1, b"d")),
    replication.Apply(19, 0, ops.SetXattr(9, b"user.a", b"v", 0)),
    replication.Apply(20, 0, ops.RemoveXattr(9, b"user.a")),
    replication.Apply(21, 0, ops.Fsync(9, True)),
    replication.Ack(1 << 40),
    replication.Completed(3, 28),
    replication.Fault(28, "no room\x1b[2J"),
    replication.SyncBegin("ab", 6, True),
    replication.SyncFlush(1),
    replication.SyncFailed("why" * 400, False),
    replication.Adopt(3, "g", "b", ((1, "x"),)),
    replication.Resume(5),
    replication.SyncAgain(5, 0, ops.Fsync(1, False)),
    replication.SyncOffer(True, ((0, b"d/e"),), True, "why"),
    replication.Inspect(1, 0, b"d", ((b"f", 0, 9), (b".", 0, 0)), 7),
    replication.Inspected(1, ((b"a" * 16, b""),), "failed"),
    replication.MoreNames(1, 0, b"d", b"a", b"", (b"f",)),
    replication.MoreNamesAre(1, (b"g",)),
    replication.VerifyTold(1, 2, ((0, b"d/f", "content"),), True, "why"),
    replication.Owed(((0, b"d"),)),
    replication.ReadAt(1, 0, 2, 0, 4096),
    replication.ReadDone(1, 5, b""),
    replication.SyncProgress("round 1", 3, 9, 1 << 40, 1 << 41, 12, 1, 2.5e6, None),
)

ENTRY = resync.Entry(b"f", stat.S_IFREG | 0o644, 1, 1, 300_000, 5, 6, xattrs=((b"user.a", b"v"),))
REQUESTS = (
    resync.Listing(0, (b"d", b"e"), (ENTRY,), (b"g",), True, b"a", b"z"),
    resync.Group(0, ((b"a",), (b"b",)), ENTRY),
    resync.Compare(0, (b"d",), b"f", ((0, 131072), (262144, 262145)), 300_000),
    resync.Data(
        0, (), (resync.FileData(b"f", ((0, b"data"), (9, b"")), ((131072, 131073),), ENTRY),)
    ),
    resync.Attributes(0, (((b"d",), ENTRY),)),
    resync.Begin(7),
    resync.Summarise(0, ((b"d",), ()), True),
    resync.Listing(0, (), (ENTRY,), holders=((b"d", b"old"),)),
    resync.Barrier(True),
    resync.End(),
)
ANSWERS = (
    resync.Wanted((resync.Want(0, -1), resync.Want(1, 70, True, True, bytes(16)))),
    resync.Digests(bytes(32)),
    resync.Summaries((None, ((b"f", bytes(16)),), ())),
    resync.Wanted((resync.Want(0, -1, holder=(b"d", b"old"), extents=((0, 9),)),)),
    resync.Passed(((0, (b"d", b"e")),)),
    resync.Failed("disk\x00full", True),
    resync.Busy(),
)


# -- the local side -----------------------------------------------------------------------


def _admin_request(data: bytes) -> None:
    try:
        admin.decode_request(data)
    except RequestRefused:
        return


def _admin_reply(data: bytes) -> None:
    try:
        admin.decode_reply(data)
    except RequestRefused:
        return


class _Session:
    """Takes the replies of a `Filesystem`; the kernel is not asked."""

    acl = True
    flags = protocol.SETXATTR_EXT

    def __init__(self) -> None:
        self.sent_bytes = 0

    def send(self, message: bytes) -> bool:
        self.sent_bytes += len(message)
        return True

    def reply(self, unique: int, body: bytes | memoryview) -> bool:
        self.sent_bytes += len(body)
        return True

    def fail(self, unique: int, number: int) -> bool:
        assert 0 <= number < 4096
        return True

    def caller(self) -> tuple[int, int]:
        return 1, 0


class _Primary:
    """Carries out at once what is asked."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def modify(self, index: int, op: ops.Op, answer: Callable[[int, Any], None]) -> int:
        try:
            result = self._tree.apply(op)
        except OSError as error:
            answer(error.errno or 5, None)
        else:
            answer(0, result)
        return 0

    def withdraw(self, answer: object) -> bool:
        return False


class _Reader:
    def read(self, fd: int, offset: int, size: int, then: Callable[[int, bytes], None]) -> None:
        try:
            then(0, os.pread(fd, min(size, 1 << 20), offset))
        except OSError as error:
            then(error.errno or 5, b"")
        finally:
            os.close(fd)


@cache
def _fuse_place() -> Path:
    """One directory for all inputs; a new one for each would take most of the time."""
    place = Path(tempfile.mkdtemp(prefix="safepy-fuzz-"))
    _PLACES.append(place)
    return place


_PLACES: list[Path] = []


def _prepared(place: Path) -> Tree:
    os.makedirs(place / "d", exist_ok=True)
    (place / "f").write_bytes(b"content")
    return Tree(os.open(place, os.O_RDONLY | os.O_DIRECTORY), 0, True, 64)


def _fuse_request(data: bytes) -> None:
    """The body of a request, with opcode and node in its first bytes, carried out on real files."""
    if len(data) < 2:
        return None
    opcode, node, body = data[0] % (OPCODES + 2), data[1] % 5, memoryview(data)[2:]
    if opcode in (Opcode.SYNCFS, Opcode.FSYNC, Opcode.FSYNCDIR, Opcode.FALLOCATE):
        return _fuse_decoders(opcode, body)  # would wait for, or fill, the disk
    tree = _prepared(_fuse_place())
    session = _Session()
    filesystem = Filesystem(session, 0, tree, _Primary(tree), _Reader())  # type: ignore[arg-type]
    try:
        tree.lookup(1, b"f")
        tree.lookup(1, b"d")
        filesystem.handle(opcode, 7, node, 1000, 1000, body)
    except ProtocolError:
        return None
    finally:
        tree.close()
        _tidy(_fuse_place())
    assert session.sent_bytes <= (4 << 20) + 4096
    return None


def _fuse_decoders(opcode: int, body: memoryview) -> None:
    decoders = (protocol.fsync, protocol.fallocate, protocol.init, protocol.interrupt)
    try:
        decoders[opcode % len(decoders)](body)
    except ProtocolError:
        return


def _tidy(place: Path) -> None:
    """Small again: a test must not fill the disk with what it truncates to."""
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


def _fuse_header(data: bytes) -> None:
    try:
        found = protocol.header(data)
    except ProtocolError:
        return
    assert protocol.HEADER_BYTES + found.extension_bytes <= len(data)


def _fuse_seeds() -> Iterator[bytes]:
    bodies = {
        Opcode.LOOKUP: b"f\0",
        Opcode.FORGET: struct.pack("<Q", 1),
        Opcode.GETATTR: bytes(16),
        Opcode.SETATTR: struct.pack("<IIQQQqqqIIIIIIII", 0x3F, 0, 0, 9, 0, 1, 2, 3, *(0,) * 8),
        Opcode.SYMLINK: b"l\0../x\0",
        Opcode.MKNOD: struct.pack("<IIII", stat.S_IFREG | 0o644, 0, 0o22, 0) + b"n\0",
        Opcode.MKDIR: struct.pack("<II", 0o755, 0o22) + b"m\0",
        Opcode.UNLINK: b"n\0",
        Opcode.RMDIR: b"m\0",
        Opcode.RENAME: struct.pack("<Q", 1) + b"n\0o\0",
        Opcode.RENAME2: struct.pack("<QII", 1, 1, 0) + b"n\0o\0",
        Opcode.LINK: struct.pack("<Q", 2) + b"k\0",
        Opcode.READ: struct.pack("<QQIIQII", 0, 0, 4096, 0, 0, 0, 0),
        Opcode.WRITE: struct.pack("<QQIIQII", 0, 0, 3, 4, 0, 0, 0) + b"abc",
        Opcode.SETXATTR: struct.pack("<IIII", 1, 0, 1, 0) + b"user.a\0v",
        Opcode.GETXATTR: struct.pack("<II", 64, 0) + b"user.a\0",
        Opcode.LISTXATTR: struct.pack("<II", 64, 0),
        Opcode.REMOVEXATTR: b"user.a\0",
        Opcode.READDIR: struct.pack("<QQIIQII", 1, 0, 4096, 0, 0, 0, 0),
        Opcode.READDIRPLUS: struct.pack("<QQIIQII", 1, 0, 4096, 0, 0, 0, 0),
        Opcode.OPENDIR: bytes(8),
        Opcode.RELEASEDIR: struct.pack("<QIIQ", 1, 0, 0, 0),
        Opcode.FALLOCATE: struct.pack("<QQQII", 0, 0, 4096, 3, 0),
        Opcode.LSEEK: struct.pack("<QqII", 0, 0, 3, 0),
        Opcode.TMPFILE: struct.pack("<IIII", 0, 0o600, 0o22, 0) + b"/\0",
        Opcode.BATCH_FORGET: struct.pack("<IIQQ", 1, 0, 2, 1),
        Opcode.INTERRUPT: struct.pack("<Q", 9),
        Opcode.STATFS: b"",
    }
    for opcode, body in bodies.items():
        for node in (1, 2, 3):
            yield bytes([opcode, node]) + body


# -- files --------------------------------------------------------------------------------


def _record_slot(data: bytes) -> None:
    """As found on a disk, and with a right checksum over it."""
    record_file._unpack(data)
    body = data[: record_file.SLOT_BYTES - 4].ljust(record_file.SLOT_BYTES - 4, b"\0")
    record_file._unpack(body + struct.pack(">I", zlib.crc32(body)))


def _slot() -> bytes:
    return record_file._pack(3, msgspec.json.encode(BEAT.view.record))


def _config(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        parse(data)
    except ConfigError as refusal:
        assert len(refusal.message) < 4000


def _archive(data: bytes) -> None:
    try:
        members = members_of_zip(io.BytesIO(data), len(data))
        for member in members:
            assert ".." not in member.parts and "" not in member.parts
            if member.open is not None:
                with member.open() as file:
                    file.read(1 << 20)
    except (PackageError, *BROKEN):
        return


def _package() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("conf/userconfig.xml", USERCONFIG)
        package.writestr("bin/start_prim", b"#!/bin/sh\n")
    return file.getvalue()


def _intent_block(data: bytes) -> None:
    """As found on a disk, and with a right checksum over it."""
    body = data[: intent.BLOCK_BYTES - 4].ljust(intent.BLOCK_BYTES - 4, b"\0")
    found = [intent.decode(data), intent.decode(body + struct.pack(">I", zlib.crc32(body)))]
    intent.recover(block for block in found if block is not None)


def _state_file(data: bytes) -> None:
    path = _fuse_place().parent / f"{_fuse_place().name}.state"
    path.write_bytes(data)
    for kind in (statefile.SavedMarks, statefile.Findings):
        try:
            statefile.load(str(path), kind)
        except LocalFault:
            continue
    path.unlink()


def _pattern(data: bytes) -> None:
    """Both engines; the linear one also searches."""
    text = data.decode("latin-1")
    for compile_ in (compile_ere, Pattern):
        try:
            compiled = compile_(text)
        except ValueError:
            continue
        if isinstance(compiled, Pattern):
            compiled.search(text * 3)


USERCONFIG = b"""<!DOCTYPE safe>
<safe>
 <macro name="DIR" value="/srv/data"/>
 <service mode="mirror" boot="on" defaultprim="alone" maxloop="3" loop_interval="24">
  <heart pulse="700" timeout="30000"><heartbeat name="default" ident="flow"/></heart>
  <rfs async="second" acl="off" nbrei="3">
   <replicated dir="%DIR%" mode="read_only"><notreplicated path="tmp"/></replicated>
  </rfs>
  <user nicestoptimeout="300" forcestoptimeout="300" logging="userlog">
   <var name="A" value="1"/>
  </user>
  <errd polltimer="10"><proc name="sleep" atleast="1" action="restart" class="prim"/></errd>
 </service>
</safe>
"""
CLUSTER = b"""<cluster>
 <lans>
  <lan name="default"><node name="n1" addr="192.0.2.1"/><node name="n2" addr="[2001:db8::2]"/></lan>
 </lans>
</cluster>
"""
SETTINGS = b"node: n1\nlog_level: info\n"


def _targets() -> Iterator[Target]:
    wire = ("safepy.wire.", "safepy.model")
    datagram = heartbeat.Sealer(KEY, "web", "n1", SESSION).seal(0, BEAT)
    yield Target("heartbeat", _datagram, (datagram,), wire)
    yield Target("heartbeat_body", _beat_body, _beats(), wire)
    firsts = [
        kind(VERSION, "n1", "m", 7, "live", "ab", "why\n") for kind in (Hello, Welcome, Refused)
    ]
    yield Target("first_record", _first, tuple(map(encode_first, firsts)), wire)
    yield Target("hello", _hello, (pack_hello(bytes(32)),), wire)
    messages = pack_messages([b"one", b"", b"three"])
    frames = LENGTH.pack(len(messages)) + messages
    yield Target("frames", _frames, (frames, b"\0" + frames * 3), wire)
    sealer: Sealer = stream_ciphers(module_key(KEY, "m"), b"n" * 32, b"x" * 32, dialer=True)[0]
    stranger = pack_hello(b"n" * 32) + sealer.seal(pack_messages([encode_first(firsts[0])]))
    yield Target("handshake", _handshake, (stranger, b"GET / HTTP/1.1\r\n\r\n"), ("safepy.net.",))
    live = tuple(replication.encode(message) for message in LIVE)
    yield Target("live", _live_message, live, wire)
    transfer = ("safepy.dataplane.resync.messages",)
    yield Target("requests", _transfer_request, tuple(map(resync.encode, REQUESTS)), transfer)
    yield Target("answers", _transfer_answer, tuple(map(resync.encode, ANSWERS)), transfer)
    line = admin.encode_request(admin.Request("state", "demo", {"a": [1, "x"]}, "root", ["state"]))
    yield Target("admin_request", _admin_request, (line,), wire)
    reply = admin.encode_reply(admin.Reply(True, {"a": 1}))
    yield Target("admin_reply", _admin_reply, (reply,), wire)
    kernel = ("safepy.fuse.", "safepy.storage.")
    yield Target("fuse", _fuse_request, tuple(_fuse_seeds()), kernel)
    header = protocol.HEADER.pack(42, 1, 7, 1, 0, 0, 0, 0, 0) + b"f\0"
    yield Target("fuse_header", _fuse_header, (header,), kernel)
    block = intent.Block(bytes(16), 1, 3, 2, 1, 1, (intent.Touched(0, 7, 1, 2),))
    state = ("safepy.storage.", "safepy.core.replica.")
    yield Target("intent", _intent_block, (intent.encode(block),), state)
    marks = statefile.SavedMarks(3, [[(b"d/f", False, True, ((0, 131072),))]], "why")
    findings = statefile.Findings("why", "", [(0, b"d")], [(0, 7)])
    saved = tuple(map(msgspec.msgpack.encode, (marks, findings)))
    yield Target("state_file", _state_file, saved, state)
    yield Target("record", _record_slot, (_slot(),), ("safepy.storage.record",))
    config = ("safepy.config.",)
    parsers: dict[str, tuple[Callable[[bytes], object], bytes]] = {
        "userconfig": (lambda data: userconfig.parse(data, "userconfig.xml", {}), USERCONFIG),
        "cluster": (lambda data: cluster.parse(data, "cluster.xml"), CLUSTER),
        "settings": (settings.parse, SETTINGS),
    }
    for name, (parse, seed) in parsers.items():
        yield Target(name, partial(_config, parse), (seed,), config)
    yield Target("archive", _archive, (_package(),), config)
    patterns = (b"^[[:alnum:]_.-]+$", rb"a{2,3}(b|c)*\.tmp\b")
    yield Target("pattern", _pattern, patterns, config)
    for name, (run, seeds, modules) in HOST.items():
        yield Target(name, run, seeds, modules)


TARGETS: dict[str, Target] = {target.name: target for target in _targets()}
CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[bytes]:
    """Inputs that once found something, or reach far; replayed in every run."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A valid input, damaged as networks, disks and enemies do it."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x91, 0xDD, 0xC6))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + chance.randrange(1, 9)]
            case 4:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 5:  # a huge count or length
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            case 6:
                data[at : at + 8] = chance.choice((b"\xff" * 8, b"\x80" + bytes(7)))
            case _:
                data[at:at] = data[at // 2 : at]
    return bytes(data)


def tidy() -> None:
    """Remove the directories that inputs were carried out in."""
    import subprocess

    for place in _PLACES:
        subprocess.run(["rm", "-rf", str(place)], check=True)
    _PLACES.clear()
    close_host()
    _fuse_place.cache_clear()
