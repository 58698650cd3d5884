"""What the core wants to know of an earlier run of the daemon, read from the resources: the counter
of maxloop, which a reboot must not set to zero (reference 9.5), why it had stopped a module by
itself, and a maintenance.

Moments are kept as Unix seconds and become moments on this run's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from safepy.config.vip import addresses
from safepy.core import maintenance
from safepy.core.restarts import FAULT, LoopCount
from safepy.core.state import Maintenance
from safepy.daemon.bootflag import boots
from safepy.daemon.plan import Plan
from safepy.errors import LocalFault
from safepy.host.clock import Clock
from safepy.model import Record
from safepy.storage.resources import Resources

#: Classes of resources that each run has to test anew.
TESTED = (
    *("heartbeat", "heartbeatlocaladdr", "proc", "tcp", "ping", "intf", "ip", "module"),
    *("splitbrain", "disk", "node", "rule", "connections"),
)


@dataclass(frozen=True, slots=True)
class Remembered:
    loop: LoopCount
    fault: str
    maintenance: Maintenance | None


def remembered(resources: Resources, clock: Clock) -> Remembered:
    """Values that are none count as not there."""
    now_s, wall_s = clock.boottime(), clock.wall()
    since_unix_s = min(_number(resources, "heart.stopstartloop"), wall_s)
    count = int(_number(resources, "heart.stopstartcount"))
    loop = LoopCount(now_s - (wall_s - since_unix_s), count) if count > 0 else LoopCount()
    fault = resources.get(FAULT) or ""
    if resources.get(maintenance.RESOURCE) != "on":
        return Remembered(loop, fault, None)
    kept = maintenance.Kept(
        _number(resources, maintenance.UNTIL),
        _number(resources, maintenance.LENGTH),
        resources.get(maintenance.REASON) or "",
        resources.get(maintenance.BY) or "",
    )
    return Remembered(loop, fault, maintenance.taken_up(kept, now_s, wall_s))


def setting(resources: Resources, name: str, default: bool) -> bool:
    """A setting that an operator changed holds until the next `config` (9.6)."""
    value = resources.get(f"usersetting.{name}")
    return default if value is None else value == "on"


def begin_resources(resources: Resources, plan: Plan, keep: bool = False) -> None:
    """What an earlier run knew of lanes, processes and the other node is old, and what the
    configuration names no more is gone (reference 12: `init` = not tested yet). `keep`: the
    module runs, and what is known of the rest stays."""
    config = plan.config
    fresh = {f"proc.{proc.name}": "init" for proc in config.errd.procs}
    fresh |= {check.resource: "init" for check in config.checks}
    counted = [address.addr for address in addresses(config.vip) if address.connections]
    fresh |= {f"connections.{address}": "0" for address in counted}
    for ends in plan.lanes:
        fresh |= {f"heartbeat.{ends.name}": "init", f"heartbeatlocaladdr.{ends.name}": "init"}
    known = fresh.keys() | {rule.resource for rule in config.rules.rules}
    for resource in resources.all():
        tested = resource.name.partition(".")[0] in TESTED
        if tested and resource.name not in known:
            resources.drop(resource.name)
    if plan.peer:
        fresh["state.remote"] = "UNKNOWN"
    for name, value in fresh.items():
        if not keep or resources.get(name) is None:
            resources.set(name, value, "heart", log=False)
    # Settings are there before somebody changes them: scripts ask for their values.
    for name in ("usersetting.errd", "usersetting.encryption"):
        if resources.get(name) is None:
            resources.set(name, "on", "heart", log=False)
    resources.set("usersetting.boot", boots(config.boot, plan.paths), "heart", log=False)


def identified(record: Record, cluster_id: str, plan: Plan) -> Record:
    """The record with the ids of here and now. Raises LocalFault for one of another module or
    node: a copied state folder must not speak for this node (protocol 2.1)."""
    for what, found, here in (
        ("module", record.module, plan.name),
        ("node", record.node, plan.node),
        ("peer", record.peer, plan.peer),
    ):
        if found and found != here:
            raise LocalFault(
                f"the generation record {plan.paths.record} is of {what} {found}, not of {here}",
                f"safekit deconfig -m {plan.name}, then safekit config -m {plan.name}",
            )
    return replace(record, cluster_id=cluster_id, module=plan.name, node=plan.node, peer=plan.peer)


def _number(resources: Resources, name: str) -> float:
    try:
        number = float(resources.get(name) or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
