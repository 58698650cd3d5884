"""Has the interface that carries an address its link? (reference: userconfig 15.4)"""

from __future__ import annotations

from safepy.checkers.base import Asker, Test
from safepy.config.schema import IntfCheck
from safepy.host.interfaces import flags_of, interface_of


class IntfTest(Test):
    """An address that is nowhere has no interface, so it has no link either."""

    def __init__(self, check: IntfCheck) -> None:
        self._address = check.local_addr
        self._asker = Asker(check.resource)

    async def __call__(self) -> str:
        return await self._asker.ask(lambda: link_missing(self._address))


def link_missing(address: str) -> str:
    """Why there is no link; "": there is. Raises OSError."""
    name = interface_of(address)
    if name is None:
        return f"no interface has the address {address}"
    flags = flags_of(name)
    if not flags.up:
        return f"the interface {name} is switched off"
    return "" if flags.running else f"the interface {name} has no link"
