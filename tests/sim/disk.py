"""What a virtual node keeps: its record, its tree with a page cache, its intent log.

A write is a number. A third of the numbers are names (a file made or removed), every other one is
a byte of an extent of an older file, so an extent's content is the set of its numbers. `tree` is
what is read; `stable` is what survives a power loss for certain, of the rest a random part does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field

from safepy.model import Record

EXTENTS = 40

#: ("name", number) or ("extent", which one).
Key = tuple[str, int]


def key_of(number: int) -> Key:
    if number % 3 == 0:
        return ("name", number)
    return ("extent", number % EXTENTS)


def extents(keys: Iterable[Key]) -> set[Key]:
    """What the intent log can hold; names are found by a walk."""
    return {key for key in keys if key[0] == "extent"}


@dataclass
class Disk:
    """`previous`, `current` and `solo` are the windows of the intent log, always durable; `saved`
    are the path marks that a clean stop left (None: none are valid)."""

    record: Record = field(default_factory=Record)
    tree: set[int] = field(default_factory=set)
    stable: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    previous: set[Key] = field(default_factory=set)
    current: set[Key] = field(default_factory=set)
    solo: set[Key] = field(default_factory=set)
    saved: set[Key] | None = None

    @property
    def log(self) -> set[Key]:
        return self.previous | self.current | self.solo

    def clear_log(self) -> None:
        self.previous, self.current, self.solo, self.saved = set(), set(), set(), None

    def go_solo(self) -> None:
        """No checkpoints any more: one window."""
        self.solo = self.log
        self.previous, self.current = set(), set()

    def flush(self) -> None:
        self.stable = set(self.tree)

    def fsync(self, number: int) -> None:
        """The file of this write."""
        key = key_of(number)
        self.stable |= {n for n in self.tree if key_of(n) == key}

    def flushing(self) -> Callable[[], None]:
        """A flush begins; the returned call ends it. What is written meanwhile is not covered."""
        covered = set(self.tree)

        def end() -> None:
            self.stable |= covered & self.tree

        return end

    def power_loss(self, rng: random.Random) -> None:
        """The page cache is gone; the kernel had written a part of it already."""
        lucky = {n for n in sorted(self.tree ^ self.stable) if rng.random() < 0.5}
        self.tree = {n for n in self.tree | self.stable if (n in self.stable) != (n in lucky)}
        self.stable = set(self.tree)

    def copy_from(self, source: Disk, looked_at: Callable[[Key], bool]) -> None:
        """Make equal what is looked at, in the page cache."""
        here = {n for n in self.tree if not looked_at(key_of(n))}
        there = {n for n in source.tree if looked_at(key_of(n))}
        self.tree = here | there

    def snapshot(self) -> Disk:
        """A copy of the whole machine's disk, as a backup system makes it."""
        return deepcopy(self)
