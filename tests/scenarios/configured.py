"""The lines `xml ...` of a story: what stands in <service> beside <heart>, read by the product's
own parser, as parameters of the core."""

from __future__ import annotations

from safepy.config import userconfig
from safepy.daemon.checking import arbitration_of, tested

HEAD = '<safe><service mode="mirror"><heart><heartbeat name="default"/></heart>'


def parameters(lines: list[str]) -> dict[str, object]:
    """Rules, checks and times; nothing if there are no such lines."""
    if not lines:
        return {}
    text = HEAD + "\n".join(lines) + "</service></safe>"
    config = userconfig.parse(text.encode(), "story", {})
    return {
        "rules": config.rules,
        "failover_period_s": config.failover_period_s,
        "handle_time_s": config.handle_time_s,
        "maxloop": config.maxloop,
        "errd_classes": frozenset(proc.checker_class for proc in config.errd.procs),
        "checks": tested(config.checks),
        "arbitration": arbitration_of(config.checks),
    }
