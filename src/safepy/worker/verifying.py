"""`rfsverify`: both copies compared by content while they are in use (protocol 8.6, F51).

The primary goes through its tree. Both nodes read a piece into memory beside their loops; then the
primary takes its digests and asks for the secondary's in one turn of its loop, in the stream's
order of operations. So both are of the same moment of the data's history, whatever an application
does, and a difference is a difference. One piece at a time, and a rest after each: low priority.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from stat import S_ISDIR, S_ISREG

from msgspec import structs

from safepy.dataplane.resync import inspection
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.inspection import ABSENT, Digest, Item
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.tree import Path
from safepy.errors import PeerError
from safepy.host.loop import Loop
from safepy.wire import replication as wire

ANSWER_LIMIT_S = 120.0
TELL_INTERVAL_S = 1.0
#: After each piece as long a rest as the piece took, up to this: half of the time is others'.
REST_MAX_S = 0.05
#: So many paths fit in one report to the daemon, whatever they are.
DIFFERENCES_A_MESSAGE = 20
#: Bytes of names in one message; its own maximum is a little more than 1 MiB.
NAMES_BYTES = 256 << 10
MORE_NAMES_MAX = 2_000
#: One question is asked at a time; late answers to earlier ones may still come.
ANSWERS_WAITING_MAX = 16

#: (directory number, path, kind)
Found = tuple[int, bytes, str]
#: (files, bytes, differences found since the last call, done, problem)
Tell = Callable[[int, int, Sequence[Found], bool, str], None]


@dataclass(slots=True)
class _Told:
    files: int = 0
    bytes: int = 0
    waiting: list[Found] = field(default_factory=list)
    at_s: float = 0.0


class Verification:
    """One comparison, led by the primary. `tell` and `send` are called on the loop; `tell` once
    with `done`. The work is done by a thread of its own, digests in order on the loop."""

    def __init__(
        self,
        loop: Loop,
        root_fds: Sequence[int],
        scope: Scope,
        acl: bool,
        send: Callable[[wire.AnyMessage], None],
        tell: Tell,
    ) -> None:
        self._loop = loop
        self._roots = root_fds
        self._scope = scope
        self._acl = acl
        self._send = send
        self._tell = tell
        self._seed = secrets.randbits(63)
        self._told = _Told(at_s=time.monotonic())
        self._number = 0
        self._answers: queue.SimpleQueue[wire.AnyMessage | str] = queue.SimpleQueue()
        self._stop = ""
        #: All that differed, for whoever mends it.
        self.differences: list[Found] = []
        threading.Thread(target=self._run, name="verify", daemon=True).start()

    def answered(self, message: wire.MoreNamesAre | wire.Inspected) -> None:
        """From the stream, on the loop. Raises PeerError for what nobody asked."""
        if self._answers.qsize() >= ANSWERS_WAITING_MAX:
            raise PeerError("answers that nobody asked for")
        self._answers.put(message)

    def stop(self, reason: str) -> None:
        """End soon: on an operator's wish, or because the stream broke."""
        self._stop = self._stop or reason
        self._answers.put(self._stop)

    # -- the thread ----------------------------------------

    def _run(self) -> None:
        problem = ""
        try:
            for tree in range(len(self._roots)):
                self._inspect_all(tree, (), [(b".", 0, 0)])
                pending: list[Path] = [()]
                while pending:
                    pending += self._directory(tree, pending.pop())
        except PeerError as error:
            problem = str(error)
        except OSError as error:
            problem = f"reading here failed: {error.strerror}"
        self._tell_now(done=True, problem=problem)

    def _names(self, tree: int, path: Path) -> list[bytes]:
        dir_fd = trees.open_or_none(self._roots[tree], path)
        if dir_fd is None:
            return []
        try:
            return self._scope.names(tree, path, dir_fd)
        finally:
            os.close(dir_fd)

    def _statuses(
        self, tree: int, path: Path, names: Sequence[bytes]
    ) -> list[tuple[bytes, os.stat_result | None]]:
        """What stands here at these names of one directory; None: nothing."""
        dir_fd = trees.open_or_none(self._roots[tree], path)
        if dir_fd is None:
            return [(name, None) for name in names]
        try:
            return [(name, trees.status(dir_fd, name)) for name in names]
        finally:
            os.close(dir_fd)

    def _directory(self, tree: int, path: Path) -> list[Path]:
        """Compare the names of a directory; the directories that are in it here."""
        names = self._names(tree, path)
        below: list[Path] = []
        after = b""
        for start, end in _portions(names):
            portion = names[start:end]
            upto = portion[-1] if end < len(names) else b""
            more = self._more_names(tree, path, after, upto, portion)
            after = upto
            found = self._statuses(tree, path, sorted({*portion, *more}))
            self._files(tree, path, found)
            below += [(*path, name) for name, st in found if st and S_ISDIR(st.st_mode)]
        return below

    def _files(
        self, tree: int, path: Path, statuses: Sequence[tuple[bytes, os.stat_result | None]]
    ) -> None:
        batch: list[Item] = []
        size = 0
        for name, found in statuses:
            length = found.st_size if found is not None and S_ISREG(found.st_mode) else 0
            if length > inspection.BYTES_MAX:
                self._large(tree, path, name, length)
                continue
            if len(batch) >= inspection.ITEMS_MAX or size + length > inspection.BYTES_MAX:
                self._inspect_all(tree, path, batch)
                batch, size = [], 0
            batch.append((name, 0, length))
            size += length
        if batch:
            self._inspect_all(tree, path, batch)

    def _large(self, tree: int, path: Path, name: bytes, length: int) -> None:
        for offset in range(0, length, inspection.BYTES_MAX):
            if not self._inspect_all(tree, path, [(name, offset, inspection.BYTES_MAX)]):
                return  # once is enough to know it

    def _inspect_all(self, tree: int, path: Path, items: Sequence[Item]) -> bool:
        """Compare a piece; whether all of it is equal."""
        begun_s = time.monotonic()
        joined = b"/".join(path)
        request = wire.Inspect(0, tree, joined, tuple(items), self._seed, warm=True)
        self._ask(request, lambda: self._inspect(tree, path, items))
        ours, answer = self._ask(
            wire.Inspect(0, tree, joined, tuple(items), self._seed),
            lambda: self._inspect(tree, path, items),
            on_loop=True,
        )
        if not isinstance(answer, wire.Inspected) or len(answer.digests) != len(items):
            raise PeerError("the secondary answered something else")
        equal = True
        for (name, offset, length), mine, theirs in zip(items, ours, answer.digests, strict=True):
            kind = _kind(mine, theirs)
            whole = b"/".join((*path, name)) if name != b"." else joined
            if kind:
                equal = False
                self.differences.append((tree, whole, kind))
                self._told.waiting.append((tree, whole, kind))
            if offset == 0:
                self._told.files += 1
            self._told.bytes += length
        now_s = time.monotonic()
        if now_s - self._told.at_s > TELL_INTERVAL_S:
            self._tell_now()
        time.sleep(min(REST_MAX_S, now_s - begun_s))
        return equal

    def _more_names(
        self, tree: int, path: Path, after: bytes, upto: bytes, known: Sequence[bytes]
    ) -> list[bytes]:
        request = wire.MoreNames(0, tree, b"/".join(path), after, upto, tuple(known))
        _, answer = self._ask(request, list)
        if not isinstance(answer, wire.MoreNamesAre):
            raise PeerError("the secondary answered something else")
        return [n for n in answer.names if not self._scope.excludes(tree, (*path, n), False)]

    def _inspect(self, tree: int, path: Path, items: Sequence[Item]) -> list[Digest]:
        return inspection.inspect(self._roots[tree], path, items, self._seed, self._acl)

    def _ask(
        self,
        request: wire.MoreNames | wire.Inspect,
        work: Callable[[], list[Digest]],
        on_loop: bool = False,
    ) -> tuple[list[Digest], wire.MoreNamesAre | wire.Inspected]:
        """Send a request and do our own part: beside the loop, or in the turn it is sent in."""
        self._number += 1
        number = self._number
        numbered = structs.replace(request, number=number)
        done: queue.SimpleQueue[list[Digest] | OSError] = queue.SimpleQueue()

        def send() -> None:
            if self._stop:
                return  # the answer says so
            self._send(numbered)
            if on_loop:
                try:
                    done.put(work())
                except OSError as error:
                    done.put(error)

        self._loop.post(send)
        ours = [] if on_loop else work()
        answer = self._answer(number)
        if on_loop:
            result = done.get()
            if isinstance(result, OSError):
                raise result
            ours = result
        return ours, answer

    def _answer(self, number: int) -> wire.MoreNamesAre | wire.Inspected:
        while True:
            try:
                answer = self._answers.get(timeout=ANSWER_LIMIT_S)
            except queue.Empty:
                raise PeerError(f"no answer for {ANSWER_LIMIT_S:.0f} s") from None
            if isinstance(answer, str):
                raise PeerError(answer)
            assert isinstance(answer, wire.MoreNamesAre | wire.Inspected)
            if answer.error:
                raise PeerError(f"reading on the other node failed: {answer.error}")
            if answer.number == number:
                return answer

    def _tell_now(self, done: bool = False, problem: str = "") -> None:
        told = self._told
        told.at_s = time.monotonic()
        found, told.waiting = told.waiting, []
        files, size = told.files, told.bytes

        def tell() -> None:
            for start in range(0, len(found), DIFFERENCES_A_MESSAGE):
                self._tell(files, size, found[start : start + DIFFERENCES_A_MESSAGE], False, "")
            if done or not found:
                self._tell(files, size, (), done, problem)

        self._loop.post(tell)


def _kind(mine: Digest, theirs: Digest) -> str:
    for side, digest in (("prim", mine), ("second", theirs)):
        if inspection.UNREADABLE in digest:
            return f"unreadable on {side}"
    if mine == theirs:
        return ""
    if mine == ABSENT:
        return "missing on prim"
    if theirs == ABSENT:
        return "missing on second"
    return "attributes" if mine[1] == theirs[1] else "content"


def _portions(names: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """(start, end) of names that fit in a message; one empty portion for no names."""
    start = size = 0
    for index, name in enumerate(names):
        size += len(name) + 8
        if size > NAMES_BYTES:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(names) or not names:
        yield start, len(names)
