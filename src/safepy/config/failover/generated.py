"""Rules that nobody writes: the shipped ones, and one for each check with an action (reference:
userconfig 15.1, 16.4)."""

from __future__ import annotations

from safepy.config.schema import Checks
from safepy.core.failover.conditions import ANY, DOWN, Compare, Constant, Operand
from safepy.core.failover.rules import Action, Origin, Rule

#: Carried out by heartbeats and replication themselves; nothing is left of the data's safety
#: without them, so nobody can switch them off.
BUILT_IN = (
    *("rfs_notuptodate_server", "notuptodate_server", "degraded_server", "rfs_degraded_server"),
    *("rfs_forceuptodate", "rfs_syncat_wait", "Implicit_wakeup"),
)
#: Of configurations before 8.2.3: the class whose checks have a rule each today.
REPLACED = {"tcp_failure": "t_", "ping_failure": "p_"}


def _down(kind: str, ident: str) -> Compare:
    return Compare(Operand(kind, ident), Constant(DOWN))


def shipped(mode: str) -> tuple[Rule, ...]:
    """For whole classes of resources."""
    rules = [
        Rule("module_failure", _down("module", ANY), Action.WAIT, Origin.SHIPPED),
        Rule("interface_failure", _down("intf", ANY), Action.WAIT, Origin.SHIPPED),
        Rule("ip_failure", _down("ip", ANY), Action.STOPSTART, Origin.SHIPPED),
    ]
    if mode == "mirror":
        condition = _down("splitbrain", "uptodate")
        rules.append(Rule("splitbrain_failure", condition, Action.WAIT, Origin.SHIPPED))
    return tuple(rules)


def of_checks(checks: Checks) -> tuple[Rule, ...]:
    """`t_X: if (tcp.X == down) then ...` and so on, where the check says an action."""
    return tuple(
        Rule(check.rule, _down(check.KIND, check.ident), Action(check.action), Origin.GENERATED)
        for check in checks
        if check.rule
    )
