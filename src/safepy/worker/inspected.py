"""The secondary's part of `rfsverify`: it answers what its tree holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from safepy.dataplane.resync import inspection
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.secondary import Secondary
from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.wire import replication as wire
from safepy.worker.common import in_thread
from safepy.worker.verifying import MORE_NAMES_MAX

Send = Callable[[wire.AnyMessage], None]


def answer(
    loop: Loop,
    secondary: Secondary,
    root_fds: Sequence[int],
    acl: bool,
    send: Send,
    message: wire.Inspect | wire.MoreNames,
) -> None:
    """Answer one question. Raises PeerError for one that is none."""
    if not 0 <= message.tree < len(root_fds):
        raise PeerError(f"there is no directory number {message.tree}")
    root_fd, path = root_fds[message.tree], trees.split(message.path)
    if isinstance(message, wire.MoreNames):
        _more_names(loop, root_fd, path, send, message)
        return
    _check(message)
    if not message.warm:
        secondary.apply_received()
        send(_inspected(root_fd, path, acl, message))
        return

    def warmed(error: str) -> None:
        send(wire.Inspected(message.number, (), error))

    def warm() -> None:
        inspection.inspect(root_fd, path, message.items, message.seed, acl)

    in_thread(loop, "verify-warm", warm, warmed)


def _check(message: wire.Inspect) -> None:
    """Single names only, and no more work at once than we would ask for ourselves (S4, S8)."""
    if len(message.items) > inspection.ITEMS_MAX or not 0 <= message.seed < 1 << 64:
        raise PeerError("too much is asked at once")
    total = 0
    for name, offset, length in message.items:
        if not name or b"/" in name or b"\0" in name or name == b"..":
            raise PeerError("a question about something that is no name")
        if not (0 <= offset < 1 << 63 and 0 <= length <= inspection.BYTES_MAX):
            raise PeerError("a question about no part of a file")
        total += length
    if total > inspection.BYTES_MAX:
        raise PeerError("too much is asked at once")


def _inspected(root_fd: int, path: trees.Path, acl: bool, message: wire.Inspect) -> wire.Inspected:
    try:
        digests = inspection.inspect(root_fd, path, message.items, message.seed, acl)
    except OSError as error:
        return wire.Inspected(message.number, (), os.strerror(error.errno or 0))
    return wire.Inspected(message.number, tuple(digests))


def _more_names(
    loop: Loop, root_fd: int, path: trees.Path, send: Send, message: wire.MoreNames
) -> None:
    found: list[bytes] = []

    def work() -> None:
        found.extend(
            inspection.further_names(
                root_fd, path, message.after, message.upto, message.names, MORE_NAMES_MAX
            )
        )

    def worked(error: str) -> None:
        send(wire.MoreNamesAre(message.number, tuple(found), error))

    in_thread(loop, "verify-names", work, worked)
