"""Reading the attributes of one element into values; every refusal names all there is to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from safepy.config import xml
from safepy.errors import ConfigError

_TIME = re.compile(r"([0-9]{1,15})(d|h|ms|m|us|s)?")
_NUMBER = re.compile(r"-?[0-9]{1,15}")
_UNIT_US = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}


@dataclass(frozen=True, slots=True)
class Words:
    """What may stand in an element: carried out, not carried out yet, accepted without effect,
    refused with a reason. `text`: it has words of its own, which somebody else reads."""

    attributes: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    later_attributes: tuple[str, ...] = ()
    later_children: tuple[str, ...] = ()
    ignored_attributes: tuple[str, ...] = ()
    refused_attributes: Mapping[str, str] = field(default_factory=dict)
    refused_children: Mapping[str, str] = field(default_factory=dict)
    text: bool = False


def check_words(root: xml.Element, file: str, vocabulary: Mapping[str, Words]) -> None:
    """Refuse the first element, attribute or text that does not belong where it stands."""
    for element in root.walk():
        words = vocabulary[element.tag]
        check_attributes(element, file, words)
        for child in element.children:
            if child.tag in words.later_children:
                text = f"<{child.tag}> is not supported yet by this version"
                raise xml.error(file, child.line, text)
            if child.tag in words.refused_children:
                text = f"<{child.tag}> in <{element.tag}>: {words.refused_children[child.tag]}"
                raise xml.error(file, child.line, text)
            if child.tag not in words.children:
                text = f"<{xml.shown(child.tag)}> in <{element.tag}>: unknown element, allowed "
                raise xml.error(file, child.line, text + listed(words.children))
        if element.text.strip() and not words.text:
            text = f'<{element.tag}>: found the text "{xml.shown(element.text.strip())}", '
            raise xml.error(file, element.line, text + "allowed are only elements")


def check_attributes(element: xml.Element, file: str, words: Words) -> None:
    """Refuse the first attribute that does not belong to `words`."""
    for name, value in element.attributes.items():
        _check_attribute(element, file, name, value, words)


def _check_attribute(element: xml.Element, file: str, name: str, value: str, words: Words) -> None:
    where = f'<{element.tag}> attribute {xml.shown(name)}="{xml.shown(value)}"'
    if name in words.later_attributes:
        text = f"{where}: this attribute is not supported yet by this version"
        raise xml.error(file, element.line, text)
    if name in words.refused_attributes:
        raise xml.error(file, element.line, f"{where}: {words.refused_attributes[name]}")
    if name not in words.attributes and name not in words.ignored_attributes:
        text = f"{where}: unknown attribute, allowed {listed(sorted(words.attributes))}"
        raise xml.error(file, element.line, text)


def at_most(parent: xml.Element, tag: str, limit: int, file: str) -> None:
    """Refuse more children of this tag than `limit`, before anybody compares them pairwise."""
    found = parent.named(tag)
    if len(found) > limit:
        text = f"<{tag}> in <{parent.tag}>: found {len(found)}, allowed are at most {limit}"
        raise xml.error(file, found[limit].line, text)


def listed(names: tuple[str, ...] | list[str]) -> str:
    if not names:
        return "is none"
    return ("is " if len(names) == 1 else "are ") + ", ".join(names)


@dataclass(frozen=True, slots=True)
class Values:
    """The attributes of one element, read by kind. Each method raises ConfigError."""

    element: xml.Element
    file: str

    def wrong(self, attribute: str, allowed: str, hint: str = "") -> ConfigError:
        """The error for a value that is not allowed; `allowed` completes "allowed ..."."""
        value = self.element.attributes.get(attribute)
        found = "is missing" if value is None else f'="{xml.shown(value)}"'
        between = " " if value is None else ""
        text = f"<{self.element.tag}> attribute {attribute}{between}{found}: allowed {allowed}"
        return xml.error(self.file, self.element.line, text, hint)

    def text(self, attribute: str, default: str | None = None) -> str:
        """The value as it stands. Without a default the attribute has to be there."""
        value = self.element.attributes.get(attribute, default)
        if value is None:
            raise self.wrong(attribute, "is any text")
        return value

    def matching(
        self, attribute: str, pattern: re.Pattern[str], rule: str, default: str | None = None
    ) -> str:
        value = self.element.attributes.get(attribute, default)
        if value is None or not pattern.fullmatch(value):
            raise self.wrong(attribute, f"are {rule}")
        return value

    def choice(self, attribute: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.element.attributes.get(attribute, default)
        if value is None or value not in allowed:
            raise self.wrong(attribute, listed(allowed))
        return value

    def switch(self, attribute: str, default: bool) -> bool:
        return self.choice(attribute, ("on", "off"), "on" if default else "off") == "on"

    def integer(self, attribute: str, low: int, high: int, default: int) -> int:
        value = self.element.attributes.get(attribute)
        if value is None:
            return default
        if not _NUMBER.fullmatch(value) or not low <= int(value) <= high:
            raise self.wrong(attribute, f"are whole numbers from {low} to {high}")
        return int(value)

    def time_s(self, attribute: str, unit: str, low: int, high: int, default: int | float) -> float:
        """A duration in seconds. `unit` is that of a bare number, of `low`, `high`, `default`.

        A value with a suffix is converted to `unit` and rounded to a whole number; one that
        is not zero and rounds to zero is an error (reference: userconfig 1.4 and 5).
        """
        factor = Fraction(_UNIT_US[unit], 1_000_000)
        value = self.element.attributes.get(attribute)
        if value is None:
            return float(Fraction(default) * factor)
        found = _TIME.fullmatch(value)
        if found is None:
            allowed = f"are a whole number ({unit}), or one with d, h, m, s, ms or us"
            raise self.wrong(attribute, allowed)
        exact = Fraction(int(found[1]) * _UNIT_US[found[2] or unit], _UNIT_US[unit])
        amount = round(exact)
        if amount == 0 and exact != 0:
            raise self.wrong(attribute, f"are whole numbers of the unit '{unit}', this rounds to 0")
        if not low <= amount <= high:
            raise self.wrong(attribute, f"are times from {low}{unit} to {high}{unit}")
        return float(amount * factor)
