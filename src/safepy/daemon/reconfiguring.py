"""The verbs that change a module while it runs: a configuration in what may change, `update`, and
maintenance (reference 13.4, 13.5, 18.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from safepy.config import dynamic
from safepy.config.check import check_against
from safepy.core.events import MaintenanceSet
from safepy.daemon import configuring
from safepy.daemon.module import Module
from safepy.daemon.node import Node, active_config
from safepy.daemon.plan import plan_module
from safepy.errors import ConfigError, RequestRefused, SafekitError
from safepy.model import Level, State, Status

#: Where the reference allows a change while the module runs; UP of a light module, as of a farm.
_CHANGEABLE = frozenset(
    {
        (State.ALONE, Status.READY),
        (State.UP, Status.READY),
        (State.WAIT, Status.NOT_READY),
    }
)
_ANSWER_LIMIT_S = 5.0
_UPDATABLE = frozenset({State.ALONE, State.UP})
_MIXED = "stop it first, or wait until it is ALONE or UP Ready, or WAIT NotReady"


def may_change(module: Module) -> bool:
    """Whether the configuration may be changed without a stop now, in what is dynamic."""
    shown = module.snapshot
    return (shown.state, shown.status) in _CHANGEABLE


def require_changeable(module: Module) -> None:
    """Raises RequestRefused."""
    if not may_change(module):
        shown = module.snapshot
        raise RequestRefused(
            f"module {module.name} is {shown.state} {shown.status}: its configuration cannot be "
            "changed now",
            f"safekit stop -m {module.name}; {_MIXED}",
        )


def require_dynamic(module: Module, checked: configuring.Checked) -> None:
    """Only what may change while the module runs has changed. Raises ConfigError, which names the
    rest. Blocks."""
    names = dynamic.objections(
        module.plan.config,
        checked.parsed.config,
        module.plan.paths.safeconf.read_bytes(),
        checked.parsed.expanded_xml,
    )
    if checked.plan.peer != module.plan.peer:
        names.append(f"the other node ({checked.plan.peer} instead of {module.plan.peer})")
    if names:
        raise ConfigError(
            f"module {module.name} is {module.snapshot.state}, and these can be changed only in "
            f"STOP: {', '.join(names)}; nothing is changed",
            f"safekit stop -m {module.name}",
        )


async def reconfigure(
    node: Node,
    module: Module,
    checked: configuring.Checked,
    call_script: Callable[[configuring.Checked, str, bool], Awaitable[None]],
) -> None:
    """Apply a checked configuration to a running module. Raises SafekitError, OSError; then the
    active configuration is the one before, on disk and in the module."""
    await asyncio.to_thread(require_dynamic, module, checked)
    paths = module.plan.paths
    await call_script(checked, "config", False)
    copy = await asyncio.to_thread(configuring.keep_active, paths)
    try:
        try:
            require_changeable(module)
            await asyncio.to_thread(configuring.apply, node.site, checked)
            await call_script(checked, "postconfig", True)
        except (SafekitError, OSError):
            await asyncio.to_thread(configuring.put_back, paths, copy)
            raise
        await module.reconfigure(checked.plan, configuring.SETTINGS)
    finally:
        await asyncio.to_thread(configuring.drop_copy, copy)


class Reconfiguring:
    """Mixed into the manager; see there."""

    _node: Node
    _changing: asyncio.Lock

    async def update(self, module: str, who: str) -> None:
        """`safekit update`: the names of cluster.xml are looked up again, and the script `update`
        is called; in ALONE and UP."""
        async with self._changing:
            found = self._node.get(module)
            shown = found.snapshot
            if shown.state not in _UPDATABLE or shown.status is not Status.READY:
                raise RequestRefused(
                    f"update is not possible: module {module} is {shown.state} {shown.status}",
                    "it must be ALONE Ready, or UP Ready",
                )
            found.voice.say("safekit", Level.USER, f"Action update called by {who}")
            await self._node.refresh_site()
            site, before = self._node.site, found.plan
            cluster, _ = site.require()
            config = await asyncio.to_thread(active_config, before.paths)
            peer = check_against(config, cluster, before.node, file=str(before.paths.safeconf))
            plan = await asyncio.to_thread(
                plan_module, before.paths, before.module_id, config, cluster, before.node, peer
            )
            await found.reconfigure(plan)

    async def maintenance(self, module: str, on: bool, for_s: float, reason: str, who: str) -> None:
        """`safekit maintenance on|off`: nothing happens by itself on this node for `for_s`."""
        found = self._node.get(module)
        word = "on" if on else "off"
        if not on and found.snapshot.maintenance_until == 0:
            raise RequestRefused(f"module {module} is not in maintenance on this node")
        found.voice.say("safekit", Level.USER, f"Action maintenance {word} called by {who}")
        version = found.version
        found.post(MaintenanceSet(found.now_s + for_s if on else None, reason, who))
        # A daemon that ends now must know of it when it is back.
        await found.newer(version, _ANSWER_LIMIT_S)
        await asyncio.to_thread(found.resources.flush)
