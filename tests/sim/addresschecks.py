"""Where the virtual address may be: on the node that leads, and on no other one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safepy.core.state import ModuleState

if TYPE_CHECKING:
    from cluster import Cluster
    from node import Node

#: A retreat closes the gate first and then removes the address; a worker takes a while for it.
GATE_SHUT_S = 1.0
#: After a split brain both nodes have it until the first beats have passed and one has retreated.
BOTH_S = 3.0


class AddressChecks:
    cluster: Cluster
    #: Since when something is as it should not stay, by what it is.
    odd_since: dict[str, float]

    def fail(self, text: str) -> None:
        raise NotImplementedError

    def addresses(self) -> None:
        for node in self.cluster.nodes.values():
            state = node.state
            odd = node.has_address and state is not None and not node.frozen
            odd = odd and not _leads(state) and not state.address_left
            self._not_longer(f"{node.name} has the address, and its gate is shut", odd, GATE_SHUT_S)
        first, second = self.cluster.nodes.values()
        both = first.has_address and second.has_address and self._hear(first, second)
        self._not_longer("both nodes have the address and hear each other", both, BOTH_S)

    def address_set(self, node: Node) -> None:
        """An order that was given while the node led may end a moment after it stopped leading;
        then the order to remove follows."""
        state = node.state
        if state is not None and not _leads(state) and not state.addressed:
            self.fail(f"{node.name} gets the address, and nobody is going to remove it")

    def _hear(self, first: Node, second: Node) -> bool:
        for node in (first, second):
            if node.state is None or node.frozen or not node.powered or node.state.address_left:
                return False
        assert first.state is not None and second.state is not None
        if first.state.record.base != second.state.record.base:
            return False  # Unrelated generations: an operator must choose.
        return any(not lane.cut for lane in self.cluster.network.lanes.values())

    def _not_longer(self, what: str, odd: bool, limit_s: float) -> None:
        now = self.cluster.clock.now
        if not odd:
            self.odd_since.pop(what, None)
        elif now > self.odd_since.setdefault(what, now) + limit_s:
            self.fail(f"{what}, for {limit_s:g} s")


def _leads(state: ModuleState | None) -> bool:
    return state is not None and state.serving
