"""What can never be done to a module as it is now, said at once instead of ignored later."""

from __future__ import annotations

from safepy.core.state import Phase
from safepy.daemon.module import Module
from safepy.errors import RequestRefused
from safepy.model import State

#: In which states an action can mean anything.
_STARTED = frozenset(State) - {State.STOP}
_ALLOWED = {
    "start": frozenset({State.STOP}),
    "prim": frozenset({State.STOP, State.WAIT}),
    "primforce": frozenset({State.STOP, State.WAIT}),
    "second": frozenset({State.STOP, State.WAIT}),
    "secondforce": frozenset({State.STOP, State.WAIT}),
    "stop": frozenset(State),
    "shutdown": frozenset(State),
    "restart": frozenset({State.ALONE, State.PRIM, State.SECOND, State.UP}),
    "stopstart": _STARTED,
    "swap": frozenset({State.PRIM, State.SECOND}),
}
#: What a light module cannot do.
_OF_A_PAIR = ("prim", "primforce", "second", "secondforce", "swap")


def require_possible(module: Module, action: str, fullsync: bool = False) -> None:
    """Raises RequestRefused."""
    config, name = module.plan.config, module.name
    if config.mode == "light" and action in _OF_A_PAIR:
        raise RequestRefused(f"{action} is not possible: module {name} is light, it has one node")
    state = module.snapshot.state
    if state not in _ALLOWED[action]:
        hint = f"safekit state -m {name}"
        if action == "start":
            hint = "already started"
            if module.state.phase is Phase.STOPPING:
                hint = f"it is being stopped: safekit waitstop -m {name}, then start"
        raise RequestRefused(f"{action} is not possible: module {name} is {state}", hint)
    about_data = fullsync or action in ("primforce", "secondforce")
    if about_data and config.rfs is None:
        raise RequestRefused(f"module {name} has no replicated directories")
