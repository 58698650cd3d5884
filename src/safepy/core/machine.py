"""The core's one door: `step` and `next_deadline` (design-examples 4)."""

from __future__ import annotations

from safepy.model import Record

from .commands import Command
from .events import Event
from .state import ModuleState, Params


def initial(params: Params, record: Record | None, now: float) -> ModuleState:
    """The state of a module when the daemon starts or its configuration was applied.

    `record` is what the state directory holds (None: never configured here). `now` is seconds on
    the monotonic clock. Feed a `Tick` at once: the first beats go out with it.
    """
    raise NotImplementedError


def step(state: ModuleState, event: Event, now: float) -> tuple[ModuleState, tuple[Command, ...]]:
    """What the module becomes when `event` happens at `now`, and what the shell must do."""
    raise NotImplementedError


def next_deadline(state: ModuleState) -> float | None:
    """The moment at which the core wants a `Tick`."""
    raise NotImplementedError
