"""The intent log's blocks: which extents may differ between the nodes (protocol 2.2, 4.1, I5).

A block of 4 KiB is one piece of a ring. It carries its place in the endless sequence of blocks
(`sequence`), the oldest block that still counts (`tail`), the newest one that was durable when it
was written (`durable`), the window its marks belong to, and a CRC32 over all of it.

Reading takes every whole block from the tail on. A torn one belongs to no operation, because an
operation starts only when its mark is durable; what was written after it in the same moment may
count too: more marks are always right. A block that *had* been durable and cannot be read any
more is damage, and then everything is suspect.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BLOCK_BYTES = 4096
#: Marks are kept in extents of 1 MiB (protocol 4.2: E).
EXTENT_SHIFT = 20
EXTENT_BYTES = 1 << EXTENT_SHIFT
#: As `Touched.count`: the whole file.
WHOLE = 0xFFFF_FFFF
#: As `Everything.tree`.
ALL_TREES = 0xFFFF
#: Window of what an earlier run left behind: no checkpoint ends it, only a reset does.
SUSPECT_WINDOW = 0

MARKS = 1
#: The run ended in order: the saved marks with this block's number are complete.
CLEAN = 2

_MAGIC = b"SFKINTNT"
_VERSION = 1
_HEADER = struct.Struct(">8s16sHBQQQQH")
_ENTRY = struct.Struct(">BHQQI")
_CRC = struct.Struct(">I")
_TOUCHED, _NEW_SINCE, _EVERYTHING = 1, 2, 3
ENTRIES_A_BLOCK = (BLOCK_BYTES - _HEADER.size - _CRC.size) // _ENTRY.size


@dataclass(frozen=True, slots=True)
class Touched:
    """Extents `first` to `first + count` of the file with this inode number; `WHOLE`: all."""

    tree: int
    inode: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class NewSince:
    """Every object whose id names this session and a counter not below `counter`."""

    tree: int
    session: bytes
    counter: int


@dataclass(frozen=True, slots=True)
class Everything:
    """All content of this tree (`ALL_TREES`: of each)."""

    tree: int


Entry = Touched | NewSince | Everything


@dataclass(frozen=True, slots=True)
class Block:
    """`log_id`: 16 bytes that name the log file; blocks of another one do not count."""

    log_id: bytes
    kind: int
    sequence: int
    tail: int
    durable: int
    window: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a log says. `newest` is None and `damaged` true when nothing of it can be used."""

    entries: tuple[tuple[int, Entry], ...]
    newest: Block | None
    damaged: bool

    @property
    def clean_sequence(self) -> int:
        """Number of the block that says the last run ended in order; 0 if it did not."""
        newest = self.newest
        return newest.sequence if newest is not None and newest.kind == CLEAN else 0


def encode(block: Block) -> bytes:
    """Exactly `BLOCK_BYTES`. Raises ValueError for more than `ENTRIES_A_BLOCK` entries."""
    if len(block.entries) > ENTRIES_A_BLOCK:
        raise ValueError(f"{len(block.entries)} entries in one block")
    header = _HEADER.pack(
        _MAGIC,
        block.log_id,
        _VERSION,
        block.kind,
        block.sequence,
        block.tail,
        block.durable,
        block.window,
        len(block.entries),
    )
    body = header + b"".join(map(_pack, block.entries))
    body = body.ljust(BLOCK_BYTES - _CRC.size, b"\0")
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Block | None:
    """The block in these bytes; None if there is none, or not whole."""
    if len(data) != BLOCK_BYTES or not data.startswith(_MAGIC):
        return None
    body = data[: -_CRC.size]
    if _CRC.unpack_from(data, BLOCK_BYTES - _CRC.size)[0] != zlib.crc32(body):
        return None
    _, log_id, version, kind, sequence, tail, durable, window, count = _HEADER.unpack_from(body)
    if version != _VERSION or kind not in (MARKS, CLEAN) or count > ENTRIES_A_BLOCK:
        return None
    entries = []
    for at in range(count):
        entry = _unpack(body, _HEADER.size + at * _ENTRY.size)
        if entry is None:
            return None
        entries.append(entry)
    return Block(log_id, kind, sequence, tail, durable, window, tuple(entries))


def recover(blocks: Iterable[Block]) -> Recovered:
    """What the whole blocks of one ring say, in any order."""
    found = {block.sequence: block for block in blocks}
    if not found or len({block.log_id for block in found.values()}) > 1:
        return Recovered((), None, True)
    tail = max(block.tail for block in found.values())
    durable = max(block.durable for block in found.values())
    damaged = any(number not in found for number in range(tail, durable + 1))
    entries = tuple(
        (found[number].window, entry)
        for number in sorted(found)
        if number >= tail
        for entry in found[number].entries
    )
    return Recovered(entries, found[max(found)], damaged)


def in_blocks(entries: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    """The entries in pieces that fit a block each; one empty piece for none."""
    starts = range(0, max(1, len(entries)), ENTRIES_A_BLOCK)
    return [tuple(entries[at : at + ENTRIES_A_BLOCK]) for at in starts]


def _pack(entry: Entry) -> bytes:
    match entry:
        case Touched(tree, inode, first, count):
            return _ENTRY.pack(_TOUCHED, tree, inode, first, count)
        case NewSince(tree, session, counter):
            return _ENTRY.pack(_NEW_SINCE, tree, int.from_bytes(session, "big"), counter, 0)
        case Everything(tree):
            return _ENTRY.pack(_EVERYTHING, tree, 0, 0, 0)


def _unpack(body: bytes, at: int) -> Entry | None:
    kind, tree, first, second, third = _ENTRY.unpack_from(body, at)
    if kind == _TOUCHED:
        return Touched(tree, first, second, third)
    if kind == _NEW_SINCE:
        return NewSince(tree, first.to_bytes(8, "big"), second)
    return Everything(tree) if kind == _EVERYTHING else None
