"""`safekit failover on|off`: whether this node takes over by itself as a secondary (reference 7.2).

A primary that knows that nobody takes over leaves the secondary behind when it stops, and may lead
again by its own record alone (E0). So a switch that was put on counts once a primary has answered
after it, and still served: such a one will hand over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safepy.model import PeerView

from .state import ModuleState

if TYPE_CHECKING:
    from .turn import Turn


def put(t: Turn, on: bool) -> None:
    """The switch was set, or the configuration that sets it was applied."""
    s = t.s
    if on and not s.failover:
        s.failover_since = t.now
        s.failover_known = False
    s.failover = on


def heard(t: Turn, view: PeerView) -> None:
    """The other node said this."""
    if view.serving and t.heard_at >= t.s.failover_since:
        t.s.failover_known = True


def takes_over(s: ModuleState) -> bool:
    return s.failover and s.failover_known
