"""Does the mount of each replicated directory answer? (reference: userconfig 19.12, checktime)

The question is statvfs(2), which the worker answers without waiting for the other node. It is
asked in a thread of its own: on a mount that hangs it comes back only when the mount is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence


def ask(directory: str) -> None:
    """Returns when the mount has answered, whatever it said: an error is an answer, and what it
    means is for others to find out."""
    with contextlib.suppress(OSError):
        os.statvfs(directory)


class MountChecker:
    """Asks each directory every `interval_s` while `serving()`. `on_hung(directory)` is called in
    the event loop when no answer came within `limit_s`, and again as long as none comes."""

    def __init__(
        self,
        directories: Sequence[str],
        limit_s: float,
        interval_s: float,
        serving: Callable[[], bool],
        on_hung: Callable[[str], None],
        question: Callable[[str], None] = ask,
    ) -> None:
        self._directories = tuple(directories)
        self._limit_s = limit_s
        self._interval_s = interval_s
        self._serving = serving
        self._on_hung = on_hung
        self._question = question
        #: The questions that wait for their answer.
        self._open: dict[str, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            if self._serving():
                await asyncio.gather(*map(self._check, self._directories))

    async def _check(self, directory: str) -> None:
        answer = self._open.get(directory)
        if answer is None:  # never two threads that hang in the same place
            answer = self._open[directory] = self._begin(directory)
        done, _ = await asyncio.wait([answer], timeout=self._limit_s)
        if done:
            self._open.pop(directory, None)
        elif self._serving():
            self._on_hung(directory)

    def _begin(self, directory: str) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()

        def answered() -> None:
            if not answer.done():
                answer.set_result(None)

        def work() -> None:
            self._question(directory)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(answered)

        threading.Thread(target=work, name=f"ask {directory}", daemon=True).start()
        return answer
