"""Which systemd units of a module run (reference: userconfig 14.1, `service="yes"`)."""

from __future__ import annotations

from collections.abc import Sequence

from safepy.checkers.hostview import HostView
from safepy.config.schema import Proc


async def count(
    procs: Sequence[Proc], view: HostView, since_s: float
) -> tuple[dict[str, int], list[str]]:
    """1 for each service of `procs` that runs, 0 for each that does not (or that systemd does not
    know), and those about which systemd says nothing at all: nothing is known of them.

    Raises LocalFault when systemd cannot be asked.
    """
    services = [proc.name for proc in procs if proc.service]
    if not services:
        return {}, []
    units = await view.services(since_s)
    told = {name: int(units[name].runs) for name in services if name in units}
    return told, [name for name in services if name not in told]
