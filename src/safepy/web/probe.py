"""The health probe for load balancers: 200 while this node serves the module, else 404.

`GET /var/modules/AM/ready.txt` on port 9010 (reference 4.4). It reads the last published snapshot
and nothing else, so it answers within milliseconds whatever the module is doing; it tells nobody
more than yes or no (protocol S25), and whether it is still the same yes: the ETag is another one
when the module began to serve anew, which a module that depends on it has to know (reference:
userconfig 15.6).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from aiohttp import web

from safepy.model import Snapshot, State, Status

#: How long after a busy port or a missing address it is tried again.
RETRY_S = 3.0
_KEEPALIVE_S = 15.0

log = logging.getLogger(__name__)


def is_ready(snapshot: Snapshot | None) -> bool:
    """PRIM Ready, ALONE Ready, or of a light module UP Ready."""
    return (
        snapshot is not None
        and snapshot.state in (State.PRIM, State.ALONE, State.UP)
        and snapshot.status is Status.READY
    )


class ReadySince:
    """A mark that nobody can guess, a new one for each time that a module becomes ready."""

    def __init__(self) -> None:
        self.mark = ""
        self._ready = False

    def seen(self, snapshot: Snapshot) -> None:
        """This is published now."""
        ready = is_ready(snapshot)
        if ready and not self._ready:
            self.mark = secrets.token_hex(8)
        self._ready = ready


class Probe:
    """`find` gives the last published snapshot of a module, or None if it is not known here, and
    the mark of the time since which it has been ready.
    `addresses` is asked at each start, since the cluster may be configured meanwhile."""

    def __init__(
        self,
        find: Callable[[str], tuple[Snapshot | None, str]],
        addresses: Callable[[], Sequence[str]],
        port: int,
        retry_s: float = RETRY_S,
    ) -> None:
        self._find = find
        self._addresses = addresses
        self._port = port
        self._retry_s = retry_s
        self._again = asyncio.Event()
        #: Where it listens now.
        self.listening: set[str] = set()

    def renew(self) -> None:
        """Look at the addresses again."""
        self._again.set()

    async def run(self) -> None:
        """Serve until cancelled. A busy port is said once, and tried again."""
        app = web.Application(client_max_size=0)
        app.router.add_get("/var/modules/{module}/ready.txt", self._ready)
        app.on_response_prepare.append(_without_versions)
        # Malformed requests of anybody are no news.
        quiet = logging.getLogger("safepy.web.requests")
        quiet.setLevel(logging.CRITICAL)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=quiet,
            keepalive_timeout=_KEEPALIVE_S,
        )
        await runner.setup()
        complained: set[str] = set()
        sites: dict[str, web.TCPSite] = {}
        try:
            while True:
                self._again.clear()
                # In a thread: a name of the cluster may have to be looked up.
                wanted = set(await asyncio.to_thread(self._addresses))
                for address in set(sites) - wanted:
                    await sites.pop(address).stop()
                for address in sorted(wanted - set(sites)):
                    await self._listen(runner, address, sites, complained)
                self.listening = set(sites)
                await self._wait(None if wanted == set(sites) else self._retry_s)
        finally:
            self.listening = set()
            await runner.cleanup()

    async def _listen(
        self,
        runner: web.AppRunner,
        address: str,
        sites: dict[str, web.TCPSite],
        complained: set[str],
    ) -> None:
        site = web.TCPSite(runner, address, self._port)
        try:
            await site.start()
        except OSError as error:
            if address not in complained:
                complained.add(address)
                log.error(
                    "the health probe cannot listen on %s port %d: %s; trying again",
                    address,
                    self._port,
                    error.strerror or error,
                )
            return
        complained.discard(address)
        sites[address] = site

    async def _wait(self, limit_s: float | None) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._again.wait()
        except TimeoutError:
            return

    async def _ready(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-store"}
        snapshot, mark = self._find(request.match_info["module"])
        if is_ready(snapshot):
            return web.Response(text="OK\n", headers={**headers, "ETag": f'"{mark}"'})
        return web.Response(status=404, text="NOT FOUND\n", headers=headers)


async def _without_versions(_: web.Request, response: web.StreamResponse) -> None:
    """Yes or no, and not what it is made of (S25)."""
    response.headers.pop("Server", None)
