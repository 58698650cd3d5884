"""May this node take the other one for dead? (reference: userconfig 15.7; protocol 7, E5)

Nothing is tested before the core asks: then every witness is pinged at the same time, and one
answer is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from safepy.checkers.base import Names
from safepy.checkers.ping import any_answers
from safepy.config.schema import SplitbrainCheck
from safepy.errors import LocalFault

WHO = "splitbraincheck"
LOOK_UP_EVERY_S = 60.0


class Witnesses:
    """Those of one module. `report(resource, value, who)` gets what was found out."""

    def __init__(self, check: SplitbrainCheck, report: Callable[[str, str, str], None]) -> None:
        self._check = check
        self._report = report
        self._names = {host: Names() for host in check.witnesses}

    async def keep_names(self) -> str:
        """Look the names up now and then, for the moment in which no name server answers. Without
        end; a name that cannot be resolved now keeps the addresses that it had."""
        while True:
            for host, names in self._names.items():
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(self._check.timeout_s):
                        await names.addresses(host)
            await asyncio.sleep(LOOK_UP_EVERY_S)

    async def ask(self) -> None:
        """Returns if a witness answers here. Raises LocalFault if none does in time."""
        check = self._check
        answered = await any_answers(self._names, check.timeout_s)
        self._report(check.resource, "up" if answered else "down", WHO)
        if not answered:
            shown = ", ".join(check.witnesses)
            raise LocalFault(f"no answer from {shown} within {check.timeout_s:g} s")
