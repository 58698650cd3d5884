"""Does something accept connections there? (reference: userconfig 15.2)"""

from __future__ import annotations

import asyncio
import socket

from safepy.checkers.base import Names, Test, in_words
from safepy.config.schema import TcpCheck


class TcpTest(Test):
    """Connects and closes at once; any address of the name will do."""

    def __init__(self, check: TcpCheck) -> None:
        self._check = check
        self._names = Names()

    async def __call__(self) -> str:
        why = f"{self._check.addr} has no address"
        for family, address in await self._names.addresses(self._check.addr):
            try:
                await connected(family, address, self._check.port)
            except OSError as error:
                why = f"{address} port {self._check.port}: {in_words(error)}"
            else:
                return ""
        return why


async def connected(family: socket.AddressFamily, address: str, port: int) -> None:
    """Raises OSError unless somebody accepts the connection."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (address, port))
        # A port of the ephemeral range where nobody listens may be the one that this socket got.
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError(111, "Connection refused")
