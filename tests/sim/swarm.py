"""Many random bad days (`day.py`), and what they brought; `scripts/swarm --minutes N` lives them by
the hour."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from covering import Covered, watched
from day import Day
from recovery import RECOVERY_S


@dataclass
class Outcome:
    """What some days brought."""

    lived: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    splits: int = 0
    longest_recovery_s: float = 0.0
    covered: Covered = field(default_factory=Covered)

    def add(self, other: Outcome) -> None:
        self.lived += other.lived
        self.broken |= other.broken
        self.happened += other.happened
        self.writes += other.writes
        self.splits += other.splits
        self.longest_recovery_s = max(self.longest_recovery_s, other.longest_recovery_s)
        self.covered.add(other.covered)

    def report(self) -> str:
        faults = ", ".join(f"{name} {number}" for name, number in self.happened.most_common())
        return (
            f"{self.covered.report()}\n{faults}\n{self.lived} days, {len(self.broken)} broken, "
            f"{self.writes} writes, {self.splits} with a split brain, recovered within "
            f"{self.longest_recovery_s:.0f} s of {RECOVERY_S:.0f}"
        )


def days(first: int, count: int) -> Outcome:
    """Live the days of `count` seeds from `first` on."""
    with watched() as covered:
        outcome = Outcome(covered=covered)
        for seed in range(first, first + count):
            day = Day(seed)
            try:
                day.run()
            except AssertionError as error:
                outcome.broken[seed] = str(error)
            outcome.lived += 1
            outcome.happened.update(day.happened)
            outcome.writes += day.cluster.checks.acknowledged_count
            outcome.splits += bool(day.cluster.checks.splits)
            outcome.longest_recovery_s = max(outcome.longest_recovery_s, day.recovery_s)
    return outcome
