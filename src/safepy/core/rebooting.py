"""`automatic_reboot="on"`: a stopstart that a detector or a failover rule asks for reboots the
server instead (reference 9.5). Never for an administrator's command."""

from __future__ import annotations

from safepy.model import Level

from . import stopping
from .commands import Reboot
from .events import ActionRequested, StepDone
from .state import ModuleState, Phase
from .turn import Turn

#: A server that has not begun to stop its modules by then does not reboot.
REBOOT_LIMIT_S = 300.0
_ENDING = (Phase.STOPPED, Phase.STOPPING)


def instead(t: Turn, event: ActionRequested) -> bool:
    """Whether the server is rebooted, or about to be, instead of this stopstart."""
    s = t.s
    if not s.params.automatic_reboot or s.phase in _ENDING:
        return False
    if s.reboot_until is None:
        s.reboot_until = t.now + REBOOT_LIMIT_S
        s.reboot_step = t.new_id()
        t.announce(Level.CRITICAL, f"Action reboot called by {event.who}: automatic_reboot")
        t.do(Reboot(s.reboot_step, f"stopstart of {s.params.module} called by {event.who}"))
    return True


def answered(t: Turn, event: StepDone) -> bool:
    """The result of `Reboot`; whether it was one. From the order on, the modules are stopped in
    order by the end of the daemon, this one with them."""
    s = t.s
    if not s.reboot_step or event.step_id != s.reboot_step:
        return False
    s.reboot_step = 0
    if not event.ok:
        _give_up(t, event.detail)
    return True


def rules(t: Turn) -> bool:
    s = t.s
    if s.reboot_until is None:
        return False
    if s.phase in _ENDING:
        s.reboot_until = None
        return True
    if t.now < s.reboot_until:
        return False
    _give_up(t, f"nothing happened for {REBOOT_LIMIT_S:.0f} s")
    return True


def due(s: ModuleState) -> float:
    """When it is given up."""
    return float("inf") if s.reboot_until is None else s.reboot_until


def _give_up(t: Turn, why: str) -> None:
    """The module cannot stay as it is: what was asked for first is done after all."""
    t.s.reboot_until = None
    t.announce(Level.CRITICAL, f"The server does not reboot ({why}): stopstart instead")
    stopping.begin(t, "stopstart", start_again=True)
