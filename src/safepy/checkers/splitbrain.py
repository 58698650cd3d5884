"""May this node take the other one for dead? (reference: userconfig 15.7; protocol 7, E5)

Nothing is tested before the core asks: then every witness is pinged at the same time, and one
answer is enough.
"""

from __future__ import annotations

from collections.abc import Callable

from safepy.checkers.ping import any_answers
from safepy.config.schema import SplitbrainCheck
from safepy.errors import LocalFault

WHO = "splitbraincheck"


class Witnesses:
    """Those of one module. `report(resource, value, who)` gets what was found out."""

    def __init__(self, check: SplitbrainCheck, report: Callable[[str, str, str], None]) -> None:
        self._check = check
        self._report = report

    async def ask(self) -> None:
        """Returns if a witness answers here. Raises LocalFault if none does in time."""
        check = self._check
        answered = await any_answers(check.witnesses, check.timeout_s)
        self._report(check.resource, "up" if answered else "down", WHO)
        if not answered:
            shown = ", ".join(check.witnesses)
            raise LocalFault(f"no answer from {shown} within {check.timeout_s:g} s")
