r"""POSIX extended regular expressions in linear time (protocol S11).

Python's `re` may take exponential time for a name that somebody chose with care. Here all ways to
match are followed at once (Thompson's construction), so a name costs its length times the size
of the expression at most, and what was seen before costs a look into a table. Same language as
`config/ere.py`, without `\b`, `\B`, `\<` and `\>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_PATTERN_CHARACTERS = 1024
MAX_STATES = 4096
#: Of the construction: parts that match nothing make no states, but take time when repeated.
MAX_STEPS = 64 * MAX_STATES
#: States in all sets that are remembered; a name chosen with care makes as many as it can.
_TABLE_STATES_MAX = 256 * MAX_STATES

_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}

_Test = Callable[[str], object]
_Node = tuple[str, object]
#: Kinds of states.
_CHAR, _SPLIT, _BEGIN, _END, _MATCH = range(5)


class Pattern:
    """A compiled expression. Raises ValueError for one that cannot be read."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN_CHARACTERS:
            raise ValueError(f"longer than {MAX_PATTERN_CHARACTERS} characters")
        try:
            node = _Parser(text).parse()
            #: (kind, test, next states)
            self._states: list[tuple[int, _Test | None, tuple[int, ...]]] = []
            self._steps = 0
            self._start = self._build(node, self._add(_MATCH))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        self._table: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._table_states = 0
        self._match = 0
        self._first = self._closure({self._start}, at_begin=True)
        self._again = frozenset({self._start})

    def search(self, text: str) -> bool:
        """Whether it matches anywhere (`^` and `$` bind it to the ends)."""
        table = self._table
        current = self._first
        for sign in text:
            if self._match in current:
                return True
            following = table.get((current, sign))
            if following is None:
                if self._table_states >= _TABLE_STATES_MAX:
                    table.clear()
                    self._table_states = 0
                following = table[current, sign] = self._step(current, sign)
                self._table_states += 1 + len(following)
            current = following
        return self._match in current or self._match in self._closure(
            current, at_begin=not text, at_end=True
        )

    def _step(self, current: frozenset[int], sign: str) -> frozenset[int]:
        following = set(self._again)
        for state in current:
            kind, test, then = self._states[state]
            if kind == _CHAR and test is not None and test(sign):
                following.update(then)
        return self._closure(following)

    def _closure(
        self, states: set[int] | frozenset[int], at_begin: bool = False, at_end: bool = False
    ) -> frozenset[int]:
        found = set(states)
        pending = list(states)
        while pending:
            kind, _, then = self._states[pending.pop()]
            if kind == _SPLIT or (kind == _BEGIN and at_begin) or (kind == _END and at_end):
                new = [state for state in then if state not in found]
                found.update(new)
                pending += new
        return frozenset(found)

    def _add(self, kind: int, test: _Test | None = None, *then: int) -> int:
        if len(self._states) >= MAX_STATES:
            raise ValueError("repeats too much")
        self._states.append((kind, test, then))
        return len(self._states) - 1

    def _build(self, node: _Node, then: int) -> int:
        """The state at which `node` begins, going on with `then`."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ValueError("repeats too much")
        kind, value = node
        match kind:
            case "char":
                assert callable(value)
                return self._add(_CHAR, value, then)
            case "begin":
                return self._add(_BEGIN, None, then)
            case "end":
                return self._add(_END, None, then)
            case "all":
                assert isinstance(value, list)
                for part in reversed(value):
                    then = self._build(part, then)
                return then
            case "any":
                assert isinstance(value, list)
                return self._add(_SPLIT, None, *[self._build(part, then) for part in value])
        assert isinstance(value, tuple)
        part, least, most = value
        if most is None:
            loop = self._add(_SPLIT)
            self._states[loop] = (_SPLIT, None, (self._build(part, loop), then))
            then = loop
        else:
            for _ in range(most - least):
                then = self._add(_SPLIT, None, self._build(part, then), then)
        for _ in range(least):
            then = self._build(part, then)
        return then


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise ValueError(f") at position {self._at} closes nothing")
        return node

    def _alternatives(self) -> _Node:
        branches = [self._branch()]
        while self._text.startswith("|", self._at):
            self._at += 1
            branches.append(self._branch())
        return branches[0] if len(branches) == 1 else ("any", branches)

    def _branch(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            atom = self._atom()
            repetition = self._repetition()
            if repetition is not None:
                atom = ("repeat", (atom, *repetition))
                if self._repetition() is not None:
                    raise ValueError(f"two repetitions in a row before position {self._at}")
            parts.append(atom)
        return ("all", parts)

    def _atom(self) -> _Node:
        text, at = self._text, self._at
        sign = text[at]
        self._at += 1
        if sign == "(":
            if text.startswith("?", self._at):
                raise ValueError(f"(? at position {at} is no POSIX expression")
            node = self._alternatives()
            if not text.startswith(")", self._at):
                raise ValueError(f"( at position {at} is not closed")
            self._at += 1
            return node
        if sign == "[":
            return "char", self._bracket(at)
        if sign == ".":
            return "char", _anything
        if sign == "^":
            return "begin", None
        if sign == "$":
            return "end", None
        if sign == "\\":
            return "char", self._escape(at)
        if sign in "*+?":
            raise ValueError(f"{sign} at position {at} repeats nothing")
        return "char", sign.__eq__

    def _repetition(self) -> tuple[int, int | None] | None:
        text, at = self._text, self._at
        sign = text[at : at + 1]
        if sign and sign in "*+?":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        found = re.compile(r"\{(\d+)(,(\d*))?\}").match(text, at)
        if found is None:
            if re.compile(r"\{\d").match(text, at):
                raise ValueError(f"{{ at position {at} is not closed")
            if re.compile(r"\{,\d").match(text, at):
                raise ValueError(f"{{, at position {at}: write {{0,")
            return None
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise ValueError(f"{found[0]} at position {at} cannot be")
        if max(least, most or 0) > MAX_STATES:
            raise ValueError("repeats too much")
        return least, most

    def _escape(self, at: int) -> _Test:
        sign = self._text[at + 1 : at + 2]
        self._at += 1
        if not sign:
            raise ValueError("ends with a backslash")
        if sign in "wWsSdD":
            return re.compile("\\" + sign).match
        if sign.isalnum() or sign in "<>":
            raise ValueError(f"\\{sign} at position {at} has no meaning here")
        return sign.__eq__

    def _bracket(self, start: int) -> _Test:
        piece, self._at = bracket(self._text, start)
        try:
            return re.compile(piece, re.DOTALL).match
        except re.error as error:
            raise ValueError(f"[ at position {start}: {error.msg}") from error


def bracket(text: str, start: int) -> tuple[str, int]:
    """The bracket expression at `start` in Python's words, and where it ends. A backslash in it is
    an ordinary character. Raises ValueError."""
    out = ["["]
    at = start + 1
    if text.startswith("^", at):
        out.append("^")
        at += 1
    first = True
    while at < len(text):
        sign = text[at]
        if sign == "]" and not first:
            return "".join(out) + "]", at + 1
        if text.startswith("--", at):
            # Python announces another meaning for it.
            raise ValueError(f"-- at position {at} is ambiguous")
        named = re.compile(r"\[:(\w+):\]").match(text, at)
        if named is not None:
            if named[1] not in _CLASSES:
                raise ValueError(f"[:{named[1]}:] at position {at} is no class")
            out.append(_CLASSES[named[1]])
            at = named.end()
        else:
            out.append("\\" + sign if sign in "\\[]&~|^" else sign)
            at += 1
        first = False
    raise ValueError(f"[ at position {start} is not closed")


def _anything(_: str) -> bool:
    return True
