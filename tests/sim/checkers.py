"""The checkers of a virtual node, and its store of resources: what is true of the world is a table,
a report on it comes a moment after a checker began to look, or at once when the world changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from safepy.core import commands as c
from safepy.core import events as e

if TYPE_CHECKING:
    from node import Node


class Checkers:
    """`truth`: what a check of the resource would find, "up" unless said. `values`: the store."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.truth: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.delay_s = (0.05, 1.0)
        self._enabled: dict[str, int] = {}
        self._enablings = 0
        self.suspended = False

    def begin(self) -> dict[str, str]:
        """A daemon starts: nobody looks yet. What it finds in the store."""
        self._enabled.clear()
        for name, _ in self.node.params.checks:
            self.values[name] = "init"
        return dict(self.values)

    def renewed(self) -> None:
        """Other checkers, of another configuration: none of them looks before it is told to."""
        self._enabled.clear()

    def set(self, name: str, value: str) -> None:
        """The core says so."""
        self.values[name] = value

    def enable(self, when: str, on: bool) -> None:
        if not on:
            self._enabled.pop(when, None)
            return
        if when in self._enabled:
            return
        self._enablings += 1
        life = self._enabled[when] = self._enablings
        for name, owner in self.node.params.checks:
            if owner == when:
                delay_s = self.node.cluster.rng.uniform(*self.delay_s)
                self.node.later(delay_s, lambda name=name: self._tested(name, when, life))

    def _tested(self, name: str, when: str, life: int) -> None:
        if self._enabled.get(when) == life:
            self._report(name, self.truth.get(name, "up"), f"{name.partition('.')[0]}check")

    def becomes(self, name: str, value: str) -> None:
        """The world changes, or (of a resource without a check) somebody sets it."""
        self.truth[name] = value
        owner = dict(self.node.params.checks).get(name)
        if owner is None:
            self._report(name, value, "root")
        elif owner in self._enabled:
            self._report(name, value, f"{name.partition('.')[0]}check")

    def heal(self) -> None:
        """Nothing is down, and checkers look."""
        self.switch(True)
        for name in [name for name, value in self.truth.items() if value != "up"]:
            self.becomes(name, "up")

    def switch(self, on: bool) -> None:
        """`safekit checker on|off`."""
        if on is not self.suspended:
            return
        self.suspended = not on
        self.node.happen(e.SwitchSet("checker", on, "root"))
        if on:
            for when in tuple(self._enabled):
                self.enable(when, False)
                self.enable(when, True)

    def _report(self, name: str, value: str, who: str) -> None:
        """As `daemon/reporting.py`: told when it changed."""
        checked = name in dict(self.node.params.checks)
        if self.node.state is None or self.values.get(name) == value:
            return
        if self.suspended and checked:
            return
        self.values[name] = value
        if value != "init":
            level = "C" if value == "down" else "I"
            self.node.note(f"{level} Resource {name} set to {value} by {who}")
        self.node.happen(e.ResourceChanged(name, value, who))

    def beat(self, command: c.SendBeat) -> c.SendBeat:
        """With this node's resources, as the daemon sends it; only where a rule could ask."""
        if not self.node.params.rules.rules:
            return command
        beat = command.beat
        view = replace(beat.view, resources=tuple(sorted(self.values.items())))
        return replace(command, beat=replace(beat, view=view))
