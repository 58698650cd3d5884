"""What must be true of the two nodes together; no node can see it (design-examples 8, habit 13).

Each promise and invariant of the protocol (1 and 3) that the core keeps is a method whose name
begins with its number; docs/failures.md lists them, and those that the data path keeps.

Inside the fault model: a write that was acknowledged is on whichever node leads next; stable
ones survive everything but force, volatile ones any single failure. Outside it (a second failure
before the pair has recovered, force, an isolation that E5 or E6 cannot tell from a death) the
checks say what is still promised: what diverged is found again among the files kept aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from addresschecks import AddressChecks
from markchecks import MarkChecks
from wishchecks import WishChecks

from safepy.core import quiet
from safepy.core.events import Event
from safepy.core.machine import whole_step
from safepy.core.reunion import ancestors
from safepy.core.state import FROZEN, Link, ModuleState, Phase
from safepy.model import Active, Disk, Gate, Record, State

if TYPE_CHECKING:
    from cluster import Cluster
    from node import Node
    from twin import Write

TIMEOUT_S = 4.0


class Broken(AssertionError):
    """A promise was broken."""


class Checks(MarkChecks, AddressChecks, WishChecks):
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: number -> stable. Every one of them must be on whoever leads next.
        self.owed: dict[int, bool] = {}
        #: Of those, the ones that a secondary acknowledged: both nodes had them.
        self.shared: set[int] = set()
        #: Acknowledged by one of two isolated leaders: on the final leader, or kept aside.
        self.diverged: dict[int, bool] = {}
        #: A total isolation lies between now and the last time the pair was in sync.
        self.split_possible = False
        #: Who got the right to go on alone from a period that both shared, by its epoch (I3).
        self.went_alone: dict[int, str] = {}
        #: The generation of the last answer that was given (P4).
        self.newest_gen = ""
        self.acknowledged_count = 0
        self.splits = 0
        self.taken_quietly = 0
        self.odd_since: dict[str, float] = {}

    def fail(self, text: str) -> None:
        raise Broken(f"{text}\n{self.cluster.tail(120)}")

    # -- what happens ----------------------------------------------------------------------------

    def acknowledged(self, node: Node, write: Write) -> None:
        self.acknowledged_count += 1
        self.newest_gen = node.disk.record.gen
        self.p3_single_lineage_at_answer(node, write)
        self.i1_both_have_it_before_the_answer(node, write)
        self.i2_serves_only_good_data(node)
        alone = node.worker is not None and node.worker.mode is Gate.ALONE
        if alone:
            self.i4_left_behind_and_modified_are_durable(node)
        if alone and self.split_possible:
            self.diverged[write.number] = write.stable
        else:
            self.owed[write.number] = write.stable
            if not alone:
                self.shared.add(write.number)

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
        self.i13_numbers_do_not_go_back(node, old, new)
        self.i11_source_records_before_the_target_adopts(node, old, new)
        if new.active is Active.SECONDARY and new.disk is Disk.UPTODATE and new.peer_behind:
            self.fail(f"{node.name}: a secondary claims that the other is behind")

    def stepped(self, node: Node, before: ModuleState, after: ModuleState) -> None:
        if after.serving and not before.serving:
            self.i2_serves_only_good_data(node)
            if node.disk.record.forced:
                self._diverge({n for n in self.owed if n not in node.disk.tree})
                if self.cluster.other(node).disk.record.peer_behind:
                    # Two nodes may lead from here on, by an operator's word.
                    self.split_possible = True
            self.p1_p2_what_was_acknowledged_is_here(node)
            self.p4_never_stale_by_itself(node)
        self.i3_one_permission_for_one_period(node, before, after)
        self.nothing_by_itself(node, before, after)

    def nothing_new_was_left_out(
        self, node: Node, before: ModuleState, event: Event, after: ModuleState
    ) -> None:
        """What was taken in without a whole step is what a whole step makes of it."""
        now = max(node.clock_now(), before.now)
        if quiet.taken(before, event, now) is None:
            return
        self.taken_quietly += 1
        whole, commands = whole_step(before, event, now)
        whole.due = after.due  # A later one: nothing is lost by waking for the earlier one.
        if commands or whole != after:
            odd = [
                f"{name}: {value} instead of {vars(after)[name]}"
                for name, value in vars(whole).items()
                if value != vars(after)[name]
            ]
            self.fail(f"{node.name}: a whole step would have said {commands}, changed {odd}")

    def after_each(self) -> None:
        cluster = self.cluster
        if cluster.isolated and not self.split_possible:
            self._isolation_begins()
        self.p3_single_lineage()
        self.addresses()

    def asks_witness(self, node: Node) -> None:
        self.i20_asks_after_a_whole_start_window(node)

    def first_byte_changes(self, node: Node) -> None:
        self.i10_durably_inconsistent_before_the_first_byte(node)
        self.i14_a_serving_node_is_no_target(node)

    def uncovers(self, node: Node) -> None:
        self.i18_covered_while_the_application_may_run(node)

    def application_starts(self, node: Node) -> None:
        self.i18_covered_while_the_application_may_run(node)

    # -- promises (protocol 1) ---------------------------------------------------------------------

    def p1_p2_what_was_acknowledged_is_here(self, node: Node) -> None:
        """P1 and P2; which of the two a write is owed by is decided when something fails."""
        missing = sorted(n for n in self.owed if n not in node.disk.tree)
        if missing:
            self.fail(f"{node.name} leads without acknowledged writes {missing[:5]}")

    def p3_single_lineage_at_answer(self, node: Node, write: Write) -> None:
        """P3: nobody else could answer at the same moment."""
        other = self.cluster.other(node)
        if other.worker is not None and other.worker.can_answer_new() and not self.split_possible:
            self.fail(f"{node.name} answers write {write.number} while {other.name} could as well")

    def p3_single_lineage(self) -> None:
        """P3: with a sound arbiter always, with E5 and E6 unless the nodes were isolated."""
        first, second = self.cluster.nodes.values()
        if first.worker is None or second.worker is None:
            return
        if first.worker.can_answer_new() and second.worker.can_answer_new():
            if not self.split_possible:
                self.fail("two gates can answer a new modification at the same time")
            self.splits += 1

    def p4_never_stale_by_itself(self, node: Node) -> None:
        """P4: whoever leads continues the generation that answered last."""
        record = node.disk.record
        if self.split_possible or record.forced or not self.newest_gen:
            return
        if self.newest_gen not in ancestors(record) | {record.gen}:
            self.fail(f"{node.name} serves a generation that is not the newest (P4)")

    # -- invariants (protocol 3) -------------------------------------------------------------------

    def i1_both_have_it_before_the_answer(self, node: Node, write: Write) -> None:
        if write.number not in node.disk.tree:
            self.fail(f"{node.name} acknowledged {write.number} without having it (I1)")
        worker = node.worker
        if worker is None or worker.mode is not Gate.PRIM or not worker.joined:
            return
        if not write.remote_done:
            self.fail(f"{node.name} acknowledged {write.number} before its secondary (I1)")
        if write.stable and write.number not in node.disk.stable:
            self.fail(f"{node.name} acknowledged {write.number} before it was flushed (I1)")

    def i2_serves_only_good_data(self, node: Node) -> None:
        if node.params.has_rfs and node.disk.record.disk is not Disk.UPTODATE:
            self.fail(f"{node.name} serves while {node.disk.record.disk} (I2)")

    def i3_one_permission_for_one_period(
        self, node: Node, before: ModuleState, after: ModuleState
    ) -> None:
        """I3: from one period that both shared only one node goes on by itself."""
        confirmed = after.link is Link.CONFIRMING and before.link is not Link.CONFIRMING
        takes_over = after.phase is Phase.TAKING_OVER and before.phase is not Phase.TAKING_OVER
        elected = after.phase is Phase.LEADING and before.phase is Phase.DECIDING
        outside = after.evidence[:2] in ("E2", "E3", "E4")
        if not ((confirmed or takes_over or elected) and outside):
            return
        epoch = after.wanted.shared
        owner = self.went_alone.setdefault(epoch, node.name)
        if owner != node.name:
            self.fail(f"{node.name} goes on alone from epoch {epoch}, {owner} did already (I3)")

    def i4_left_behind_and_modified_are_durable(self, node: Node) -> None:
        if not node.disk.record.peer_behind:
            self.fail(f"{node.name} answers alone without having left the peer behind durably (I4)")
        if not node.disk.record.modified:
            self.fail(f"{node.name} answers alone without recording its first modification (I4)")

    def i10_durably_inconsistent_before_the_first_byte(self, node: Node) -> None:
        if node.disk.record.disk not in (Disk.INCONSISTENT, Disk.UNCONFIGURED):
            self.fail(f"{node.name} is written to while {node.disk.record.disk} (I10)")

    def i11_source_records_before_the_target_adopts(
        self, node: Node, old: Record, new: Record
    ) -> None:
        if old.disk is Disk.INCONSISTENT and new.disk is Disk.UPTODATE:
            source = self.cluster.other(node).disk
            if not new.forced and source.record.peer_behind and source.record.gen == new.gen:
                self.fail(f"{node.name} adopted before its source cleared peer_behind (I11)")

    def i13_frame_of_the_present_connection(self, node: Node, current: bool) -> None:
        """I13: what came over a connection that was given up is not applied."""
        if not current:
            self.fail(f"{node.name} applies a frame of a former connection (I13)")

    def i13_numbers_do_not_go_back(self, node: Node, old: Record, new: Record) -> None:
        """I13 rests on epochs that never go back."""
        if new.epoch < old.epoch or new.promised < old.promised:
            self.fail(f"{node.name}: an epoch went back (I13)")

    def i14_a_serving_node_is_no_target(self, node: Node) -> None:
        if node.state is not None and node.state.serving:
            self.fail(f"{node.name} is resynchronised while it serves (I14)")

    def i18_covered_while_the_application_may_run(self, node: Node) -> None:
        """I18: the bare directory is never within the reach of an application that may run."""
        state = node.state
        if state is None or node.covered or not state.params.has_rfs:
            return
        if state.state is not State.STOP and (state.ran or state.phase is not Phase.STOPPING):
            self.fail(f"{node.name}: the application may run over the bare directory (I18)")

    def i19_the_loser_of_a_split_is_kept(self) -> None:
        """I19: whatever one of two leaders acknowledged is served, or was kept aside."""
        first, second = self.cluster.nodes.values()
        kept = first.disk.kept | second.disk.kept
        gone = sorted(n for n in self.diverged if n not in first.disk.tree and n not in kept)
        if gone:
            self.fail(f"writes of a split brain are neither served nor kept aside: {gone[:5]}")

    def i20_asks_after_a_whole_start_window(self, node: Node) -> None:
        """I20: a node that came back has listened for a whole detection time before it asks."""
        state = node.state
        if state is None or state.phase is not Phase.DECIDING:
            return
        if node.clock_now() < node.daemon_since + TIMEOUT_S - 0.01:
            self.fail(f"{node.name} asks before it has listened for a start window (I20)")

    def i21_i15_the_copies_are_equal_at_rest(self) -> None:
        """I21, I15: whatever was lost on the way, two nodes that call themselves in sync are."""
        first, second = self.cluster.nodes.values()
        if first.disk.tree != second.disk.tree:
            odd = sorted(first.disk.tree ^ second.disk.tree)
            self.fail(f"in sync, but the trees differ in {odd[:5]}")

    # -- the fault model ---------------------------------------------------------------------------

    def _isolation_begins(self) -> None:
        """From here both may lead: what only one of them has is found kept aside at worst. Not
        with a sound arbiter: then P3 holds whatever is cut."""
        if self.cluster.sound:
            first, second = (node.has() for node in self.cluster.nodes.values())
            # What both had, one of them has lost with its power, and the arbiter may choose that
            # one: the second failure, so volatile writes are owed no more.
            for number in [n for n, stable in self.owed.items() if not stable and n in self.shared]:
                if (number in first) != (number in second):
                    del self.owed[number]
            return
        self.split_possible = True
        first, second = (node.disk.tree for node in self.cluster.nodes.values())
        self._diverge({n for n in self.owed if n not in first or n not in second})

    def put_back(self, node: Node) -> None:
        """Somebody gave this node an older disk: no rule of ours can make it the newest. What it
        lacks must be found on the other node, or kept aside."""
        self.newest_gen = ""
        self._diverge({n for n in self.owed if n not in node.disk.tree})

    def _diverge(self, numbers: set[int]) -> None:
        for number in numbers:
            self.diverged[number] = self.owed.pop(number)

    def at_rest(self) -> None:
        """The pair is PRIM and SECOND and nothing is in flight."""
        self.i21_i15_the_copies_are_equal_at_rest()
        self.i19_the_loser_of_a_split_is_kept()
        first, _ = self.cluster.nodes.values()
        missing = sorted(n for n in self.owed if n not in first.disk.tree)
        if missing:
            self.fail(f"acknowledged writes are gone: {missing[:5]}")
        self.diverged.clear()
        if not self.cluster.isolated:
            self.split_possible = False
