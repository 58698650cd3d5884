"""What a mounted tree expects of those who hold the files (`storage`, `dataplane`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from safepy.core.replica import ops
from safepy.fuse.replies import DirEntry

#: The errno (0: done) and the result of an operation.
Answer = Callable[[int, object], None]


class Listing(Protocol):
    """Somebody reads a directory. All raise OSError."""

    def portion(self, position: int) -> Sequence[DirEntry]:
        """Some entries that follow a position, "." and ".." among them; none at the end.

        Position 0 is the start, each entry tells the position behind it; they stay true while
        names come and go."""

    def close(self) -> None: ...


class Tree(Protocol):
    """The real files of one replicated directory, by handles (1 is the root). All raise OSError.

    A handle belongs to an object: every name of it gives the same. It is never used twice, and
    names its object, also one without any name left, until `release`.
    """

    def new_handle(self) -> int:
        """A handle for an object that the operation to come creates."""

    def lookup(self, parent: int, name: bytes) -> tuple[int, os.stat_result]: ...

    def release(self, handle: int) -> None:
        """The kernel does not know the handle any more."""

    def stat(self, handle: int) -> os.stat_result: ...

    def readlink(self, handle: int) -> bytes: ...

    def read_cached(self, handle: int, offset: int, size: int) -> memoryview | None:
        """None: the disk must be waited for. What is given holds until the next call."""

    def duplicate(self, handle: int) -> int:
        """A descriptor for `Reader.read`."""

    def open_directory(self, handle: int) -> Listing: ...

    def getxattr(self, handle: int, name: bytes) -> bytes: ...

    def listxattr(self, handle: int) -> Sequence[bytes]: ...

    def lseek(self, handle: int, offset: int, whence: int) -> int: ...

    def statfs(self) -> os.statvfs_result: ...


class Modifier(Protocol):
    """Carries operations out, here and on the peer."""

    def modify(self, tree_index: int, op: ops.Op, answer: Answer) -> int:
        """How many operations wait to be begun, this one the last of them; 0: it has begun.

        `answer` is called once, now or later, in the loop's thread. Results: `Write` the
        count of bytes; `Make`, `Tmpfile`, `Symlink`, `Link`, `SetAttr` the os.stat_result of
        the object; the others None."""

    def withdraw(self, answer: Answer) -> bool:
        """Take back the operation with this answer, which is EINTR then; False: it has begun."""


#: Reads from the other node what the disk here refuses (F45): node, offset, size, and whom to
#: call with (errno or 0, data).
Rescue = Callable[[int, int, int, Callable[[int, bytes], None]], None]


class Reader(Protocol):
    """Reads beside the loop what would keep it waiting."""

    def read(self, fd: int, offset: int, size: int, then: Callable[[int, bytes], None]) -> None:
        """Closes `fd`; `then(errno, data)` is called later in the loop's thread."""
