r"""POSIX extended regular expressions, as userconfig.xml has them (reference: userconfig 2).

Translated to Python's language, so that what SafeKit's administrators wrote means the same here.
What the two do not share (`(?...)`, lazy and possessive repetition) is refused instead of being
given a meaning, and so is `{,2}`, which the C library reads as `{0,2}` and others as text.
`\w \W \s \S \b \B \< \>` (GNU) and `\d \D` keep their usual meaning.
"""

from __future__ import annotations

import re

from safepy.core.replica.patterns import MAX_PATTERN_CHARACTERS, bracket

_KNOWN_ESCAPES = frozenset("wWsSbBdD")
#: Where a word begins, and where it ends.
_WORD_EDGES = {"<": r"\b(?=\w)", ">": r"\b(?<=\w)"}
_REPETITION = frozenset("*+?")


def compile_ere(pattern: str) -> re.Pattern[str]:
    """A compiled pattern for `search` (POSIX matches anywhere unless anchored).

    Raises ValueError with a sentence that says what is wrong.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"longer than {MAX_PATTERN_CHARACTERS} characters")
    try:
        return re.compile(_translate(pattern), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def _translate(pattern: str) -> str:
    out: list[str] = []
    at = 0
    repeated = False
    while at < len(pattern):
        sign = pattern[at]
        repeats = sign in _REPETITION or (sign == "{" and pattern[at + 1 : at + 2].isdigit())
        if repeats and repeated:
            raise ValueError(f"two repetitions in a row at position {at}")
        if sign == "[":
            piece, at = bracket(pattern, at)
        elif sign == "\\":
            piece, at = _escape(pattern, at)
        elif sign == "{" and repeats:
            end = pattern.find("}", at)
            if end < 0:
                raise ValueError(f"{{ at position {at} is not closed")
            piece, at = pattern[at : end + 1], end + 1
        elif re.match(r"\{,\d", pattern[at : at + 3]):
            raise ValueError(f"{{, at position {at}: write {{0,")
        elif pattern.startswith("(?", at):
            raise ValueError(f"(? at position {at} is no POSIX expression")
        else:
            piece, at = {"$": r"\Z", "{": r"\{"}.get(sign, sign), at + 1
        repeated = repeats
        out.append(piece)
    return "".join(out)


def _escape(pattern: str, at: int) -> tuple[str, int]:
    sign = pattern[at + 1 : at + 2]
    if not sign:
        raise ValueError("ends with a backslash")
    if sign.isalnum() and sign not in _KNOWN_ESCAPES:
        raise ValueError(f"\\{sign} at position {at} has no meaning")
    if sign in _WORD_EDGES:
        return _WORD_EDGES[sign], at + 2
    return ("\\" + sign if sign in _KNOWN_ESCAPES else re.escape(sign)), at + 2
