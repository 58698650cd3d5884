"""ModuleState to the snapshot that CLI, console and probe show."""

from __future__ import annotations

from safepy.model import Snapshot

from .state import ModuleState


def snapshot(state: ModuleState, wall_now: float) -> Snapshot:
    """What people see. `wall_now` is wall-clock seconds, for display only."""
    raise NotImplementedError
