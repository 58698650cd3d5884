"""A small set of failover rules for the days of the simulator, one for each action and kind of
checker, with short times."""

from __future__ import annotations

from safepy.config.failover import grammar
from safepy.config.failover.places import Source
from safepy.config.xml import Section
from safepy.core.failover.rules import RuleSet

_TEXT = """
    p_router: if (ping.router == down) then wait();
    t_sql: if (tcp.sql == down) then restart();
    c_disk: if (custom.disk == down) then stopstart();
    c_fatal: if (custom.fatal == down) then stop();
    better: if (custom.load == down && remote.custom.load == up) then swap();
    lonely: if (custom.flag == down && (cluster() == down || heartbeat.? == down)) then restart();
"""
CHECKS = (
    ("ping.router", "pre"),
    ("tcp.sql", "prim"),
    ("custom.disk", "both"),
    ("custom.fatal", "second"),
    ("custom.load", "both"),
)
#: What may fail; the flag belongs to no checker.
RESOURCES = (*(name for name, _ in CHECKS), "custom.flag")


def parameters() -> dict[str, object]:
    return {
        "rules": RuleSet(grammar.parse(Source("sim", Section(1, 1, _TEXT)))),
        "checks": CHECKS,
        "handle_time_s": 1.0,
        "failover_period_s": 1.0,
    }
