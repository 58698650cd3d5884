"""Does another module serve, and is it still the same life of it? (reference: userconfig 15.6)

The probe of the other node says both: 200 or 404, and with 200 a mark (ETag) that changes whenever
the module began to serve anew, here or elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from safepy.checkers.base import Names, Test, first_of, in_words
from safepy.config.schema import ModuleCheck

LOCAL = "127.0.0.1"
_MAX_BYTES = 8192
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_MARK = re.compile(rb'^ETag:[ \t]*"([A-Za-z0-9._-]{1,64})"[ \t]*\r$', re.IGNORECASE | re.MULTILINE)


class ModuleTest(Test):
    """`on_restart()` is called when the other module serves again after an end that the last
    tests did not see, or after one that they saw."""

    def __init__(self, check: ModuleCheck, local_port: int, on_restart: Callable[[], None]) -> None:
        self._host = check.addr or LOCAL
        self._port = check.port or local_port
        self._path = f"/var/modules/{check.name}/ready.txt"
        self._name = check.name
        self._on_restart = on_restart
        self._names = Names()
        self._mark = b""

    def begin(self) -> None:
        self._mark = b""

    async def __call__(self) -> str:
        addresses = await self._names.addresses(self._host)
        self._compare(await first_of(self._ready(address) for _, address in addresses))
        return ""

    async def _ready(self, address: str) -> bytes:
        """The mark of the module that serves there. Raises OSError if none does."""
        try:
            status, mark = await self._get(address)
        except OSError as error:
            raise OSError(f"{address} port {self._port}: {in_words(error)}") from error
        if status != 200:
            text = f"module {self._name} is not ready at {address} (HTTP status {status})"
            raise OSError(text)
        return mark

    def _compare(self, mark: bytes) -> None:
        before, self._mark = self._mark, mark or self._mark
        if before and mark and mark != before:
            self._on_restart()

    async def _get(self, address: str) -> tuple[int, bytes]:
        """Status and mark. Raises OSError, also for what is no HTTP answer."""
        reader, writer = await asyncio.open_connection(address, self._port, limit=_MAX_BYTES)
        try:
            host = f"[{address}]" if ":" in address else address
            writer.write(
                f"GET {self._path} HTTP/1.1\r\nHost: {host}:{self._port}\r\n"
                "Connection: close\r\nAccept: text/plain\r\n\r\n".encode("ascii")
            )
            await writer.drain()
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise OSError("what answers there is no web service") from error
        finally:
            writer.close()
        return parse(head)


def parse(head: bytes) -> tuple[int, bytes]:
    """Status and mark of an HTTP answer. Raises OSError for what is none."""
    status = _STATUS.match(head)
    if status is None:
        raise OSError("what answers there is no web service")
    mark = _MARK.search(head)
    return int(status[1]), b"" if mark is None else mark[1]
