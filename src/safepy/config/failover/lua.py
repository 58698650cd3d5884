"""The Lua form of failover rules, as far as the reference lists it (userconfig 16.2): two shapes of
statements, read and never run.

    --Lua Rules
    Rules = Rules + { LABEL = if_then("class.id", "state", Action.x), _group = "checker" }
    Rules.disable("LABEL")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from safepy.config.failover.grammar import CLASSES
from safepy.config.failover.places import MAX_LABEL_CHARACTERS, MAX_RULES, Source, Token
from safepy.config.values import listed
from safepy.core.failover.conditions import LOCAL, REMOTE, STATES, Compare, Constant, Operand
from safepy.core.failover.rules import Action, Rule
from safepy.errors import ConfigError

MARKER = "--Lua Rules"
GROUPS = ("checker",)
STATEMENTS = 'are Rules = Rules + { ... } and Rules.disable("label")'

_SPACE = re.compile(r"(?:[ \t\r\n]+|--(?!\[)[^\n]*)*+")
_TOKEN = re.compile(
    r"""(?P<word>[A-Za-z_][A-Za-z0-9_]*+)|(?P<text>"[^"\\\n]*+"|'[^'\\\n]*+')|[-=+{}(),;.]"""
)
_RESOURCE = re.compile(r"([a-z]+)\.([*?]|[A-Za-z0-9_.:-]+)")


@dataclass(frozen=True, slots=True)
class Lua:
    """What one section says: its rules, and the labels it switches off, each with its place."""

    rules: tuple[Rule, ...]
    disabled: tuple[tuple[str, int], ...]


def is_lua(text: str) -> bool:
    """Whether this section is in Lua: its first line that is not empty is the marker."""
    return text.lstrip().partition("\n")[0].rstrip() == MARKER


def parse(source: Source, mode: str = "mirror") -> Lua:
    """Raises ConfigError, by name and place, for everything else that Lua has."""
    return _Parser(source, mode).section()


class _Parser:
    def __init__(self, source: Source, mode: str) -> None:
        self._source = source
        self._mode = mode
        self._at = 0
        self._token = Token("end", "", 0)
        self._rules: list[Rule] = []
        self._disabled: list[tuple[str, int]] = []
        self._advance()

    def section(self) -> Lua:
        while self._token.kind != "end":
            if self._token.kind == ";":
                self._advance()
                continue
            self._statement()
            if len(self._rules) + len(self._disabled) > MAX_RULES:
                found = f"{MAX_RULES + 1} rules"
                raise self._source.wrong(self._token.at, found, f"are at most {MAX_RULES}")
        return Lua(tuple(self._rules), tuple(self._disabled))

    # Tokens.

    def _advance(self) -> None:
        text = self._source.text
        space = _SPACE.match(text, self._at)
        assert space is not None
        at = space.end()
        if at == len(text):
            self._at, self._token = at, Token("end", "", at)
            return
        found = _TOKEN.match(text, at)
        if found is None:
            hint = "block comments are not read" if text.startswith("--[", at) else ""
            raise self._source.wrong(at, f"found {text[at]!r}", STATEMENTS, hint)
        self._at = found.end()
        kind = "word" if found["word"] else "text" if found["text"] else found[0]
        self._token = Token(kind, found[0], at)

    def _wrong(self, allowed: str, token: Token | None = None, hint: str = "") -> ConfigError:
        where = token or self._token
        return self._source.wrong(where.at, where.found, allowed, hint)

    def _take(self, kind: str, allowed: str, text: str = "") -> Token:
        token = self._token
        if token.kind != kind or (text and token.text != text):
            raise self._wrong(allowed)
        self._advance()
        return token

    def _string(self, allowed: str) -> Token:
        return self._take("text", f"is {allowed} in quotes")

    # Statements.

    def _statement(self) -> None:
        self._take("word", STATEMENTS, "Rules")
        if self._token.kind == ".":
            self._advance()
            self._take("word", "is Rules.disable", "disable")
            self._take("(", 'is "(" after Rules.disable')
            label = self._string("the label of a rule")
            self._take(")", 'is ")" after the label')
            self._disabled.append((label.text[1:-1], label.at))
            return
        self._take("=", STATEMENTS)
        self._take("word", "is Rules + { ... }", "Rules")
        self._take("+", "is Rules + { ... }")
        self._take("{", 'is "{" after Rules +')
        while self._token.kind != "}":
            self._field()
            if self._token.kind not in (",", ";", "}"):
                raise self._wrong('are "," and "}"')
            if self._token.kind != "}":
                self._advance()
        self._advance()

    def _field(self) -> None:
        name = self._take("word", "is LABEL = if_then(...) or _group = ...")
        self._take("=", f"is {name.text} = ...")
        if name.text == "_group":
            group = self._string("a group of rules")
            if group.text[1:-1] not in GROUPS:
                raise self._wrong(listed(GROUPS), group)
            return
        if len(name.text) > MAX_LABEL_CHARACTERS:
            raise self._wrong(f"are labels of at most {MAX_LABEL_CHARACTERS} characters", name)
        self._take("word", 'is if_then("class.id", "state", Action.x)', "if_then")
        self._take("(", 'is "(" after if_then')
        operand = self._operand()
        self._take(",", 'is "," after the resource')
        state = self._string("a state")
        if state.text[1:-1] not in STATES:
            raise self._wrong(listed(STATES), state)
        self._take(",", 'is "," after the state')
        action = self._action()
        self._take(")", 'is ")" after the action')
        condition = Compare(operand, Constant(state.text[1:-1]))
        self._rules.append(Rule(name.text, condition, action))

    def _operand(self) -> Operand:
        token = self._string("a resource")
        text = token.text[1:-1]
        found = _RESOURCE.fullmatch(text)
        if found is None or found[1] not in CLASSES:
            hint = ""
            if text.startswith((f"{LOCAL}.", f"{REMOTE}.")):
                hint = "the native language knows local. and remote., if_then does not"
            allowed = "is class.id, the id a name, * or ?, the class one of " + ", ".join(CLASSES)
            raise self._wrong(allowed, token, hint)
        return Operand(found[1], found[2])

    def _action(self) -> Action:
        allowed = listed([f"Action.{action}" for action in Action])
        self._take("word", allowed, "Action")
        self._take(".", allowed)
        name = self._take("word", allowed)
        if name.text not in tuple(Action):
            raise self._wrong(allowed, name)
        if name.text == Action.SWAP and self._mode != "mirror":
            raise self._wrong("is Action.swap only in a module with two roles", name)
        return Action(name.text)
