"""`<failover>`: its attributes and its sections, with the rules that nobody writes, as one set
(reference: userconfig 16)."""

from __future__ import annotations

from dataclasses import dataclass

from safepy.config import xml
from safepy.config.failover import generated, grammar, lua
from safepy.config.failover.places import MAX_CHARACTERS, MAX_RULES, MAX_SECTIONS, Source
from safepy.config.schema import Checks
from safepy.config.values import Values, Words
from safepy.core.failover.rules import Rule, RuleSet
from safepy.errors import ConfigError

VOCABULARY = {"failover": Words(attributes=("extends", "period", "handle_time"), text=True)}


@dataclass(frozen=True, slots=True)
class Failover:
    rules: RuleSet
    period_s: float = 5.0
    handle_time_s: float = 15.0


def parse_failover(element: xml.Element | None, file: str, mode: str, checks: Checks) -> Failover:
    """All rules of a module with these checks; `element` None: nothing is written. Raises
    ConfigError."""
    known = _Known()
    if element is None:
        for rule in (*generated.shipped(mode), *generated.of_checks(checks)):
            known.rules[rule.label] = rule
        return Failover(RuleSet(tuple(known.rules.values())))
    values = Values(element, file)
    period_s = values.time_s("period", "ms", 100, 3_600_000, 5_000)
    handle_time_s = values.time_s("handle_time", "ms", 0, 86_400_000, 15_000)
    if round(handle_time_s * 1000) % round(period_s * 1000):
        raise values.wrong(
            "handle_time", f"are multiples of period, which is {round(period_s * 1000)}ms"
        )
    extends = values.choice("extends", ("yes", "no"), "yes") == "yes"
    shipped = generated.shipped(mode)
    for rule in (*(shipped if extends else ()), *generated.of_checks(checks)):
        known.rules[rule.label] = rule
    for source in _sources(element, file):
        if lua.is_lua(source.text):
            known.add_lua(source, lua.parse(source, mode))
        else:
            known.add(source, grammar.parse(source, mode))
    known.switch_off({rule.label for rule in shipped})
    if len(known.rules) > MAX_RULES:
        text = f"<failover>: {len(known.rules)} rules, allowed are at most {MAX_RULES}"
        raise xml.error(file, element.line, text)
    return Failover(RuleSet(tuple(known.rules.values())), period_s, handle_time_s)


def _sources(element: xml.Element, file: str) -> list[Source]:
    sections = element.sections
    size = sum(len(section.text) for section in sections)
    inside = sum(len("".join(section.text.split())) for section in sections)
    if len("".join(element.text.split())) > inside:
        text = "<failover>: found text, allowed are rules in <![CDATA[ ... ]]>"
        raise xml.error(file, element.line, text)
    if len(sections) > MAX_SECTIONS or size > MAX_CHARACTERS:
        text = f"<failover>: found {len(sections)} sections with {size} characters, allowed are at "
        raise xml.error(file, element.line, text + f"most {MAX_SECTIONS} with {MAX_CHARACTERS}")
    return [Source(file, section) for section in sections]


class _Known:
    """The rules so far, by label, and what is to be switched off."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self._off: list[tuple[Source, str, int]] = []

    def add(self, source: Source, rules: tuple[Rule, ...]) -> None:
        for rule in rules:
            if rule.label in self.rules or rule.label in generated.BUILT_IN:
                raise self._again(source, rule.label)
            self.rules[rule.label] = rule

    def add_lua(self, source: Source, said: lua.Lua) -> None:
        self.add(source, said.rules)
        self._off += [(source, label, at) for label, at in said.disabled]

    def _again(self, source: Source, label: str) -> ConfigError:
        at = source.text.find(label)
        rule = self.rules.get(label)
        origin = "built in" if rule is None else rule.origin.value
        found = f"the label {xml.shown(label)} is there already ({origin})"
        return source.wrong(max(at, 0), found, "is each label once")

    def switch_off(self, shipped: set[str]) -> None:
        """After all sections: the order of sections means nothing."""
        for source, label, at in self._off:
            if label in generated.BUILT_IN:
                hint = "heartbeats and replication need it"
                raise source.wrong(at, f"found {label}", "are " + self._labels(), hint)
            prefix = generated.REPLACED.get(label)
            if prefix is not None and label not in self.rules:
                hint = f'each check has a rule of its own, {prefix}IDENT; or action="noaction"'
                raise source.wrong(at, f"found {label}", "are " + self._labels(), hint)
            if label not in self.rules and label not in shipped:
                raise source.wrong(at, f"found {xml.shown(label)}", "are " + self._labels())
            self.rules.pop(label, None)

    def _labels(self) -> str:
        return "labels of rules: " + xml.shown(", ".join(self.rules))
