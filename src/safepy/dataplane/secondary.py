"""The secondary's side of live replication: apply in order, acknowledge, complete.

`acknowledge_on="receipt"` (protocol I1, `async="second"`): a batch is acknowledged, then applied;
"apply" the other way round. Everything received is applied before this node may serve.
"""

from __future__ import annotations

import errno as errnos
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from safepy.core.replica.ops import Fsync, Op, Rename, Rmdir, Write
from safepy.dataplane.syncing import Syncer
from safepy.host.loop import Loop
from safepy.storage.backing import Tree

#: Fsyncs under way: far above what the window of an honest primary lets it send.
SYNCS_MAX = 4096


class Secondary:
    """One stream's operations. All callbacks run in the loop's thread.

    `ack(seq)` once for each batch, `complete(seq, errno)` for each fsync. `fault(errno, text)`
    once: an operation failed here that had not failed there, this copy is behind from now on, and
    nothing more is applied or acknowledged (F42, F44). `make_room(tree index, path)` removes what
    is left out in a directory that went on the primary, and says whether there was anything.
    """

    def __init__(
        self,
        loop: Loop,
        trees: Sequence[Tree],
        acknowledge_on: str,
        ack: Callable[[int], None],
        complete: Callable[[int, int], None],
        fault: Callable[[int, str], None],
        make_room: Callable[[int, bytes], bool] | None = None,
    ) -> None:
        assert acknowledge_on in ("receipt", "apply"), acknowledge_on
        self._loop = loop
        self._trees = trees
        self._on_receipt = acknowledge_on == "receipt"
        self._ack = ack
        self._complete = complete
        self._fault = fault
        self._make_room = make_room
        self._received = 0
        self._queue: deque[tuple[int, Tree, Op]] = deque()
        self._turn_asked = False
        self._syncing: set[int] = set()
        self._waiting: list[Callable[[], None]] = []
        self._closed = False
        self._syncer = Syncer(loop, "secondary-sync")
        self.faulted = False
        self.replicated_bytes = 0

    def receive(self, seq: int, tree_index: int, op: Op) -> None:
        """The next operation of the stream."""
        if self.faulted or self._closed:
            return
        if seq != self._received + 1:
            self._fail(errnos.EPROTO, f"operation {seq} came after {self._received}")
            return
        if not 0 <= tree_index < len(self._trees):
            self._fail(errnos.EPROTO, f"operation {seq} is for directory {tree_index}")
            return
        self._received = seq
        self._queue.append((seq, self._trees[tree_index], op))
        if type(op) is Write:
            self.replicated_bytes += len(op.data)
        if not self._turn_asked:
            self._turn_asked = True
            self._loop.post(self._turn)

    @property
    def received(self) -> int:
        """The number of the newest operation that came."""
        return self._received

    def apply_received(self) -> None:
        """Everything that came is in the trees; fsyncs among it may still run."""
        self._apply_queue()

    def descriptor(self, tree_index: int, handle: int) -> int:
        """For a read of what everything received so far has left in this file; the caller closes
        it. Raises OSError."""
        self._apply_queue()
        if not 0 <= tree_index < len(self._trees):
            raise OSError(errnos.EINVAL, "no such directory")
        return self._trees[tree_index].duplicate(handle)

    def sync_again(self, seq: int, tree_index: int, op: Op) -> None:
        """The stream was interrupted, and the primary has not heard how this fsync ended."""
        if self.faulted or self._closed or seq in self._syncing:
            return
        if seq > self._received or not 0 <= tree_index < len(self._trees) or type(op) is not Fsync:
            self._fail(errnos.EPROTO, f"fsync {seq} is asked for again, but never was before")
            return
        if all(waiting[0] != seq for waiting in self._queue):
            self._apply_queue()
            self._apply_one(seq, self._trees[tree_index], op)

    def applied_all(self, then: Callable[[], None]) -> None:
        """Apply everything received; `then` runs when the fsyncs among it have ended too."""
        self._apply_queue()
        self._waiting.append(then)
        self._check_waiting()

    def checkpoint(self, reached: Callable[[], None]) -> None:
        """Everything received so far is made durable; then `reached()`. Never, if something could
        not be applied or flushed: that is a fault (I16)."""
        self._apply_queue()
        left = len(self._trees)

        def flushed(number: int) -> None:
            nonlocal left
            if self.faulted or self._closed:
                return
            if number:
                self._fail(number, f"flush for a checkpoint failed with errno {number}")
                return
            left -= 1
            if left == 0:
                reached()

        if not self.faulted and not self._closed:
            op = Fsync(0, False)
            for tree in self._trees:
                self._syncer.start(op, tree.sync_descriptor(op), flushed)

    def close(self) -> None:
        """Nothing is applied or told any more; fsyncs under way end by themselves."""
        self._closed = True
        self._queue.clear()
        self._syncer.close()

    def _turn(self) -> None:
        self._turn_asked = False
        if self._on_receipt and not self.faulted and not self._closed:
            self._ack(self._received)
        self._apply_queue()
        if not self._on_receipt and not self.faulted and not self._closed:
            self._ack(self._received)

    def _apply_queue(self) -> None:
        queue = self._queue
        while queue:
            self._apply_one(*queue.popleft())

    def _apply_one(self, seq: int, tree: Tree, op: Op) -> None:
        try:
            if type(op) is Fsync:
                self._start_sync(seq, tree, op)
            elif type(op) is Write:
                if tree.apply(op) != len(op.data):  # it had room there for all of it
                    raise OSError(errnos.ENOSPC, "short write")
            else:
                self._apply(tree, op)
        except OSError as error:
            self._fail(error.errno or errnos.EIO, f"{_describe(tree, op)}: {error}")
        except (ValueError, OverflowError) as error:  # no kernel takes such a number or name
            self._fail(errnos.EPROTO, f"{_describe(tree, op)}: {error}")

    def _apply(self, tree: Tree, op: Op) -> None:
        try:
            tree.apply(op)
        except OSError as error:
            full = error.errno in (errnos.ENOTEMPTY, errnos.EEXIST)
            if not full or self._make_room is None or not isinstance(op, Rmdir | Rename):
                raise
            parent, name = (
                (op.parent, op.name) if isinstance(op, Rmdir) else (op.new_parent, op.new_name)
            )
            folder = tree.path_of(parent)
            if folder is None:
                raise
            if not self._make_room(tree.index, folder + b"/" + name if folder else name):
                raise
            tree.apply(op)

    def _start_sync(self, seq: int, tree: Tree, op: Fsync) -> None:
        if len(self._syncing) >= SYNCS_MAX:
            raise OSError(errnos.EPROTO, "more fsyncs at once than a window holds")
        fd = tree.sync_descriptor(op)
        self._syncing.add(seq)
        self._syncer.start(op, fd, partial(self._synced, seq))

    def _synced(self, seq: int, number: int) -> None:
        self._syncing.discard(seq)
        if not self.faulted and not self._closed:
            self._complete(seq, number)
            if number:
                self._fail(number, f"fsync failed with errno {number}")
        self._check_waiting()

    def _fail(self, number: int, text: str) -> None:
        self.faulted = True
        self._queue.clear()
        self._fault(number, text)

    def _check_waiting(self) -> None:
        if self._queue or self._syncing:
            return
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()


def _describe(tree: Tree, op: Op) -> str:
    return f"{type(op).__name__} in directory {tree.index}"
