"""What every checker is: it runs as a task, and reports; it never acts (reference 9.2).

Most of them are a `Test` that `repeat` asks again and again; one that runs a program or measures
all the time is a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
#: Called with each result, in the event loop.
Tell = Callable[[str], None]

#: Addresses of one name that are looked at.
MAX_ADDRESSES = 8


class Checker(Protocol):
    """Watches something while its classes are enabled (prim, both, second, sec, pre)."""

    def enable(self, checker_class: str, on: bool) -> None:
        """Watch, or do not watch any more, what belongs to this class. May be repeated."""

    async def run(self) -> None:
        """Watch until cancelled."""


class Test(ABC):
    """One question, asked again and again."""

    def begin(self) -> None:
        """What was seen so far belongs to an earlier life of the check."""
        return

    @abstractmethod
    async def __call__(self) -> str:
        """The empty text if all is well, else why not; an OSError is a reason as well. It may take
        its time: who asks sets the limit."""


async def repeat(
    test: Test, interval_s: float, timeout_s: float, tell: Tell, first_after_s: float = 0.0
) -> None:
    """Ask until cancelled. A test that takes longer than `timeout_s` has failed; whatever a test
    raises but an OSError is a bug, and is raised here."""
    await asyncio.sleep(first_after_s)
    while True:
        tell(await outcome(test, timeout_s))
        await asyncio.sleep(interval_s)


async def outcome(test: Test, timeout_s: float) -> str:
    """The result of one test, in bounded time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await test()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return in_words(error)


async def first_of(tries: Iterable[Coroutine[Any, Any, T]]) -> T:
    """What the first try says that succeeds; all are made at the same time, and the others are
    given up. Raises the OSError of the last one if none succeeds; there has to be one at least."""
    tasks = [asyncio.ensure_future(each) for each in tries]
    last: OSError | None = None
    try:
        for done in asyncio.as_completed(tasks):
            try:
                return await done
            except OSError as error:
                last = error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert last is not None
    raise last


def in_words(error: OSError) -> str:
    """The kernel's words for it where it has a number: those of asyncio name no reason."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


class Asker:
    """Questions that may block for ever, each in a thread of its own, but never two at a time: who
    asks while one hangs waits for that one's answer instead."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: asyncio.Future[Any] | None = None

    async def ask(self, question: Callable[[], T]) -> T:
        """The answer, or what the question raised. The caller sets the time limit; the thread goes
        on after it, and no other one begins before it has ended."""
        while self._open is not None:
            await asyncio.wait([self._open])
        answer = self._open = self._begin(question)
        return cast(T, await asyncio.shield(answer))

    def _begin(self, question: Callable[[], object]) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()

        def ended(result: object, error: BaseException | None) -> None:
            self._open = None
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)
                answer.exception()  # Nobody may wait for it any more: that is no news.

        def work() -> None:
            result: object = None
            failure: BaseException | None = None
            try:
                result = question()
            except BaseException as error:  # noqa: BLE001  It is raised where it was asked.
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(ended, result, failure)

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return answer


class Names:
    """Turns an address or a name into addresses. A resolver that hangs costs one thread."""

    def __init__(self) -> None:
        self._asker = Asker("resolve")
        #: What the last answer was.
        self.known: tuple[tuple[socket.AddressFamily, str], ...] = ()

    async def addresses(self, host: str) -> list[tuple[socket.AddressFamily, str]]:
        """Family and numeric address, at most `MAX_ADDRESSES`. Raises OSError for a name that
        nobody knows, or that has no address."""
        with contextlib.suppress(ValueError):
            version = ipaddress.ip_address(host).version
            return [(socket.AF_INET6 if version == 6 else socket.AF_INET, host)]
        found = await self._asker.ask(
            lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        known: dict[tuple[socket.AddressFamily, str], None] = {}
        for family, _, _, _, where in found:
            if family in (socket.AF_INET, socket.AF_INET6):
                known[family, str(where[0])] = None
        if not known:
            raise OSError(f"{host} has no address")
        self.known = tuple(known)[:MAX_ADDRESSES]
        return list(self.known)
