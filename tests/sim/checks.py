"""What must be true of the two nodes together; no node can see it (design-examples 8, habit 13).

Inside the fault model: a write that was acknowledged is on whichever node leads next; stable
ones survive everything but force, volatile ones any single failure. Outside it (a second failure
before the pair has recovered, force, an isolation that E6 cannot tell from a death) the checks
say what is still promised: what diverged is found again among the files kept aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safepy.core.state import FROZEN, ModuleState
from safepy.model import Active, Disk, Gate, Record

if TYPE_CHECKING:
    from cluster import Cluster
    from node import Node
    from twin import Write


class Broken(AssertionError):
    """A promise was broken."""


class Checks:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: number -> stable. Every one of them must be on whoever leads next.
        self.owed: dict[int, bool] = {}
        #: Acknowledged by one of two isolated leaders: on the final leader, or kept aside.
        self.diverged: dict[int, bool] = {}
        #: A total isolation lies between now and the last time the pair was in sync.
        self.split_possible = False
        self.was_serving: dict[str, bool] = {}
        self.acknowledged_count = 0
        self.splits = 0

    def fail(self, text: str) -> None:
        raise Broken(f"{text}\n{self.cluster.tail(120)}")

    # -- what happens ----------------------------------------------------------------------------

    def acknowledged(self, node: Node, write: Write) -> None:
        self.acknowledged_count += 1
        other = self.cluster.other(node)
        worker = node.worker
        if other.worker is not None and other.worker.can_answer_new() and not self.split_possible:
            self.fail(f"{node.name} answers write {write.number} while {other.name} could as well")
        if write.number not in node.disk.tree:
            self.fail(f"{node.name} acknowledged {write.number} without having it")
        if node.disk.record.disk is not Disk.UPTODATE:
            self.fail(f"{node.name} serves while {node.disk.record.disk}")
        alone = worker is not None and worker.mode is Gate.ALONE
        if alone and not node.disk.record.peer_behind:
            self.fail(f"{node.name} answers alone without having left the peer behind durably")
        if alone and not node.disk.record.modified:
            self.fail(f"{node.name} answers alone without a record of its first modification")
        if alone and self.split_possible:
            self.diverged[write.number] = write.stable
        else:
            self.owed[write.number] = write.stable

    def fails(self, node: Node, power: bool) -> None:
        """A failure is about to happen to `node`: what may be lost by it?"""
        other = self.cluster.other(node)
        # A node that lost its stream and asks for permission has failed once already: if the
        # other one heard the claim, both copies are needed to know what was acknowledged.
        asking = node.state is not None and node.state.link in FROZEN
        whole = other.healthy and not asking
        if whole and not power:
            return
        elsewhere = other.has() if whole else other.disk.stable & node.disk.stable
        for promised in (self.owed, self.diverged):
            for number in [n for n, stable in promised.items() if not stable]:
                if number in elsewhere or (whole and number in node.disk.stable):
                    continue
                del promised[number]

    def slept_unnoticed(self, node: Node) -> None:
        """A frozen machine whose clock stood still cannot know that it slept. If the other node
        led meanwhile and is gone, its silence looks like any other: E6 is a heuristic."""
        other = self.cluster.other(node)
        if other.state is None or other.frozen or not other.powered or not other.state.serving:
            self._isolation_begins()

    def saved(self, node: Node, old: Record, new: Record) -> None:
        if new.epoch < old.epoch or new.promised < old.promised:
            self.fail(f"{node.name}: an epoch went back")
        if old.disk is Disk.INCONSISTENT and new.disk is Disk.UPTODATE:
            source = self.cluster.other(node).disk
            if not new.forced and source.record.peer_behind and source.record.gen == new.gen:
                self.fail(f"{node.name} adopted before its source cleared peer_behind (I11)")
        if new.active is Active.SECONDARY and new.disk is Disk.UPTODATE and new.peer_behind:
            self.fail(f"{node.name}: a secondary claims that the other is behind")

    def stepped(self, node: Node, before: ModuleState, after: ModuleState) -> None:
        if after.serving and not before.serving:
            self.leads(node)

    def leads(self, node: Node) -> None:
        """The gate of `node` opens."""
        record = node.disk.record
        if record.disk is not Disk.UPTODATE:
            self.fail(f"{node.name} opens its gate with data that is {record.disk}")
        if record.forced:
            self._diverge({n for n in self.owed if n not in node.disk.tree})
        missing = sorted(n for n in self.owed if n not in node.disk.tree)
        if missing:
            self.fail(f"{node.name} leads without acknowledged writes {missing[:5]}")

    def after_each(self) -> None:
        cluster = self.cluster
        if cluster.isolated and not self.split_possible:
            self._isolation_begins()
        first, second = cluster.nodes.values()
        if first.worker is None or second.worker is None:
            return
        if first.worker.can_answer_new() and second.worker.can_answer_new():
            if not self.split_possible:
                self.fail("two gates can answer a new modification at the same time")
            self.splits += 1

    def _isolation_begins(self) -> None:
        """From here both may lead: what only one of them has is found kept aside at worst."""
        self.split_possible = True
        first, second = (node.disk.tree for node in self.cluster.nodes.values())
        self._diverge({n for n in self.owed if n not in first or n not in second})

    def _diverge(self, numbers: set[int]) -> None:
        for number in numbers:
            self.diverged[number] = self.owed.pop(number)

    # -- at rest ---------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """The pair is PRIM and SECOND and nothing is in flight."""
        first, second = self.cluster.nodes.values()
        if first.disk.tree != second.disk.tree:
            odd = sorted(first.disk.tree ^ second.disk.tree)
            self.fail(f"in sync, but the trees differ in {odd[:5]}")
        kept = first.disk.kept | second.disk.kept
        gone = sorted(n for n in self.diverged if n not in first.disk.tree and n not in kept)
        if gone:
            self.fail(f"writes of a split brain are neither served nor kept aside: {gone[:5]}")
        missing = sorted(n for n in self.owed if n not in first.disk.tree)
        if missing:
            self.fail(f"acknowledged writes are gone: {missing[:5]}")
        self.diverged.clear()
        if not self.cluster.isolated:
            self.split_possible = False
