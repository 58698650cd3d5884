"""Digests of zones that this node has read or written already, from one attempt to the next.

An attempt to bring the other node up to date may end early, and the next one looks at everything
again. What this process has read (or sent, or written) and nobody has changed since need not be
read a second time: its digest is known. Each node remembers for itself and tells nobody, so what
both say is compared as ever; a node that forgot (a restart, a power cut, no room) reads again.

Nothing here goes by times (I17): whoever changes content says so, `changed` on the source, for
every operation, and `written` on the target, where nobody but the synchronisation writes. Holes in
files are looked up each time: only what was data is kept.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Sequence

from xxhash import xxh3_128_digest

from safepy.dataplane.resync.zones import DIGEST_BYTES, ZONE_BYTES, zone_digests, zones_in

#: Room for digests, with what Python needs besides: 300,000 small files, or a tenth of them and
#: 500 GiB of large ones.
LIMIT_BYTES = 96 << 20
_FILE_BYTES = 320
_CHANGED_MAX = 100_000

_UNKNOWN, _WHOLE, _TAIL = 0, 1, 2

#: (number of the directory, inode number).
Key = tuple[int, int]
Ranges = Sequence[tuple[int, int]]
EVERYTHING = ((0, 1 << 62),)


class _File:
    """Of one file: a digest for each zone, and whether it is known. The last zone may be short:
    its digest is that of content which ends at `end`."""

    __slots__ = ("digests", "end", "known")

    def __init__(self) -> None:
        self.digests = bytearray()
        self.known = bytearray()
        self.end = -1

    def put(self, zone: int, digest: bytes, end: int) -> None:
        """`end`: where the content ended, within or after this zone."""
        missing = zone + 1 - len(self.known)
        if missing > 0:
            self.known += bytes(missing)
            self.digests += bytes(missing * DIGEST_BYTES)
        whole = end >= (zone + 1) * ZONE_BYTES
        if not whole:
            self.end = end
        self.known[zone] = _WHOLE if whole else _TAIL
        self.digests[zone * DIGEST_BYTES : (zone + 1) * DIGEST_BYTES] = digest

    def get(self, first: int, last: int, size: int) -> bytes | None:
        """Digests of the zones from `first` to before `last`, of content that ends at `size`,
        within the last of them or later."""
        if last > len(self.known):
            return None
        for zone in range(first, last):
            wanted = _WHOLE if size >= (zone + 1) * ZONE_BYTES else _TAIL
            if self.known[zone] != wanted or (wanted == _TAIL and self.end != size):
                return None
        return bytes(self.digests[first * DIGEST_BYTES : last * DIGEST_BYTES])

    def forget(self, first: int, last: int) -> None:
        for zone in range(first, min(last, len(self.known))):
            self.known[zone] = _UNKNOWN


class Memories:
    """What one node knows, over its attempts. Any thread may call anything."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._files: dict[Key, _File] = {}
        self._bytes = 0
        self._seed = self._attempt = 0
        self._changed: set[Key] = set()
        #: An attempt has begun, and nobody has said that the next one need not know.
        self.used = False

    def attempt(self) -> Memory:
        """For the next attempt. A thread of the former one adds nothing any more."""
        with self._lock:
            self._attempt += 1
            return Memory(self, self._attempt)

    def round_begins(self) -> None:
        """From here on every change is told, be it of what was told before."""
        with self._lock:
            self._changed.clear()

    def changed(self, tree: int, inode: int) -> None:
        """An operation is about to change the content of this file."""
        if not self.used:
            return
        key = (tree, inode)
        with self._lock:
            if len(self._changed) >= _CHANGED_MAX:
                self._clear()
            self._changed.add(key)
            self._drop(key)

    def clear(self) -> None:
        """Nobody asks any more, or what was read is not to be trusted (I16)."""
        with self._lock:
            self._clear()

    # --- for `Memory`

    def begin(self, attempt: int, seed: int) -> int:
        with self._lock:
            if attempt == self._attempt and not (self.used and seed in (0, self._seed)):
                self._clear()
                self.used, self._seed = True, seed or secrets.randbits(63)
            return seed or self._seed

    def known(self, key: Key, ranges: Ranges, size: int) -> bytes | None:
        found = []
        with self._lock:
            file = self._files.get(key)
            for start, end in ranges:
                if file is None or end > size:
                    return None
                digests = file.get(start // ZONE_BYTES, -(-end // ZONE_BYTES), size)
                if digests is None:
                    return None
                found.append(digests)
        return b"".join(found)

    def put(self, attempt: int, key: Key, first: int, digests: bytes, end: int) -> None:
        """Digests of the zones from number `first` on; the content ended at `end`, or later."""
        with self._lock:
            if not self.used or attempt != self._attempt or key in self._changed:
                return
            for at in range(0, len(digests), DIGEST_BYTES):
                self._put(key, first + at // DIGEST_BYTES, digests[at : at + DIGEST_BYTES], end)

    def forget(self, key: Key, ranges: Iterable[tuple[int, int]]) -> None:
        with self._lock:
            file = self._files.get(key)
            if file is None:
                return
            for start, end in ranges:
                file.forget(start // ZONE_BYTES, -(-end // ZONE_BYTES))

    # --- under the lock

    def _put(self, key: Key, zone: int, digest: bytes, end: int) -> None:
        file = self._files.get(key)
        known = 0 if file is None else len(file.known)
        more = (_FILE_BYTES if file is None else 0) + max(0, zone + 1 - known) * (DIGEST_BYTES + 1)
        if self._bytes + more > self._limit_bytes:
            return
        if file is None:
            file = self._files[key] = _File()
        self._bytes += more
        file.put(zone, digest, end)

    def _drop(self, key: Key) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            self._bytes -= _FILE_BYTES + len(file.known) * (DIGEST_BYTES + 1)

    def _clear(self) -> None:
        self._files.clear()
        self._changed.clear()
        self._bytes = 0
        self.used = False


class Memory:
    """What the threads of one attempt use."""

    def __init__(self, memories: Memories, attempt: int) -> None:
        self._memories = memories
        self._attempt = attempt
        #: A secret of both nodes: see `zone_digests`.
        self.seed = 0

    def begin(self, seed: int = 0) -> None:
        """With this seed; 0: with that of the former attempt, or a new one."""
        self.seed = self._memories.begin(self._attempt, seed)

    def known(self, key: Key, ranges: Ranges, size: int) -> bytes | None:
        """The digests of all zones of `ranges`, of content that ends at `size`, if they are
        known."""
        return self._memories.known(key, ranges, size)

    def of(self, key: Key, fd: int, ranges: Ranges, size: int, sparse: bool) -> bytes:
        """As `zone_digests`, read only where it must be."""
        if sparse or not all(_is_zones(start, end, size) for start, end in ranges):
            return b"".join(zone_digests(fd, ranges, size, sparse, self.seed))
        digests = self.known(key, ranges, size)
        if digests is not None:
            return digests
        digests = b"".join(zone_digests(fd, ranges, size, sparse, self.seed))
        at = 0
        for start, end in ranges:
            zones = zones_in([(start, end)]) * DIGEST_BYTES
            if end <= size:
                part = digests[at : at + zones]
                self._memories.put(self._attempt, key, start // ZONE_BYTES, part, size)
            at += zones
        return digests

    def read(self, key: Key, offset: int, piece: bytes) -> None:
        """This was read at `offset`, outside of holes."""
        if offset % ZONE_BYTES == 0 and piece:
            view = memoryview(piece)
            digests = b"".join(
                xxh3_128_digest(view[at : at + ZONE_BYTES], self.seed)
                for at in range(0, len(view), ZONE_BYTES)
            )
            end = offset + len(piece)
            self._memories.put(self._attempt, key, offset // ZONE_BYTES, digests, end)

    def writing(self, key: Key, ranges: Iterable[tuple[int, int]]) -> None:
        """These ranges are about to be written, punched or cut off."""
        self._memories.forget(key, ranges)

    #: This was written, and nothing else there since.
    written = read


def _is_zones(start: int, end: int, size: int) -> bool:
    """Whether a range is what nodes of ours compare: whole zones, or up to the end."""
    return start % ZONE_BYTES == 0 and (end % ZONE_BYTES == 0 or end >= size)
