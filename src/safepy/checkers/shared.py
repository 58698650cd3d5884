"""One answer for everybody who asks at about the same time: thirty-two modules look at the
processes of this host, and it is looked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from safepy.errors import LocalFault

T = TypeVar("T")


class Shared(Generic[T]):
    """`find_out` never runs twice at the same time. An answer is given out for `max_age_s`.

    `find_out` may hang (a thread in /proc): then whoever waits gets a LocalFault after `limit_s`,
    and it is not begun again before it has come back.
    """

    def __init__(
        self, find_out: Callable[[], Awaitable[T]], what: str, max_age_s: float, limit_s: float
    ) -> None:
        self._find_out = find_out
        self._what = what
        self._max_age_s = max_age_s
        self._limit_s = limit_s
        self._begun_s = float("-inf")
        self._answer: asyncio.Future[T] | None = None

    async def since(self, moment_s: float) -> T:
        """What was found out by a try that began after `moment_s` (the loop's time), and lately.

        Raises LocalFault when there is no answer in time, and whatever `find_out` raises.
        """
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        fresh_s, until_s = max(moment_s, now_s - self._max_age_s), now_s + self._limit_s
        while True:
            answer = self._answer
            if answer is None or (answer.done() and self._begun_s < fresh_s):
                answer = self._begin(loop)
            begun_s = self._begun_s
            done, _ = await asyncio.wait([answer], timeout=until_s - loop.time())
            if not done:
                raise LocalFault(f"{self._what}: no answer within {self._limit_s:g} s")
            if begun_s >= fresh_s:
                return answer.result()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
        self._begun_s = loop.time()
        # A task of nobody's: who asks may go away, and the others still want the answer.
        self._answer = asyncio.ensure_future(self._find_out())
        return self._answer
