"""The manager's verbs that explain and change nothing: `why`, `plan`, `cost`."""

from __future__ import annotations

from safepy.core.cost import cost
from safepy.core.preview import preview
from safepy.core.why import Why, why
from safepy.daemon.node import Node
from safepy.daemon.refusals import require_possible
from safepy.errors import RequestRefused


class Explaining:
    """Mixed into the manager; see there."""

    _node: Node

    async def why(self, module: str) -> Why:
        """`safekit why`. Raises RequestRefused for a module that is not configured."""
        return why(self._node.get(module).look(), self._node.clock.wall())

    async def plan(self, module: str, action: str) -> tuple[str, ...]:
        """`safekit plan ACTION`: what would happen on this node, a sentence a step."""
        found = self._node.get(module)
        try:
            require_possible(found, action)
        except RequestRefused as refusal:
            return (f"refused, nothing happens: {refusal.message}",)
        return preview(found.state, action, self._node.clock.boottime())

    async def cost(self, module: str, action: str) -> str:
        """What `action` would lose by what is known now, a sentence; "" where nothing would be,
        and where the action itself will be refused."""
        if not self._node.knows(module):
            return ""
        return cost(self._node.snapshot(module), action, self._node.clock.wall())
