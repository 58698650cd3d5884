"""Words that come from the other node, made fit for our logs and reports.

Whoever holds the key may still send a megabyte, line breaks or escape sequences as a "reason". What
is kept is one line of printable characters and bounded length; both sides do it, so that nothing
of what a node of ours says is lost on the way.
"""

from __future__ import annotations

TEXT_CHARACTERS_MAX = 600
_ELLIPSIS = " ..."


def one_line(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """`text` as one printable line of at most `characters_max` characters (S3, S21)."""
    if len(text) <= characters_max and text.isprintable():
        return text
    cut = text[:characters_max]
    clean = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)
    if len(clean) <= characters_max and cut == text:
        return clean
    return clean[: characters_max - len(_ELLIPSIS)] + _ELLIPSIS
