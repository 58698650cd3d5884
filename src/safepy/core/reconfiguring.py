"""A configuration that changes while the module runs, and the script `update` (reference 18.3).

Which changes are possible is decided before (`config/dynamic.py`); here the parameters are
replaced, and what was remembered under the old ones is forgotten where it no longer holds.
"""

from __future__ import annotations

from dataclasses import replace

from safepy.model import Level

from . import links, switching
from .events import Reconfigured
from .failover import acting
from .plans import Script, Watch
from .state import Params, Phase
from .turn import Turn


def changed(t: Turn, event: Reconfigured) -> None:
    """The parameters are these from now on; this run's own (session, boot) stay."""
    s = t.s
    if t.peer_lost:
        # With other timeouts nothing is lost before a new one has passed; what was said by a node
        # that is gone must not be believed meanwhile.
        s.peer = None
    before = s.params
    s.params = replace(event.params, session=before.session, boot_id=before.boot_id)
    switching.put(t, s.params.failover)
    s.links = links.with_lanes(s.links, s.params.lanes, t.now)
    known = {f"heartbeat.{lane.ident}" for lane in s.params.lanes}
    known |= {rule.resource for rule in s.params.rules.rules}
    s.told_resources = {
        name: value
        for name, value in s.told_resources.items()
        if not name.startswith(("heartbeat.", "rule.")) or name in known
    }
    s.told_rules = None
    gone = _no_more(before, s.params)
    s.resources = {name: value for name, value in s.resources.items() if name not in gone}
    s.checking = s.params.checking
    for watched in sorted(s.watched):
        # The checkers are new ones; what they are about is not tested yet.
        acting.watch(t, Watch(watched, True))
    t.announce(Level.EVENT, "The configuration has changed while the module runs")
    update(t)


def _no_more(before: Params, after: Params) -> set[str]:
    """Resources that the configuration names no more: a check that was `down` when it was taken out
    must not keep a rule about its class true."""
    checked = {name for name, _ in before.checks} - {name for name, _ in after.checks}
    return checked | (before.resources.keys() - after.resources.keys())


def update(t: Turn) -> None:
    """Call `update STATE STATE` where the state is settled; elsewhere the scripts that come next
    see what has changed anyway (reference 9.6, 10.1)."""
    s = t.s
    settled = s.app_ready and s.phase in (Phase.LEADING, Phase.FOLLOWING)
    if not s.plan and (settled or s.phase is Phase.DECIDING):
        t.begin((Script("update", s.state, s.state, ""),))
