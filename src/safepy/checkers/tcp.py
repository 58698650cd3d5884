"""Does something accept connections there? (reference: userconfig 15.2)"""

from __future__ import annotations

import asyncio
import socket

from safepy.checkers.base import Names, Test, first_of, in_words
from safepy.config.schema import TcpCheck


class TcpTest(Test):
    """Connects and closes at once; any address of the name will do."""

    def __init__(self, check: TcpCheck) -> None:
        self._check = check
        self._names = Names()

    async def __call__(self) -> str:
        addresses = await self._names.addresses(self._check.addr)
        await first_of(self._try(family, address) for family, address in addresses)
        return ""

    async def _try(self, family: socket.AddressFamily, address: str) -> None:
        port = self._check.port
        try:
            await connected(family, address, port)
        except OSError as error:
            raise OSError(f"{address} port {port}: {in_words(error)}") from error


async def connected(family: socket.AddressFamily, address: str, port: int) -> None:
    """Raises OSError unless somebody accepts the connection."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (address, port))
        # A port of the ephemeral range where nobody listens may be the one that this socket got.
        if connection.getsockname() == connection.getpeername():
            raise ConnectionRefusedError(111, "Connection refused")
