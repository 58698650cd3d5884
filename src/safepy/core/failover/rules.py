"""Failover rules: a label, a condition, an action; which are true, and which goes first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .conditions import INIT, Condition, Facts, holds, tests


class Action(StrEnum):
    """In the order of their weight: of several true rules the first of these is carried out."""

    STOP = "stop"
    WAIT = "wait"
    STOPSTART = "stopstart"
    SWAP = "swap"
    RESTART = "restart"


WEIGHT = {action: number for number, action in enumerate(Action)}


class Origin(StrEnum):
    """Where a rule comes from."""

    SHIPPED = "shipped"
    GENERATED = "generated"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Rule:
    """`label: if (condition) then action();`"""

    label: str
    condition: Condition
    action: Action
    origin: Origin = Origin.OWN

    @property
    def resource(self) -> str:
        """What shows whether it is true."""
        return f"rule.{self.label}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a module in the order in which they were written; labels are unique."""

    rules: tuple[Rule, ...] = ()

    def true(self, facts: Facts) -> tuple[Rule, ...]:
        """The rules that hold now, the weightiest action first."""
        found = [rule for rule in self.rules if holds(rule.condition, facts)]
        return tuple(sorted(found, key=lambda rule: WEIGHT[rule.action]))

    def waits_for(self, facts: Facts, names: frozenset[str]) -> str:
        """The first of these local resources that a wait rule is about and that is still `init`."""
        for name in sorted(names):
            if facts.local.get(name, INIT) == INIT and any(
                rule.action is Action.WAIT and tests(rule.condition, name) for rule in self.rules
            ):
                return name
        return ""
