"""What one transfer sends of the content of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from stat import S_ISREG

from safepy.core.replica.marks import Extents
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.content import Batch, LargeFile, split
from safepy.dataplane.resync.conversation import Conversation
from safepy.dataplane.resync.messages import ABSENT, Entry, Rule, Want
from safepy.dataplane.resync.parts import weight
from safepy.dataplane.resync.shared import Ending, Item, Large
from safepy.dataplane.resync.summary import Seen, entry_of, look
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.zones import (
    DIGEST_BYTES,
    differing_runs,
    is_sparse,
    joined,
    ranges_to_compare,
    zones_in,
)
from safepy.errors import PeerError

#: Larger files are an item of their own, so that another transfer can take them.
SMALL_BYTES = 1 << 20


class Contents(Conversation):
    """The part of a transfer that knows no names but those it is given."""

    def _send_wanted(
        self, tree: int, path: Path, entries: Sequence[Entry], wants: Sequence[Want]
    ) -> None:
        dir_fd: int | None = None
        batch = Batch(self, self._shared.memory, tree, path)
        large: list[Item] = []
        try:
            for want in wants:
                entry = entries[want.index]
                extents = None if want.full else joined(entry.extents or (), want.extents)
                if entry.extents is None:
                    extents = None
                small = (
                    entry.size <= SMALL_BYTES if want.size == ABSENT else want.digests is not None
                )
                if not small:
                    large.append(Large(tree, path, entry.name, want.size, extents, want.attributes))
                    continue
                if dir_fd is None:
                    dir_fd = self._open(tree, path)
                    if dir_fd is None:
                        return
                self._send_small(dir_fd, entry, want, extents, batch)
        finally:
            if dir_fd is not None:
                os.close(dir_fd)
        batch.send()
        self._add(large)

    def _send_small(
        self, dir_fd: int, entry: Entry, want: Want, extents: Extents | None, batch: Batch
    ) -> None:
        size = entry.size
        fd = trees.open_file_or_none(dir_fd, entry.name)
        if fd is None:
            return
        try:
            found = os.fstat(fd)
            sparse = is_sparse(found)
            if want.size == ABSENT:
                runs = [(0, size)]
            else:
                ranges = ranges_to_compare(extents, want.size, size)
                theirs = want.digests or b""
                if len(theirs) != zones_in(ranges) * DIGEST_BYTES:
                    raise PeerError("digests do not fit the file")
                key = (batch.tree, found.st_ino)
                ours = self._shared.memory.of(key, fd, ranges, size, sparse)
                runs = differing_runs(ranges, ours, theirs)
            copied = 0
            if runs or want.attributes or want.size != size:
                copied = batch.add_whole(
                    entry, found.st_ino, fd, runs, sparse, punch=want.size != ABSENT
                )
        finally:
            os.close(fd)
        self._shared.count(1, 1 if runs else 0, weight(entry), copied)
        if runs:
            self._shared.on_copied(batch.tree, (*batch.path, entry.name))

    def _large(self, item: Large) -> None:
        """A file by parts; its state lives in the closures until its last answer."""
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        try:
            fd = trees.open_file(dir_fd, item.name)
            self._open_files.add(fd)
            found = os.fstat(fd)
            entry = trees.entry_of(dir_fd, item.name, found, self._shared.acl)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise
            return
        finally:
            os.close(dir_fd)
        parts = split(item, entry.size)
        if parts:
            self.close_file(fd)
            self._add(parts)
            return
        LargeFile(self, self._shared, item, entry, fd, found).begin()

    def _ending(self, item: Ending) -> None:
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        try:
            for seen in look(dir_fd, (item.name,), self._shared.acl):
                if S_ISREG(seen.status.st_mode):
                    batch = Batch(self, self._shared.memory, item.tree, item.path)
                    batch.add(item.name, entry=entry_of(seen, seen.ident, None, Rule.IDENT))
                    batch.send()
        finally:
            os.close(dir_fd)

    def _send_fresh(self, dir_fd: int, seen: Seen, entry: Entry, batch: Batch) -> int:
        if not entry.size:
            batch.add(entry.name, entry=entry)
            return 0
        try:
            fd = trees.open_seen(dir_fd, seen.name, seen.status)
        except OSError as error:
            if error.errno not in trees.GONE_OR_OTHER:
                raise
            return 0
        try:
            sparse = is_sparse(seen.status)
            whole = [(0, entry.size)]
            copied = batch.add_whole(entry, seen.status.st_ino, fd, whole, sparse, punch=False)
        finally:
            os.close(fd)
        self._shared.on_copied(batch.tree, (*batch.path, entry.name))
        return copied
