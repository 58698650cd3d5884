"""Where in userconfig.xml a mistake of a rule stands: line and column, both from 1."""

from __future__ import annotations

from dataclasses import dataclass

from safepy.config import xml
from safepy.errors import ConfigError

#: Bounds on what one `<failover>` may hold.
MAX_SECTIONS = 16
MAX_CHARACTERS = 64 * 1024
MAX_RULES = 256
MAX_DEPTH = 32
MAX_LABEL_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one CDATA section."""

    file: str
    section: xml.Section

    @property
    def text(self) -> str:
        return self.section.text

    def line(self, offset: int) -> int:
        return self.section.line + self.text.count("\n", 0, offset)

    def wrong(self, offset: int, found: str, allowed: str, hint: str = "") -> ConfigError:
        """The error at this character: what stands there, and what could."""
        line_start = self.text.rfind("\n", 0, offset) + 1
        column = offset - line_start + 1
        if line_start == 0:
            column += self.section.column - 1
        text = f"<failover> column {column}: {found}, allowed {allowed}"
        return xml.error(self.file, self.line(offset), text, hint)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is word, resource, text, end, or the sign itself; `at` is an offset."""

    kind: str
    text: str
    at: int

    @property
    def found(self) -> str:
        return "the rules end" if self.kind == "end" else f"found {xml.shown(self.text)!r}"
