"""What a rule says of the resources: `init`, wildcards, the other node, precedence of actions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.core.failover.conditions import (
    And,
    Compare,
    Condition,
    Constant,
    Facts,
    Not,
    Operand,
    Or,
    holds,
)
from safepy.core.failover.conditions import tests as is_about
from safepy.core.failover.rules import Action, Rule, RuleSet


def _is(name: str, value: str, equal: bool = True) -> Compare:
    side, _, rest = name.partition(".")
    if side not in ("local", "remote"):
        side, rest = "local", name
    kind, _, ident = rest.partition(".")
    return Compare(Operand(kind, ident, side), Constant(value), equal)


@pytest.mark.parametrize(
    ("condition", "local", "expected"),
    [
        (_is("tcp.a", "down"), {"tcp.a": "down"}, True),
        (_is("tcp.a", "down"), {"tcp.a": "up"}, False),
        (_is("tcp.a", "up", equal=False), {"tcp.a": "down"}, True),
        # Not tested yet, or not known at all: the rule is skipped, whatever else is true.
        (_is("tcp.a", "up", equal=False), {"tcp.a": "init"}, False),
        (_is("tcp.a", "up", equal=False), {}, False),
        (Not(_is("tcp.a", "up")), {}, False),
        (Or((_is("tcp.a", "down"), _is("tcp.b", "down"))), {"tcp.b": "down"}, False),
        (_is("tcp.a", "init"), {"tcp.a": "init"}, True),
        (_is("tcp.a", "init", equal=False), {"tcp.a": "up"}, True),
        # Any of a class, all of a class; those that are not tested do not count, or keep "all".
        (_is("ip.?", "down"), {"ip.1": "up", "ip.2": "down"}, True),
        (_is("ip.?", "down"), {"ip.1": "init", "ip.2": "down"}, True),
        (_is("ip.?", "down"), {"ip.1": "up"}, False),
        (_is("ip.?", "down"), {"tcp.1": "down", "ipx.1": "down"}, False),
        (_is("ip.*", "down"), {"ip.1": "down", "ip.2": "down"}, True),
        (_is("ip.*", "down"), {"ip.1": "down", "ip.2": "up"}, False),
        (_is("ip.*", "down"), {"ip.1": "down", "ip.2": "init"}, False),
        (_is("ip.*", "down"), {}, False),
        (_is("ip.*", "up", equal=False), {}, False),
        (_is("ip.*", "init"), {"ip.1": "init"}, True),
        (Compare(Operand("tcp", "a"), Operand("tcp", "b")), {"tcp.a": "up", "tcp.b": "up"}, True),
        (Compare(Operand("tcp", "?"), Operand("ip", "*")), {"tcp.a": "up", "ip.b": "up"}, True),
        (And((_is("tcp.a", "down"), _is("tcp.b", "up"))), {"tcp.a": "down", "tcp.b": "up"}, True),
    ],
)
def test_local(condition: Condition, local: Mapping[str, str], expected: bool) -> None:
    assert holds(condition, Facts(local)) is expected


@pytest.mark.parametrize(
    ("condition", "remote", "expected"),
    [
        (_is("remote.tcp.a", "down"), {"tcp.a": "down"}, True),
        (_is("remote.tcp.a", "down"), None, False),
        (_is("remote.tcp.a", "unknown"), None, True),
        (_is("remote.tcp.?", "unknown"), None, True),
        (_is("remote.tcp.*", "unknown"), None, True),
        (_is("remote.tcp.a", "unknown"), {}, True),
        (_is("remote.tcp.a", "up", equal=False), {"tcp.a": "init"}, False),
    ],
)
def test_the_other_node(
    condition: Condition, remote: Mapping[str, str] | None, expected: bool
) -> None:
    assert holds(condition, Facts({"tcp.a": "up"}, remote)) is expected


def test_the_weightiest_action_comes_first() -> None:
    down = _is("tcp.a", "down")
    rules = RuleSet(tuple(Rule(action.value, down, action) for action in reversed(Action)))
    labels = [rule.label for rule in rules.true(Facts({"tcp.a": "down"}))]
    assert labels == ["stop", "wait", "stopstart", "swap", "restart"]
    assert rules.true(Facts({"tcp.a": "up"})) == ()


def test_what_a_start_waits_for() -> None:
    rules = RuleSet(
        (
            Rule("w", _is("ping.?", "down"), Action.WAIT),
            Rule("r", _is("tcp.a", "down"), Action.RESTART),
        )
    )
    names = frozenset({"ping.a", "ping.b", "tcp.a"})
    assert rules.waits_for(Facts({"ping.a": "up", "ping.b": "init", "tcp.a": "init"}), names) == (
        "ping.b"
    )
    assert not rules.waits_for(Facts({"ping.a": "up", "ping.b": "down"}), names)
    assert not rules.waits_for(Facts({}), frozenset())


_NAMES = ("tcp.a", "tcp.b", "ip.c")
_VALUES = ("init", "up", "down")
_compares = st.builds(
    lambda name, value, equal: _is(name, value, equal),
    st.sampled_from((*_NAMES, "remote.tcp.a")),
    st.sampled_from(("up", "down", "unknown")),
    st.booleans(),
)
_conditions = st.recursive(
    _compares,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda parts: And(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: Or(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


def _plain(condition: Condition, local: Mapping[str, str]) -> bool:
    """The textbook's answer, all resources being tested and the other node unknown."""
    match condition:
        case Compare(Operand() as operand, Constant(value), equal):
            found = "unknown" if operand.side == "remote" else local[operand.name]
            return (found == value) is equal
        case Not(part):
            return not _plain(part, local)
        case And(parts):
            return all(_plain(part, local) for part in parts)
        case Or(parts):
            return any(_plain(part, local) for part in parts)
    raise AssertionError(condition)


@settings(max_examples=300, deadline=None)
@given(_conditions, st.fixed_dictionaries({name: st.sampled_from(_VALUES) for name in _NAMES}))
def test_logic_and_what_is_not_tested(condition: Condition, local: dict[str, str]) -> None:
    skipped = any(local[name] == "init" for name in _NAMES if is_about(condition, name))
    assert holds(condition, Facts(local)) is (not skipped and _plain(condition, local))
