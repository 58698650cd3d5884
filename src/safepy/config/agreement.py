"""What two nodes of a module have to say alike before they work together."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from safepy.config.schema import Errd, ModuleConfig, Rfs, SplitbrainCheck
from safepy.core.failover.rules import Origin, RuleSet
from safepy.core.failover.wording import printed_rules

_LOCAL = Rfs(replicated=())


def digest(config: ModuleConfig) -> str:
    """Equal on both nodes, or they refuse each other.

    Left out is what only says how this node does its own work: when it starts at boot, how much a
    reintegration may load it, waits and tells, and what its scripts find in their environment
    (`<var>`: where this node's programs lie). Nothing of it changes what is replicated, who leads
    or when, so a slower node may have other figures. Checks and `<errd>` look at this
    node and may be changed while the module runs, and with them the rules that they generate; only
    the witnesses say who may serve alone.
    """
    rfs = config.rfs
    if rfs is not None:
        rfs = replace(
            rfs,
            reitimeout_s=_LOCAL.reitimeout_s,
            reidetail=_LOCAL.reidetail,
            reicommit_bytes=_LOCAL.reicommit_bytes,
            reiallowedbw_bytes_s=_LOCAL.reiallowedbw_bytes_s,
            checktime_s=_LOCAL.checktime_s,
            checkintv_s=_LOCAL.checkintv_s,
        )
    written = RuleSet(
        tuple(rule for rule in config.rules.rules if rule.origin is not Origin.GENERATED)
    )
    checks = tuple(each for each in config.checks if isinstance(each, SplitbrainCheck))
    user = config.user and replace(config.user, variables=())
    shared = replace(
        config,
        rfs=rfs,
        user=user,
        errd=Errd(),
        checks=checks,
        rules=RuleSet(),
        boot="",
        boot_delay_s=0.0,
        digest="",
        automatic_reboot=False,
    )
    # Rules as text: encoded as values, `&&` and `||` would look alike.
    encoded = msgspec.json.encode((shared, printed_rules(written)))
    return hashlib.sha256(encoded).hexdigest()[:16]
