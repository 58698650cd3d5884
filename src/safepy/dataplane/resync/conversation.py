"""Talking on one transfer stream at the source: several requests under way.

Answers come in the order of the requests, so a queue of what to do with them is enough. Their
total size is bounded by WINDOW; nothing waits for a round trip while there is work.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import (
    Answer,
    Barrier,
    Begin,
    Busy,
    End,
    Failed,
    Passed,
    Request,
    ResyncFailed,
    decode_answer,
    encode,
)
from safepy.dataplane.resync.shared import Item, Shared, Work
from safepy.dataplane.resync.tree import Path
from safepy.errors import PeerError
from safepy.net.blocking import BlockingStream

WINDOW = 8

OnAnswer = Callable[[Answer], None]


class Conversation(ABC):
    """Works through items over one stream; used by one thread at a time."""

    def __init__(self, shared: Shared, stream: BlockingStream) -> None:
        self._shared = shared
        self._stream = stream
        self._waiting: deque[OnAnswer] = deque()
        #: What this transfer goes on with before it takes another item: the next part of a
        #: listing or of a large comparison.
        self._next: deque[Callable[[], None]] = deque()
        self._work: Work | None = None
        self._begun = False
        self._open_files: set[int] = set()

    def run(self, work: Work) -> None:
        """Work until the phase is over, then make sure that the target has done it all."""
        self._work = work
        self._begin()
        try:
            while True:
                while len(self._waiting) < WINDOW and self._start():
                    pass
                if self._waiting:
                    self._take_answer()
                elif not work.wait():
                    break
            if work.error is None:
                self.barrier()
        finally:
            for fd in self._open_files:
                os.close(fd)
            self._open_files.clear()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.say(Begin(self._shared.memory.seed))

    def barrier(self, flush: bool = False, settled: bool = False) -> None:
        """Wait until the target has done everything that was sent on this stream; see
        `messages.Barrier`."""

        def passed(answer: Answer) -> None:
            if not isinstance(answer, Passed):
                raise PeerError("unexpected answer")
            self._shared.add_missing(answer.missing)
            self._shared.holding = answer.holding

        self.ask(Barrier(flush, settled), passed)
        while self._waiting:
            self._take_answer()

    def end(self) -> None:
        self.say(End())

    def say(self, request: Request) -> None:
        """Send a request that has no answer, or not yet."""
        data = encode(request)
        self._shared.pace.wait(len(data))
        try:
            self._stream.send(data)
        except PeerError:
            # A target that gave up said why before it went.
            self._stream.shutdown()
            with contextlib.suppress(PeerError):
                while True:
                    self._heard()
            raise

    def _heard(self) -> Answer:
        answer = decode_answer(self._stream.receive())
        if isinstance(answer, Failed):
            raise ResyncFailed(answer.reason, answer.fatal)
        return answer

    def go_on(self, step: Callable[[], None]) -> None:
        """Call `step` when there is room for a further request."""
        self._next.append(step)

    def close_file(self, fd: int) -> None:
        self._open_files.discard(fd)
        os.close(fd)

    def _start(self) -> bool:
        """Start something; False when there is nothing to start now."""
        if self._next:
            self._next.popleft()()
            return True
        assert self._work is not None
        item = self._work.take()
        if item is None:
            return False
        self._perform(item)
        return True

    @abstractmethod
    def _perform(self, item: Item) -> None:
        """Do a piece of work, or begin it."""

    def _add(self, items: Sequence[Item]) -> None:
        assert self._work is not None
        self._work.add(items)

    def ask(self, request: Request, then: OnAnswer) -> None:
        self.say(request)
        self._waiting.append(then)

    def _take_answer(self) -> None:
        while isinstance(answer := self._heard(), Busy):
            pass
        self._waiting.popleft()(answer)

    def _open(self, tree: int, path: Path) -> int | None:
        """The directory, or None when it vanished: then its name is marked."""
        return trees.open_or_none(self._shared.root_fds[tree], path)
