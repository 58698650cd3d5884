"""The invariants of marks and checkpoints, by number (protocol 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from disk import Key, extents, key_of

if TYPE_CHECKING:
    from node import Node
    from twin import Worker


class MarkChecks:
    def fail(self, text: str) -> None:
        raise NotImplementedError

    def i5_marked_before_it_begins(self, node: Node, number: int) -> None:
        if extents([key_of(number)]) - node.disk.log:
            self.fail(f"{node.name} begins write {number} before its mark is durable (I5)")

    def i6_dropped_is_durable_on_both(self, node: Node, other: Node, keys: set[Key]) -> None:
        for disk in (node.disk, other.disk):
            lost = sorted(n for n in node.disk.tree - disk.stable if key_of(n) in keys)
            if lost:
                self.fail(f"{node.name} drops the marks of {lost[:5]}, not durable on both (I6)")

    def i7_in_flight_is_carried(self, worker: Worker) -> None:
        flying = {key_of(w.number) for w in (*worker.pending, *worker.marking.waiting)}
        if extents(flying) - worker.node.disk.current:
            self.fail(f"{worker.node.name} rotates its log without what is in flight (I7)")

    def i8_i9_i15_everything_that_differs_was_looked_at(
        self, source: Node, target: Node, mode: str
    ) -> None:
        """At the end of a resynchronisation. I8, I9: no mark of either node was dropped before.
        I15: nor did equal generations make believe that there is nothing to look at."""
        odd = sorted(source.disk.tree ^ target.disk.tree)
        if odd:
            self.fail(f"{mode} did not look at {odd[:5]} (I8, I9, I15)")

    def i12_flushed_before_marks_go(self, source: Node, target: Node) -> None:
        for node in (source, target):
            if node.disk.tree != node.disk.stable:
                self.fail(f"{node.name} has not flushed at the end of a synchronisation (I12)")
