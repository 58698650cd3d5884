"""What every checker is: it runs as a task, and reports; it never acts (reference 9.2)."""

from __future__ import annotations

from typing import Protocol


class Checker(Protocol):
    """Watches something while its classes are enabled (prim, both, second, sec, pre)."""

    def enable(self, checker_class: str, on: bool) -> None:
        """Watch, or do not watch any more, what belongs to this class. May be repeated."""

    async def run(self) -> None:
        """Watch until cancelled."""
