"""The native rule language, by recursive descent (reference: userconfig 16.1).

    file       = { rule }
    rule       = label ":" "if" "(" either ")" "then" action ";"
    action     = ( "stop" | "stopstart" | "wait" | "restart" | "swap" ) "(" ")"
    either     = both { "||" both }
    both       = compared { "&&" compared }
    compared   = negated [ ( "==" | "!=" ) negated ]
    negated    = "!" negated | "(" either ")" | resource | state | "cluster" "(" ")"
    resource   = [ "local." | "remote." ] class "." ( name | "*" | "?" )
    state      = "init" | "down" | "up" | "unknown"

What stands between `/*` and `*/` is a comment. A resource or a state is no condition by itself: it
has to be compared. A comparison of a comparison needs parentheses.
"""

from __future__ import annotations

import re

from safepy.config import xml
from safepy.config.failover.places import MAX_DEPTH, MAX_LABEL_CHARACTERS, MAX_RULES, Source, Token
from safepy.config.values import listed
from safepy.core.failover.conditions import (
    LOCAL,
    REMOTE,
    STATES,
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
from safepy.core.failover.rules import Action, Rule

#: Classes of resources that a rule may be about (reference: userconfig 16.1, 18).
CLASSES = (
    *("tcp", "ping", "custom", "intf", "ip", "module", "splitbrain", "disk", "node"),
    *("proc", "heartbeat", "heartbeatlocaladdr", "rfs"),
)
ACTIONS = tuple(f"{action}()" for action in Action)
#: The one assignment of the reference, and the rule that makes it: the replication does it by
#: itself, by `syncdelta`.
FORCE_UPTODATE, FORCED = "rfs_forceuptodate", "rfs.uptodate"

_SPACE = re.compile(r"(?:[ \t\r\n]+|/\*(?:[^*]|\*(?!/))*+\*/)*+")
_TOKEN = re.compile(
    r"(?P<word>[A-Za-z_][A-Za-z0-9_-]*+(?:\.(?:[*?]|[A-Za-z0-9_:-]++))*+)|==|!=|&&|\|\||[():;=!]"
)
_RESOURCE = re.compile(r"([a-z]+)\.([*?]|[A-Za-z0-9_.:-]+)")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*+")


def parse(source: Source, mode: str = "mirror") -> tuple[Rule, ...]:
    """The rules of one section in order. A light module has no other node. Raises ConfigError."""
    return _Parser(source, mode).file()


class _Parser:
    def __init__(self, source: Source, mode: str) -> None:
        self._source = source
        self._mode = mode
        self._at = 0
        self._depth = 0
        self._label = ""
        self._token = Token("end", "", 0)

    def file(self) -> tuple[Rule, ...]:
        found: list[Rule] = []
        while True:
            label = self._next_label()
            if not label:
                return tuple(found)
            rule = self._rule(label)
            if rule is not None:
                found.append(rule)
            if len(found) > MAX_RULES:
                text = f"{len(found)} rules"
                raise self._source.wrong(self._token.at, text, f"are at most {MAX_RULES}")

    # Tokens.

    def _skip(self) -> None:
        space = _SPACE.match(self._source.text, self._at)
        assert space is not None
        self._at = space.end()
        if self._source.text.startswith("/*", self._at):
            raise self._source.wrong(self._at, "a comment that does not end", "is one with */")

    def _next_label(self) -> str:
        """The label that begins a rule; "": the section ends."""
        self._skip()
        text = self._source.text
        if self._at == len(text):
            return ""
        found = _LABEL.match(text, self._at)
        if found is None:
            hint = ""
            if text.startswith("--", self._at):
                hint = "a section in Lua begins with the line --Lua Rules"
            raise self._source.wrong(
                self._at, f"found {text[self._at]!r}", "is the label of a rule, as in own:", hint
            )
        self._label = found[0]
        if len(self._label) > MAX_LABEL_CHARACTERS:
            shown = f"found a label of {len(self._label)} characters"
            raise self._source.wrong(self._at, shown, f"are at most {MAX_LABEL_CHARACTERS}")
        self._at = found.end()
        self._advance()
        self._expect(":", 'is ":" after the label')
        return self._label

    def _advance(self) -> None:
        self._skip()
        text, at = self._source.text, self._at
        if at == len(text):
            self._token = Token("end", "", at)
            return
        found = _TOKEN.match(text, at)
        if found is None:
            raise self._source.wrong(
                at, f"found {xml.shown(text[at])!r}", "are names, ( ) : ; ! == != && || and /* */"
            )
        self._at = found.end()
        word = found["word"]
        kind = found[0] if word is None else "resource" if "." in word else "word"
        self._token = Token(kind, found[0], at)

    def _wrong(self, allowed: str, hint: str = "", token: Token | None = None) -> Exception:
        where = token or self._token
        return self._source.wrong(where.at, where.found, allowed, hint)

    def _expect(self, kind: str, allowed: str) -> None:
        if self._token.kind != kind:
            raise self._wrong(allowed)
        self._advance()

    def _keyword(self, word: str) -> None:
        if self._token != Token("word", word, self._token.at):
            hint = "words are in lower case" if self._token.text.lower() == word else ""
            raise self._wrong(f"is {word}", hint)
        self._advance()

    # Rules.

    def _rule(self, label: str) -> Rule | None:
        self._keyword("if")
        self._expect("(", 'is "(" after if')
        condition = self._either()
        self._expect(")", 'are ")", && and ||')
        self._keyword("then")
        action = self._action()
        if self._token.kind != ";":
            raise self._wrong('is ";" at the end of a rule')
        return None if action is None else Rule(label, condition, action)

    def _action(self) -> Action | None:
        """None: the assignment that the replication carries out by itself."""
        token = self._token
        if token.kind == "resource":
            self._assignment()
            return None
        if token.kind != "word" or token.text not in tuple(Action):
            hint = "a rule cannot wake up: a wait ends by itself" if token.text == "wakeup" else ""
            raise self._wrong(listed(ACTIONS), hint)
        if token.text == Action.SWAP and self._mode != "mirror":
            raise self._wrong("is swap() only in a module with two roles")
        self._advance()
        self._expect("(", 'is "()" after the name of an action')
        self._expect(")", 'is ")", an action has no arguments')
        return Action(token.text)

    def _assignment(self) -> None:
        token = self._token
        self._advance()
        is_it = (self._label, token.text) == (FORCE_UPTODATE, FORCED)
        if self._token.kind != "=" or not is_it:
            hint = f"only the shipped {FORCE_UPTODATE} sets a resource, {FORCED}=up"
            raise self._wrong(listed(ACTIONS), hint, token)
        self._advance()
        if self._token.text != "up":
            raise self._wrong(f"is {FORCED}=up")
        self._advance()

    # Conditions.

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._token.kind == "||":
            self._advance()
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._compared()]
        while self._token.kind == "&&":
            self._advance()
            parts.append(self._compared())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _compared(self) -> Condition:
        first = self._token
        left = self._negated()
        if self._token.kind == "=":
            raise self._wrong("are == and !=")
        if self._token.kind not in ("==", "!="):
            if isinstance(left, Term):
                raise self._no_condition(first)
            return left
        equal = self._token.kind == "=="
        self._advance()
        second = self._token
        right = self._negated()
        if self._token.kind in ("==", "!="):
            raise self._wrong('are ")", && and ||', "a comparison of a comparison needs ( )")
        if isinstance(left, Term) and isinstance(right, Term):
            if isinstance(left, Constant) and isinstance(right, Constant):
                raise self._wrong("is a resource on one side", "", second)
            return Compare(left, right, equal)
        if isinstance(left, Term) or isinstance(right, Term):
            term = first if isinstance(left, Term) else second
            raise self._wrong("is a comparison in ( ), as on the other side", "", term)
        return Same(left, right, equal)

    def _no_condition(self, token: Token) -> Exception:
        example = token.text if token.kind == "resource" else "custom.x"
        return self._wrong(f"is a comparison, as in {example} == down", "", token)

    def _negated(self) -> Condition | Term:
        """`!` binds tighter than a comparison, so what it denies is a condition of its own."""
        token = self._token
        if token.kind not in ("!", "("):
            return self._term()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._source.wrong(
                token.at, f"nested deeper than {MAX_DEPTH}", "are fewer parentheses and !"
            )
        self._advance()
        inner: Condition
        if token.kind == "(":
            inner = self._either()
            self._expect(")", 'are ")", && and ||')
        else:
            first = self._token
            part = self._negated()
            if isinstance(part, Term):
                raise self._wrong(
                    "is a condition in ( ) after !",
                    f"{xml.shown(first.text)} != up, or !({xml.shown(first.text)} == up)",
                    first,
                )
            inner = Not(part)
        self._depth -= 1
        return inner

    def _term(self) -> Term:
        token = self._token
        if token.kind == "resource":
            self._advance()
            return self._operand(token)
        if token.kind == "word" and token.text in STATES:
            self._advance()
            return Constant(token.text)
        if token.kind == "word" and token.text == "cluster":
            self._only_with_a_peer(token, "cluster()")
            self._advance()
            self._expect("(", 'is "()" after cluster')
            self._expect(")", 'is ")", cluster has no arguments')
            return ClusterCall()
        raise self._wrong(f"are a resource, as in custom.x or ip.?, and {', '.join(STATES)}")

    def _operand(self, token: Token) -> Operand:
        side, _, rest = token.text.partition(".")
        if side in (LOCAL, REMOTE):
            if side == REMOTE:
                self._only_with_a_peer(token, "remote.")
        else:
            side, rest = LOCAL, token.text
        found = _RESOURCE.fullmatch(rest)
        if found is None or found[1] not in CLASSES:
            raise self._wrong(
                "is [local.|remote.]class.id, the id a name, * or ?, the class one of "
                + ", ".join(CLASSES),
                "",
                token,
            )
        return Operand(found[1], found[2], side)

    def _only_with_a_peer(self, token: Token, what: str) -> None:
        if self._mode != "mirror":
            raise self._wrong(f"is {what} only in a module with another node", "", token)
