"""A primary and a secondary on real directories, joined by a wire that a test holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.ops import Op
from safepy.dataplane.border import Border, clear_left_out
from safepy.dataplane.gate import GateKeeper
from safepy.dataplane.keeper import Keeper
from safepy.dataplane.pathmarks import PathMarks
from safepy.dataplane.primary import Primary
from safepy.dataplane.secondary import Secondary
from safepy.host.loop import Loop
from safepy.model import Gate
from safepy.storage.backing import Tree

sys.path.append(str(Path(__file__).parent.parent / "storage"))
from replica_trees import Pair, make_pair, through_the_wire

WAIT_S = 5.0
Rules = tuple[tuple[str, str], ...]


class Answers:
    """What operations were answered with, by name."""

    def __init__(self) -> None:
        self.given: dict[str, tuple[int, Any]] = {}
        self.order: list[str] = []

    def to(self, name: str) -> Callable[[int, Any], None]:
        def answer(number: int, result: Any) -> None:
            assert name not in self.given, f"{name} answered twice"
            self.given[name] = (number, result)
            self.order.append(name)

        return answer


class LivePath:
    """`now_s` is the gate's clock. `wire` holds what was sent and not yet received."""

    def __init__(
        self, pair: Pair, max_ops: int = 1024, max_bytes: int = 1 << 20, rules: Rules = ()
    ) -> None:
        self.pair = pair
        self.exclusion = Exclusion(rules)
        self.loop = Loop()
        self.now_s = 0.0
        self.gate = GateKeeper(lambda: self.now_s)
        self.asked = 0
        self.faults: list[str] = []
        self.answers = Answers()
        self.wire: list[tuple[int, int, Op]] = []
        self.paths = PathMarks(1)
        self.keeper = Keeper([pair.here], self.paths, None)
        self.primary = Primary(
            self.loop,
            [pair.here],
            self.gate,
            self._first_modification,
            self.faults.append,
            max_ops,
            max_bytes,
            self.keeper,
            Border([pair.here], [self.exclusion]) if rules else None,
        )
        self.secondary: Secondary | None = None
        self.peer_faults: list[tuple[int, str]] = []
        self.acks: list[int] = []
        self.completions: list[tuple[int, int]] = []
        self.automatic = False  # acknowledgements go back by themselves

    def _first_modification(self) -> None:
        self.asked += 1

    def modify(self, name: str, op: Op) -> None:
        self.primary.modify(0, op, self.answers.to(name))

    def alone(self, epoch: int = 1) -> None:
        self.gate.open(Gate.ALONE, epoch, self.now_s + 10)
        self.primary.kick()

    def join(self, epoch: int = 2) -> None:
        """Both trees are equal: a new stream, a secondary that knows no handle."""
        self.gate.open(Gate.PRIM, epoch, self.now_s + 10)
        self.wire.clear()
        self.primary.connect(lambda seq, tree, op: self.wire.append((seq, tree, op)))
        self.primary.unhold()

    def follow(self, acknowledge_on: str = "receipt") -> Secondary:
        """The other node's side, on a tree of its own."""
        if self.secondary is not None:
            self.secondary.close()
        self.pair.there.close()
        root = os.open(self.pair.there_path, os.O_RDONLY | os.O_DIRECTORY)
        self.pair.there = Tree(root, 0, True, 64)
        self.secondary = Secondary(
            self.loop,
            [self.pair.there],
            acknowledge_on,
            self._acknowledge,
            self._complete,
            lambda number, text: self.peer_faults.append((number, text)),
            self._make_room if self.exclusion else None,
        )
        return self.secondary

    def _make_room(self, index: int, path: bytes) -> bool:
        root = os.open(self.pair.there_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return clear_left_out(root, self.exclusion, path)
        finally:
            os.close(root)

    def _acknowledge(self, seq: int) -> None:
        self.acks.append(seq)
        if self.automatic:
            self.primary.acknowledged(seq)

    def _complete(self, seq: int, number: int) -> None:
        self.completions.append((seq, number))
        if self.automatic:
            self.primary.completed(seq, number)

    def deliver(self) -> None:
        """Everything on the wire reaches the secondary."""
        assert self.secondary is not None
        wire, self.wire = self.wire, []
        for seq, tree, op in wire:
            self.secondary.receive(seq, tree, through_the_wire(op))

    def turn(self) -> None:
        self.loop.turn(0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until `condition` holds, at most `WAIT_S`."""
        limit_s = self.loop.now_s + WAIT_S
        while not condition():
            assert self.loop.now_s < limit_s, "it did not happen in time"
            self.loop.turn(0.01)

    def sent(self) -> list[str]:
        return [type(op).__name__ for _, _, op in self.wire]

    def close(self) -> None:
        self.primary.close()
        if self.secondary is not None:
            self.secondary.close()
        self.loop.close()


@contextmanager
def make_live_path(
    max_ops: int = 1024, max_bytes: int = 1 << 20, rules: Rules = ()
) -> Iterator[LivePath]:
    with make_pair() as pair:
        live = LivePath(pair, max_ops, max_bytes, rules)
        try:
            yield live
        finally:
            live.close()
