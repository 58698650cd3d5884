"""Which systemd units of a module run (reference: userconfig 14.1, `service="yes"`)."""

from __future__ import annotations

from collections.abc import Sequence

from safepy.checkers.hostview import HostView
from safepy.config.schema import Proc


async def count(procs: Sequence[Proc], view: HostView, since_s: float) -> dict[str, int]:
    """1 for each service of `procs` that runs, 0 for each that does not (or that systemd does not
    know). Raises LocalFault when systemd cannot be asked: that says nothing about a service."""
    services = [proc.name for proc in procs if proc.service]
    if not services:
        return {}
    units = await view.services(since_s)
    return {name: int(units[name].runs) if name in units else 0 for name in services}
