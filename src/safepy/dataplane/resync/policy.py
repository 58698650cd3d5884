"""What the source wants compared of a file, besides its names and attributes."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Sequence
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.marks import Extents, Mark
from safepy.core.replica.suspects import ALL, Suspects
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import IDENT_BYTES, Rule
from safepy.dataplane.resync.zones import joined
from safepy.storage.idents import IDENT_XATTR

#: Larger files get an id when they are first copied, so that they can be moved later.
IDENTIFY_BYTES = 1 << 20


class Policy:
    """`suspects`: one for each tree, or none. `newer_than_ns`: an operator says that below WALK
    marks everything is equal but files that were modified later (None: nobody says so).
    """

    def __init__(self, suspects: Sequence[Suspects] = (), newer_than_ns: int | None = None) -> None:
        self._suspects = tuple(suspects)  # more may be suspected while it runs
        self._newer_than_ns = newer_than_ns
        self._session = secrets.token_bytes(8)
        self._given = 0
        self._lock = threading.Lock()

    def asks(self, tree: int, found: os.stat_result, ident: bytes) -> bool:
        """Whether a file below a WALK mark is to be compared even if it seems equal."""
        if self._newer_than_ns is not None and found.st_mtime_ns > self._newer_than_ns:
            return True
        return bool(self._suspect(tree, found, ident))

    def wanted(
        self, tree: int, found: os.stat_result, ident: bytes, mark: Mark
    ) -> tuple[Extents | None, int]:
        """The extents of a file (None: all of it), and the `Rule` by which it is compared whole."""
        if mark.full:
            return None, Rule.IDENT
        own = self._suspect(tree, found, ident)
        if own == ALL:
            return None, Rule.IDENT
        extents = joined(mark.extents, own) if own else mark.extents
        if not mark.walk:
            return extents, Rule.IDENT
        if self._newer_than_ns is None:
            return extents, Rule.TIME
        if found.st_mtime_ns > self._newer_than_ns:
            return None, Rule.IDENT
        return extents, Rule.SIZE

    def _suspect(self, tree: int, found: os.stat_result, ident: bytes) -> Extents:
        return self._suspects[tree].of(found.st_ino, ident) if self._suspects else ()

    def identified(
        self, tree: int, dir_fd: int, name: bytes, found: os.stat_result, ident: bytes
    ) -> bytes:
        """The ident of an object that is compared whole: now it has one, if it is worth one."""
        mode = found.st_mode
        worth = S_ISDIR(mode) or (S_ISREG(mode) and found.st_size >= IDENTIFY_BYTES)
        if ident or not worth:
            return ident
        with self._lock:
            self._given += 1
            number = self._given
        ident = self._session + tree.to_bytes(2, "big") + number.to_bytes(6, "big")
        assert len(ident) == IDENT_BYTES
        place = b"/proc/self/fd/%d/%s" % (dir_fd, name)
        try:
            os.setxattr(place, IDENT_XATTR, ident, os.XATTR_CREATE, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EEXIST:  # The application's rename was faster.
                return trees.ident_of(dir_fd, name)
            if error.errno in (errno.EROFS, errno.ENOTSUP, errno.ENOSPC, errno.EDQUOT, errno.EPERM):
                return b""  # It goes without.
            if error.errno in trees.GONE:
                return b""
            raise
        return ident
