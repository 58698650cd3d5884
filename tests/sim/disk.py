"""What a virtual node keeps: its record, its tree with a page cache, what was kept aside."""

from __future__ import annotations

from dataclasses import dataclass, field

from safepy.model import Record


@dataclass
class Disk:
    """`tree` is what is read, `stable` what survives a power loss. Values are write numbers."""

    record: Record = field(default_factory=Record)
    tree: set[int] = field(default_factory=set)
    stable: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)

    def flush(self) -> None:
        self.stable = set(self.tree)

    def power_loss(self) -> None:
        """The page cache is gone."""
        self.tree = set(self.stable)
