"""The primary's end of the live stream: numbers, window, and which handles the peer knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from safepy.core.replica.ops import (
    ROOT,
    Bind,
    Forget,
    Link,
    Make,
    Op,
    Rename,
    Symlink,
    Tmpfile,
    Unlink,
    Write,
)
from safepy.core.replica.stream import Window
from safepy.dataplane.border import Border
from safepy.dataplane.touched import handles_used
from safepy.host.loop import Loop
from safepy.storage.backing import Tree

#: (sequence number, tree index, operation)
Send = Callable[[int, int, Op], None]

#: What an operation weighs in the window besides its data.
OP_BYTES = 128

#: These give a handle its meaning on the peer.
_NAMING = (Bind, Make, Tmpfile, Symlink)

T = TypeVar("T")


class Outgoing(Generic[T]):
    """Operations on their way, each with an item of the caller's (None: nobody waits).

    `replicated_bytes` counts the data sent. Handles that a tree releases are forgotten on the
    peer too. A stream that broke can be taken up again on another connection (`suspend`,
    `resume`): numbers and handles go on, and what the peer had not received is sent again.
    """

    def __init__(self, loop: Loop, trees: Sequence[Tree], max_ops: int, max_bytes: int) -> None:
        self._loop = loop
        self._trees = trees
        self._limits = (max_ops, max_bytes)
        self._send: Send | None = None
        self._connected = False
        self._known: list[set[int]] = [set() for _ in trees]
        self._forgotten: list[list[int]] = [[] for _ in trees]
        self.window: Window[T] = Window(max_ops, max_bytes)
        self.replicated_bytes = 0
        #: What is left out of the trees, if anything is.
        self.border: Border | None = None
        for index, tree in enumerate(trees):
            tree.on_release = partial(self._released, index)

    @property
    def connected(self) -> bool:
        """There is a stream, if only an interrupted one."""
        return self._connected

    @property
    def suspended(self) -> bool:
        """The stream is interrupted: operations get their numbers and wait."""
        return self._connected and self._send is None

    def connect(self, send: Send) -> None:
        """A new stream, on which the peer knows no handle but the roots."""
        assert not len(self.window), "an old stream is still in flight"
        self.window = Window(*self._limits)
        self._known = [{ROOT} for _ in self._trees]
        self._forgotten = [[] for _ in self._trees]
        self._send = send
        self._connected = True

    def disconnect(self) -> None:
        self._send = None
        self._connected = False

    def suspend(self) -> None:
        """The connection is gone. What was sent is kept until `resume` or `disconnect`."""
        self._send = None

    def resume(self, send: Send, again: Send) -> None:
        """Go on over `send`: first what the peer has not acknowledged. `again` asks for the end
        of an fsync that the peer has received; its answer may have been lost."""
        assert self.suspended
        for seq, sent in self.window.uncompleted():
            again(seq, *_sent(sent))
        for seq, sent in self.window.unacknowledged():
            send(seq, *_sent(sent))
        self._send = send

    def close(self) -> None:
        for tree in self._trees:
            tree.on_release = None

    def transmit(self, index: int, op: Op, item: T | None, completing: bool = False) -> None:
        """Give `op` its number and send it. `completing`: the peer ends it with `Completed`."""
        size_bytes = OP_BYTES
        if type(op) is Write:
            size_bytes += len(op.data)
            self.replicated_bytes += len(op.data)
        elif isinstance(op, _NAMING):
            self._known[index].add(op.handle)
        now_s = self._loop.now_s
        if completing and item is not None:
            seq = self.window.add_completing(item, size_bytes, now_s, (index, op))
        else:
            seq = self.window.add(item, size_bytes, now_s, (index, op))
        if self._send is not None:  # else interrupted, also while sending what came before
            self._send(seq, index, op)

    def transmit_all(self, index: int, ops: Sequence[Op]) -> None:
        for op in ops:
            self.transmit(index, op, None)

    def introductions(self, index: int, op: Op) -> list[Op] | None:
        """What must be sent first so that the peer knows every handle that `op` uses.

        None: it concerns something that the peer never knew, because it was nameless or is left
        out, so it is not sent at all.
        Paths are those of this instant, before `op` is carried out, as on the peer.
        """
        if type(op) is Write and op.handle in self._known[index]:
            return []  # the hot path
        tree, known = self._trees[index], self._known[index]
        before: list[Op] = []
        for handle in dict.fromkeys(handles_used(op)):
            if handle in known:
                continue
            if self.border is not None and self.border.leaves_out(index, handle):
                return None
            path = tree.path_of(handle)
            if path is not None:
                before.append(Bind(handle, path))
            elif isinstance(op, Link) and handle == op.handle:
                before += tree.describe_nameless(handle)
            else:
                return None
        if isinstance(op, Unlink):
            before += self._last_sight(index, op.parent, op.name)
        elif isinstance(op, Rename):
            before += self._last_sight(index, op.new_parent, op.new_name)
        return before

    def unknow(self, index: int, handle: int) -> None:
        """This object is left out from now on: the peer need not know it any more."""
        if handle in self._known[index]:
            self._known[index].remove(handle)
            self.transmit(index, Forget((handle,)), None)

    def _last_sight(self, index: int, parent: int, name: bytes) -> list[Op]:
        """A file about to lose a name, but not its last link, can be introduced now; later its
        other names might not be known here."""
        tree = self._trees[index]
        handle = tree.known_at(parent, name)
        if not handle or handle in self._known[index] or tree.stat(handle).st_nlink < 2:
            return []
        path = tree.path_of(handle)
        return [] if path is None else [Bind(handle, path)]

    def _released(self, index: int, handle: int) -> None:
        known = self._known[index]
        if not self._connected or handle not in known:
            return
        known.remove(handle)
        if not any(self._forgotten):
            self._loop.post(self._send_forgotten)
        self._forgotten[index].append(handle)

    def _send_forgotten(self) -> None:
        forgotten, self._forgotten = self._forgotten, [[] for _ in self._trees]
        for index, handles in enumerate(forgotten):
            if handles and self._connected:
                self.transmit(index, Forget(tuple(handles)), None)


def _sent(kept: object) -> tuple[int, Op]:
    assert isinstance(kept, tuple), "kept by `transmit`"
    index, op = kept
    return index, op
