"""The codec of the kernel's protocol: requests are understood, anything else is refused."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.fuse import protocol, replies
from safepy.fuse.protocol import ProtocolError

DECODERS: dict[str, Callable[[memoryview], object]] = {
    "header": protocol.header,
    "init": protocol.init,
    "name": protocol.name,
    "xattr_name": protocol.xattr_name,
    "forget": protocol.forget,
    "batch_forget": protocol.batch_forget,
    "setattr": protocol.setattr_,
    "symlink": protocol.symlink,
    "mknod": protocol.mknod,
    "mkdir": protocol.mkdir,
    "create": protocol.create,
    "tmpfile": protocol.tmpfile,
    "rename": protocol.rename,
    "rename2": protocol.rename2,
    "link": protocol.link,
    "release": protocol.release,
    "read": protocol.read,
    "write": protocol.write,
    "fsync": protocol.fsync,
    "setxattr": lambda body: protocol.setxattr(body, True),
    "setxattr_short": lambda body: protocol.setxattr(body, False),
    "getxattr": protocol.getxattr,
    "listxattr": protocol.listxattr,
    "fallocate": protocol.fallocate,
    "lseek": protocol.lseek,
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(
    decoder: Callable[[memoryview], object], body: bytes
) -> None:
    with contextlib.suppress(ProtocolError):
        decoder(memoryview(body))


@given(st.integers(0, 2**63 - 1), st.binary(max_size=9000), st.integers(0, 2**32 - 1), st.binary())
def test_write_carries_exactly_its_data(
    offset: int, data: bytes, flags: int, behind: bytes
) -> None:
    body = struct.pack("<QQIIQII", 0, offset, len(data), flags, 0, 0, 0) + data
    assert protocol.write(memoryview(body + behind)) == (offset, data, flags)
    if data:
        with pytest.raises(ProtocolError):
            protocol.write(memoryview(body)[:-1])


def test_data_of_a_write_survive_the_buffer() -> None:
    buffer = bytearray(struct.pack("<QQIIQII", 0, 0, 3, 0, 0, 0, 0) + b"abc")
    _, data, _ = protocol.write(memoryview(buffer))
    buffer[-3:] = b"xyz"
    assert data == b"abc"


@pytest.mark.parametrize("bad", [b"a/b\0", b"..\0", b".\0", b"\0", b"a", b"a\0b\0", b""])
def test_a_name_is_one_component(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.name(memoryview(bad))


def test_names_are_any_bytes() -> None:
    assert protocol.name(memoryview(b"\xff\n'\x01\0")) == b"\xff\n'\x01"
    asked = protocol.rename2(memoryview(struct.pack("<QII", 7, 2, 0) + b"old\0new\0"))
    assert asked == protocol.RenameIn(b"old", 7, b"new", 2)
    # A link's target is no name: it may hold anything but NUL.
    assert protocol.symlink(memoryview(b"link\0../a/b\0")) == (b"link", b"../a/b")


def test_times_before_1970_are_negative() -> None:
    body = struct.pack(
        "<IIQQQqqqIIIIIIII", 0x30, 0, 0, 0, 0, -2, -1, 0, 500_000_000, 7, 0, 0, 0, 0, 0, 0
    )
    asked = protocol.setattr_(memoryview(body))
    assert (asked.atime_ns, asked.mtime_ns) == (-1_500_000_000, -999_999_993)


def test_setxattr_values_may_hold_anything() -> None:
    value = b"\0=\0"
    body = memoryview(struct.pack("<IIII", 3, 1, 1, 0) + b"user.a\0" + value)
    assert protocol.setxattr(body, True) == protocol.SetXattrIn(b"user.a", value, 1, True)
    body = memoryview(struct.pack("<II", 3, 2) + b"user.a\0" + value)
    assert protocol.setxattr(body, False) == protocol.SetXattrIn(b"user.a", value, 2, False)


def test_batch_forget_pairs() -> None:
    body = struct.pack("<IIQQQQ", 2, 0, 5, 1, 9, 3)
    assert protocol.batch_forget(memoryview(body)) == [(5, 1), (9, 3)]
    with pytest.raises(ProtocolError):
        protocol.batch_forget(memoryview(body[:-1]))


def test_sizes_of_replies_are_those_of_the_kernel() -> None:
    status = os.stat("/")
    assert len(replies.attributes(status)) == 104
    assert len(replies.entry(2, status)) == len(replies.no_entry()) == 128
    assert len(replies.opened(1, 0)) == 16
    assert len(replies.statfs(os.statvfs("/"))) == 80
    assert len(replies.init(protocol.Init(7, 45, 1 << 17, 0), 1 << 34, 64)) == 64
    assert len(replies.written(1, 2)) == 24
    assert len(replies.attributes_changed(1)) == 40
    assert replies.error(9, 2) == struct.pack("<IiQ", 16, -2, 9)


def test_attributes_before_1970(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(0, -1))
    reply = replies.attributes(os.stat(tmp_path))
    assert struct.unpack_from("<q", reply, 16 + 32)[0] == -1
    assert struct.unpack_from("<I", reply, 16 + 52)[0] == 999_999_999


@given(
    st.lists(st.binary(min_size=1, max_size=255), max_size=30), st.integers(40, 2000), st.booleans()
)
def test_a_directory_read_in_pieces_is_whole(names: list[bytes], room: int, plus: bool) -> None:
    room += 400 if plus else 300  # the kernel always has room for one
    entries = [(name, 100 + number, 8, number + 1) for number, name in enumerate(names)]
    status = os.stat("/")
    seen: list[tuple[bytes, int, int, int]] = []
    looked_up: list[int] = []
    offset = 0
    while True:
        if plus:
            piece, nodes = replies.directory_plus(
                entries[offset:], room, lambda name: (len(name), status)
            )
            looked_up += nodes
        else:
            piece = replies.directory(entries[offset:], room)
        assert len(piece) <= room
        if not piece:
            break
        at = 0
        while at < len(piece):
            at += 128 if plus else 0
            inode, offset, length, kind = struct.unpack_from("<QQII", piece, at)
            seen.append((piece[at + 24 : at + 24 + length], inode, kind, offset))
            at += (24 + length + 7) & ~7
    assert seen == entries
    if plus:
        assert looked_up == [len(name) for name in names if name not in (b".", b"..")]
