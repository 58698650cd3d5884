"""What an administrator has switched off does not happen: nothing by itself in maintenance, no
take-over with failover off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safepy.core import maintenance
from safepy.core.failover.rules import Action
from safepy.core.state import ModuleState, Phase
from safepy.core.transitions import Cause

if TYPE_CHECKING:
    from node import Node

#: A waiting node names the rule that keeps it there; that moves nothing.
_MOVES = frozenset(Action) - {Action.WAIT}


class WishChecks:
    def fail(self, text: str) -> None:
        raise NotImplementedError

    def nothing_by_itself(self, node: Node, before: ModuleState, after: ModuleState) -> None:
        takes_over = after.phase is Phase.TAKING_OVER and before.phase is not Phase.TAKING_OVER
        # A swap is an administrator's wish, on whichever node.
        by_itself = takes_over and after.take_over_cause is not Cause.SWAP
        if by_itself and not (before.failover and after.failover):
            self.fail(f"{node.name} takes over with failover off")
        if not maintenance.on(after):
            return
        if by_itself:
            self.fail(f"{node.name} takes over in maintenance")
        if after.acting != before.acting and after.acting[0] in _MOVES:
            self.fail(f"rule {after.acting[1]} acts on {node.name} in maintenance")
