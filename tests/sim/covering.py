"""What of the tables a run has been through: rows of the transition table, plans, rules that hold
at every moment. Printed by `scripts/swarm`; a row that no story takes is a row nobody has tried.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from safepy.core import plans
from safepy.core.transitions import TABLE, Cause
from safepy.core.turn import Turn
from safepy.model import State

Row = tuple[State, State, Cause]
#: Of light modules, which are no pair: scenarios 95 and 96 go through it.
LIGHT_PLAN = "go_up"
ROWS = [row for row in TABLE if State.UP not in row]


def plan_functions() -> dict[str, Callable[..., plans.Plan]]:
    """The functions of `core/plans.py` that make a whole plan."""
    return {
        name: function
        for name, function in inspect.getmembers(plans, inspect.isfunction)
        if function.__module__ == plans.__name__
        and not name.startswith("_")
        and name != LIGHT_PLAN
        and inspect.signature(function).return_annotation == "Plan"
    }


class Covered:
    def __init__(self) -> None:
        self.rows: Counter[Row] = Counter()
        self.plans: Counter[str] = Counter()

    def add(self, other: Covered) -> None:
        self.rows += other.rows
        self.plans += other.plans

    def missing_rows(self) -> list[str]:
        return [
            f"{source} -> {target}: {cause.value}"
            for source, target, cause in ROWS
            if not self.rows[(source, target, cause)]
        ]

    def missing_plans(self) -> list[str]:
        return [name for name in plan_functions() if not self.plans[name]]

    def report(self) -> str:
        """The rows and plans with how often they were taken, the rarest first."""
        lines = [
            f"{self.rows[row]:9d}  {row[0]} -> {row[1]}: {row[2].value}"
            for row in sorted(ROWS, key=lambda row: self.rows[row])
        ]
        lines += [
            f"{self.plans[name]:9d}  plan {name}"
            for name in sorted(plan_functions(), key=lambda name: self.plans[name])
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

    functions = plan_functions()

    def counted(name: str, function: Callable[..., plans.Plan]) -> Callable[..., plans.Plan]:
        def call(*args: Any, **keywords: Any) -> plans.Plan:
            covered.plans[name] += 1
            return function(*args, **keywords)

        return call

    Turn.enter = counted_enter  # type: ignore[method-assign]
    for name, function in functions.items():
        setattr(plans, name, counted(name, function))
    try:
        yield covered
    finally:
        Turn.enter = enter  # type: ignore[method-assign]
        for name, function in functions.items():
            setattr(plans, name, function)
