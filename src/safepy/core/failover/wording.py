"""Conditions and rules as they are written in the native language: for people, and read back to
the same tree."""

from __future__ import annotations

from typing import assert_never

from .conditions import (
    LOCAL,
    And,
    ClusterCall,
    Compare,
    Condition,
    Constant,
    Not,
    Operand,
    Or,
    Same,
    Term,
)
from .rules import Rule, RuleSet

#: How tightly each kind binds.
_OR, _AND, _SAME, _NOT = range(4)


def printed(condition: Condition) -> str:
    """The condition, with the parentheses it needs and no others."""
    return _text(condition, _OR)


def printed_rule(rule: Rule) -> str:
    return f"{rule.label}: if ({printed(rule.condition)}) then {rule.action}();"


def printed_rules(rules: RuleSet) -> str:
    """One a line."""
    return "\n".join(map(printed_rule, rules.rules))


def _text(condition: Condition, within: int) -> str:
    match condition:
        case Compare():
            sign = "==" if condition.equal else "!="
            return _in(within, _SAME, f"{_term(condition.left)} {sign} {_term(condition.right)}")
        case Same():
            sign = "==" if condition.equal else "!="
            left, right = _text(condition.left, _NOT), _text(condition.right, _NOT)
            return _in(within, _SAME, f"{left} {sign} {right}")
        case Not():
            return "!" + _text(condition.part, _NOT)
        case And():
            return _in(within, _AND, " && ".join(_text(part, _SAME) for part in condition.parts))
        case Or():
            return _in(within, _OR, " || ".join(_text(part, _AND) for part in condition.parts))
        case _:
            assert_never(condition)


def _in(within: int, own: int, text: str) -> str:
    return f"({text})" if within > own else text


def _term(term: Term) -> str:
    match term:
        case Operand():
            return term.name if term.side == LOCAL else f"{term.side}.{term.name}"
        case ClusterCall():
            return "cluster()"
        case Constant():
            return term.value
        case _:
            assert_never(term)
