"""The virtual addresses: on the node that serves, from its plan's step on, and on no other one.

Orders are carried out one after the other, so one that was given late is not overtaken.
"""

from __future__ import annotations

from safepy.model import Level

from . import commands, stopping
from .events import StepDone
from .plans import Address
from .turn import Turn


def step(t: Turn, step: Address) -> int | None:
    """Begin the step at the front of the plan. Returns its number, 0 if there is nothing to do,
    None if an earlier order has to end first."""
    s = t.s
    if not s.params.has_vip or (step is Address.REMOVE and not s.addressed):
        return 0
    if s.removing:
        return None
    if step is Address.REMOVE:
        return _remove(t)
    # From here on: an order that was given may be carried out, whatever is heard of it.
    s.addressed = True
    s.address_left = False
    number = t.new_id()
    t.do(commands.SetAddresses(number))
    return number


def rules(t: Turn) -> bool:
    """A node that does not serve gives the addresses back at once, whatever script of its plan
    still runs: its gate is shut, and the other node may be about to take them. That goes for what
    an earlier daemon left, too. What cannot be removed is tried again."""
    s = t.s
    if s.serving or not s.addressed or s.removing:
        return False
    if s.address_left and t.now < s.address_again:
        return False
    _remove(t)
    return True


def _remove(t: Turn) -> int:
    number = t.new_id()
    t.s.removing = number
    t.do(commands.RemoveAddresses(number))
    return number


def removed(t: Turn, event: StepDone) -> None:
    """The end of a removal. What does not go must not keep the module from stopping."""
    s = t.s
    told = s.address_left
    s.removing = 0
    s.addressed = s.address_left = not event.ok
    s.address_again = t.now + s.params.detection_s
    if not event.ok and not told:
        t.announce(Level.CRITICAL, f"The virtual address cannot be removed: {event.detail}")


def was_set(t: Turn, event: StepDone) -> None:
    """The end of the plan's step. An application without its address is of no use to anybody: the
    module stops. The other node waits if it was left behind already when this one took the lead:
    nobody can say that it has everything. (A node whose interface is checked does not get here.)"""
    if not event.ok:
        stopping.local_fault(t, f"The virtual address cannot be set: {event.detail}")
