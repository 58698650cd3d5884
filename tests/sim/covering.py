"""What of the tables a run has been through: rows of the transition table, plans, failover rules.
Printed by `scripts/swarm`; a row that no story takes is a row nobody has tried.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ruled

from safepy.core import plans
from safepy.core.transitions import TABLE, Cause
from safepy.core.turn import Turn
from safepy.model import Level, State

Row = tuple[State, State, Cause]
ROWS = list(TABLE)
#: Of light modules, which are no pair.
LIGHT_PLAN = "go_up"
#: What the log says when a failover rule acts.
_ACTION = re.compile(r"Action \w+ from failover rule (\S+)")


def plan_functions() -> dict[str, Callable[..., plans.Plan]]:
    """The functions of `core/plans.py` that make a whole plan."""
    return {
        name: function
        for name, function in inspect.getmembers(plans, inspect.isfunction)
        if function.__module__ == plans.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation == "Plan"
    }


class Covered:
    def __init__(self) -> None:
        self.rows: Counter[Row] = Counter()
        self.plans: Counter[str] = Counter()
        #: By label, each time that it acted.
        self.rules: Counter[str] = Counter()

    def add(self, other: Covered) -> None:
        self.rows += other.rows
        self.plans += other.plans
        self.rules += other.rules

    def missing_rows(self) -> list[str]:
        return [
            f"{source} -> {target}: {cause.value}"
            for source, target, cause in ROWS
            if not self.rows[(source, target, cause)]
        ]

    def missing_plans(self) -> list[str]:
        return [name for name in plan_functions() if not self.plans[name]]

    def missing_rules(self) -> list[str]:
        """Of those that the days may have."""
        return sorted(label for label in ruled.labels() if not self.rules[label])

    def report(self) -> str:
        """Rows, plans and rules with how often they were taken, the rarest first."""
        lines = [
            f"{self.rows[row]:9d}  {row[0]} -> {row[1]}: {row[2].value}"
            for row in sorted(ROWS, key=lambda row: self.rows[row])
        ]
        lines += [
            f"{self.plans[name]:9d}  plan {name}"
            for name in sorted(plan_functions(), key=lambda name: self.plans[name])
        ]
        lines += [
            f"{self.rules[label]:9d}  rule {label}"
            for label in sorted(ruled.labels(), key=lambda label: (self.rules[label], label))
        ]
        return "\n".join(lines)


@contextmanager
def watched() -> Iterator[Covered]:
    """Count, as long as the block lasts, what the core goes through."""
    covered = Covered()
    enter = Turn.enter

    def counted_enter(t: Turn, target: State, phase: Any, cause: Cause) -> None:
        covered.rows[(t.s.state, target, cause)] += 1
        enter(t, target, phase, cause)

    announce = Turn.announce

    def counted_announce(t: Turn, level: Level, text: str, origin: str = "heart") -> None:
        if found := _ACTION.fullmatch(text):
            covered.rules[found[1]] += 1
        announce(t, level, text, origin)

    functions = plan_functions()

    def counted(name: str, function: Callable[..., plans.Plan]) -> Callable[..., plans.Plan]:
        def call(*args: Any, **keywords: Any) -> plans.Plan:
            covered.plans[name] += 1
            return function(*args, **keywords)

        return call

    Turn.enter = counted_enter  # type: ignore[method-assign]
    Turn.announce = counted_announce  # type: ignore[method-assign]
    for name, function in functions.items():
        setattr(plans, name, counted(name, function))
    try:
        yield covered
    finally:
        Turn.enter = enter  # type: ignore[method-assign]
        Turn.announce = announce  # type: ignore[method-assign]
        for name, function in functions.items():
            setattr(plans, name, function)
