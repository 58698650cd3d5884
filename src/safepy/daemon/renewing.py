"""Parts of a running module that a changed configuration exchanges for new ones."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar


class Runs(Protocol):
    async def run(self) -> None:
        """Work until cancelled, or until there is nothing to do."""
        ...


P = TypeVar("P", bound=Runs)


class Renewable(Generic[P]):
    """One part, running; `renew` ends it and runs another one in its place. A part begins with
    nothing enabled: the core tells it what to do when the parameters are exchanged as well."""

    def __init__(self, part: P) -> None:
        self.part = part
        self._renewed = asyncio.Event()
        self._idle = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; a bug in a part is raised."""
        while True:
            self._renewed.clear()
            self._idle.clear()
            work = asyncio.create_task(self.part.run())
            renewed = asyncio.create_task(self._renewed.wait())
            try:
                await asyncio.wait((work, renewed), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                    await renewed
            finally:
                for task in (work, renewed):
                    task.cancel()
                await asyncio.wait((work, renewed))
                self._idle.set()
            if not work.cancelled():
                work.result()

    async def renew(self, part: P) -> None:
        """`part` takes the place, as soon as the one before has ended and let go of what it held
        (sockets)."""
        self.part = part
        self._renewed.set()
        await self._idle.wait()
