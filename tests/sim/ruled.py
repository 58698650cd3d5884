"""Failover rules for the days of the simulator: of each kind that the product ships or generates
from a check, for each action, and rules of a module's own; read by the product's own parser, with
short times."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from safepy.config import userconfig
from safepy.config.schema import ModuleConfig
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.failover.rules import RuleSet
from safepy.daemon.checking import tested

_TARGETS = {
    "tcp": '<to addr="192.0.2.1" port="80"/>',
    "ping": '<to addr="192.0.2.1"/>',
    "custom": "",
    "disk": '<to dir="/srv"/>',
}
#: An action with the states in which its check may look.
_ACTIONS = (
    ("wait", ("pre",)),
    ("stop", ("second", "both")),
    ("stopstart", ("prim", "both")),
    ("restart", ("prim", "second", "both")),
)
_PREFIXES = {"tcp": "t_", "ping": "p_", "custom": "c_", "disk": "d_"}


@dataclass(frozen=True)
class Kind:
    """A check, its element once for each `when`, and the rule that is about it."""

    rule: str
    resource: str
    elements: tuple[str, ...]


def _generated(tag: str, action: str, whens: tuple[str, ...]) -> Kind:
    program = ' exec="test.sh"' if tag == "custom" else ""
    elements = tuple(
        f'<{tag} ident="{action}" when="{when}" action="{action}"{program}>{_TARGETS[tag]}</{tag}>'
        for when in whens
    )
    return Kind(f"{_PREFIXES[tag]}{action}", f"{tag}.{action}", elements)


KINDS = (
    Kind(
        "interface_failure",
        "intf.eth1",
        ('<intf ident="eth1" when="pre"><to local_addr="192.0.2.9"/></intf>',),
    ),
    Kind(
        "ip_failure",
        "ip.vip",
        ('<ip ident="vip" when="prim"><to addr="192.0.2.10"/></ip>',),
    ),
    Kind("module_failure", "module.other_127.0.0.1", ('<module name="other"/>',)),
    *(_generated(tag, action, whens) for tag in _TARGETS for action, whens in _ACTIONS),
    Kind(
        "n_delay",
        "node.delay",
        tuple(
            f'<delay when="both" action="{action}"/>' for action in ("stop", "stopstart", "restart")
        ),
    ),
)
_OWN = """
    better: if (custom.load == down && remote.custom.load == up) then swap();
    lonely: if (custom.flag == down && (cluster() == down || heartbeat.? == down)) then restart();
"""
_SPLITBRAIN = '<splitbrain ident="witness" exec="ping" arg="192.0.2.1"/>'
#: What the core does by itself, and says as a rule.
BUILT_IN = frozenset({"notuptodate_server", "Implicit_wakeup"})


@cache
def _parsed(elements: tuple[str, ...], own: bool) -> ModuleConfig:
    failover = f"<failover><![CDATA[{_OWN}]]></failover>" if own else ""
    text = (
        '<safe><service mode="mirror"><heart><heartbeat name="default"/></heart>'
        '<rfs><replicated dir="/srv/data"/></rfs>'
        f"<check>{''.join(elements)}</check>{failover}</service></safe>"
    )
    return userconfig.parse(text.encode(), "sim", {})


def labels() -> frozenset[str]:
    """Of every rule that days may have. Those with a wait are also told by a node that waits."""
    own = frozenset({"better", "lonely", "splitbrain_failure"})
    return own | BUILT_IN | {kind.rule for kind in KINDS}


@dataclass(frozen=True)
class Rules:
    """What the rules of a day make of its parameters, and what may fail."""

    rules: RuleSet
    checks: tuple[tuple[str, str], ...]
    resources: tuple[str, ...]

    def parameters(self) -> dict[str, object]:
        return {
            "rules": self.rules,
            "checks": self.checks,
            "handle_time_s": 1.0,
            "failover_period_s": 1.0,
        }


def shipped(arbitration: Arbitration) -> Rules:
    """Those that every module has."""
    elements = (_SPLITBRAIN,) if Arbiter.PING in arbitration.required else ()
    return Rules(_parsed(elements, False).rules, (), ())


def drawn(rng: random.Random, arbitration: Arbitration) -> Rules:
    """The shipped ones, those of some checks, and the module's own."""
    kinds = rng.sample(KINDS, 6)
    load = '<custom ident="load" when="both" exec="load.sh"/>'
    elements = tuple(sorted(rng.choice(kind.elements) for kind in kinds))
    split = (_SPLITBRAIN,) if Arbiter.PING in arbitration.required else ()
    config = _parsed((*elements, load, *split), True)
    #: The flag belongs to no checker.
    resources = (*(kind.resource for kind in kinds), "custom.load", "custom.flag")
    return Rules(config.rules, tested(config.checks), resources)
