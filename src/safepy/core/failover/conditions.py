"""What a failover rule asks: a tree, and what it says of the resources (reference: userconfig 16).

A resource in `init` decides nothing: a rule that names one is skipped, `class.*` and `class.?` are
about the other resources of the class; only `class.*` waits until each of them is tested. A rule
that asks for `init` itself is of course answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

INIT, DOWN, UP, UNKNOWN = "init", "down", "up", "unknown"
STATES = (INIT, DOWN, UP, UNKNOWN)
LOCAL, REMOTE = "local", "remote"
ALL, ANY = "*", "?"

#: Names to values.
Resources = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules are held against. `remote` is None while nothing is known of the other node:
    all its resources are then `unknown`. `cluster`: whether the other node is heard."""

    local: Resources
    remote: Resources | None = None
    cluster: str = DOWN


@dataclass(frozen=True, slots=True)
class Operand:
    """`[side.]kind.ident`; `ident` is a name, `*` (all of the class) or `?` (at least one)."""

    kind: str
    ident: str
    side: str = LOCAL

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.ident}"

    @property
    def wild(self) -> bool:
        return self.ident in (ALL, ANY)


@dataclass(frozen=True, slots=True)
class ClusterCall:
    """`cluster()`: down while the other node is not heard, else up."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: str


Term = Operand | ClusterCall | Constant


@dataclass(frozen=True, slots=True)
class Compare:
    """`left == right`, or `!=` if not `equal`."""

    left: Term
    right: Term
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Same:
    """Two conditions compared: both true or both false, or not if not `equal`."""

    left: Condition
    right: Condition
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Not:
    part: Condition


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Condition, ...]


Condition = Compare | Same | Not | And | Or


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether the condition is true, and nothing that it names is still `init`."""
    return not untested(condition, facts) and _true(condition, facts)


def untested(condition: Condition, facts: Facts) -> bool:
    """A resource that is named in full is not tested yet."""
    return any(
        not operand.wild and _value(operand, facts) == INIT
        for compare in _compares(condition)
        if Constant(INIT) not in (compare.left, compare.right)
        for operand in (compare.left, compare.right)
        if isinstance(operand, Operand)
    )


def operands(condition: Condition) -> Iterator[Operand]:
    """Every resource that the condition names."""
    for compare in _compares(condition):
        for term in (compare.left, compare.right):
            if isinstance(term, Operand):
                yield term


def tests(condition: Condition, name: str) -> bool:
    """Whether the condition is about this local resource."""
    kind = name.partition(".")[0]
    return any(
        operand.side == LOCAL and (operand.name == name or (operand.wild and operand.kind == kind))
        for operand in operands(condition)
    )


def _compares(condition: Condition) -> Iterator[Compare]:
    match condition:
        case Compare():
            yield condition
        case Same():
            yield from _compares(condition.left)
            yield from _compares(condition.right)
        case Not():
            yield from _compares(condition.part)
        case And() | Or():
            for part in condition.parts:
                yield from _compares(part)
        case _:
            assert_never(condition)


def _true(condition: Condition, facts: Facts) -> bool:
    match condition:
        case Compare():
            return _compare(condition, facts)
        case Same():
            alike = _true(condition.left, facts) is _true(condition.right, facts)
            return alike is condition.equal
        case Not():
            return not _true(condition.part, facts)
        case And():
            return all(_true(part, facts) for part in condition.parts)
        case Or():
            return any(_true(part, facts) for part in condition.parts)
        case _:
            assert_never(condition)


def _compare(condition: Compare, facts: Facts) -> bool:
    asks_init = Constant(INIT) in (condition.left, condition.right)
    rights = _values(condition.right, facts, asks_init)
    return _over(
        condition.left,
        _values(condition.left, facts, asks_init),
        lambda left: _over(
            condition.right, rights, lambda right: (left == right) is condition.equal
        ),
    )


def _over(term: Term, values: list[str], test: Callable[[str], bool]) -> bool:
    """All or any, as the term says; of no value at all nothing is true."""
    if isinstance(term, Operand) and term.ident == ALL:
        return bool(values) and all(test(value) for value in values)
    return any(test(value) for value in values)


def _values(term: Term, facts: Facts, asks_init: bool) -> list[str]:
    """The values that the term stands for, one unless it is wild."""
    match term:
        case Constant():
            return [term.value]
        case ClusterCall():
            return [facts.cluster]
        case Operand():
            if not term.wild:
                return [_value(term, facts)]
            values = list(_class(term, facts))
            if asks_init:
                return values
            if term.ident == ALL and INIT in values:
                return []
            return [value for value in values if value != INIT]
        case _:
            assert_never(term)


def _class(operand: Operand, facts: Facts) -> Iterable[str]:
    resources = facts.local if operand.side == LOCAL else facts.remote
    if resources is None:
        return (UNKNOWN,)
    prefix = f"{operand.kind}."
    return (value for name, value in resources.items() if name.startswith(prefix))


def _value(operand: Operand, facts: Facts) -> str:
    """What nobody has set here is not tested yet; over there, it is not known."""
    if operand.side == LOCAL:
        return facts.local.get(operand.name, INIT)
    return UNKNOWN if facts.remote is None else facts.remote.get(operand.name, UNKNOWN)
