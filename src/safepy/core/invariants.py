"""What must be true of every state. Asserted after every step, in production too: a state that
breaks one of them stops the daemon, and with it the gate, before it can do harm."""

from __future__ import annotations

from safepy.model import Disk, Gate, State

from .plans import Address
from .state import FROZEN, Link, ModuleState, Phase

_LEADING = (Phase.LEADING, Phase.SWAPPING, Phase.STOPPING)


def check(s: ModuleState) -> None:
    """Raises AssertionError."""
    _epochs_do_not_go_back(s)
    _gate_open_only_where_it_may_be(s)
    _leads_only_with_good_data(s)
    _second_is_in_sync_only_while_following(s)
    _plan_belongs_to_the_state(s)
    _checkpoints_belong_to_a_pair(s)
    _addresses_belong_to_who_serves(s)


def _epochs_do_not_go_back(s: ModuleState) -> None:
    assert s.wanted.epoch >= s.record.epoch, "the wanted record is older than the durable one"
    assert s.wanted.promised >= s.wanted.epoch, "a node serves in an epoch it never promised"


def _gate_open_only_where_it_may_be(s: ModuleState) -> None:
    if not s.serving:
        assert s.gate is Gate.CLOSED, "the gate is open on a node that does not serve"
        assert s.link is Link.SOLO, "a node that does not serve has no secondary"
        return
    assert s.phase in _LEADING, f"serving in phase {s.phase}"
    assert s.state in (State.ALONE, State.PRIM), f"serving in state {s.state}"
    if s.link in FROZEN:
        assert s.gate is Gate.CLOSED, "a frozen node has an open gate"
    if s.gate is Gate.PRIM:
        assert s.link is Link.PAIRED, "the gate is PRIM without a secondary"


def _leads_only_with_good_data(s: ModuleState) -> None:
    """I2; an operator's force makes the record UPTODATE first, so there is no exception."""
    if not s.serving or not s.params.has_rfs:
        return
    assert s.record.disk is Disk.UPTODATE, f"serving with a tree that is {s.record.disk}"
    if s.gate is Gate.ALONE and s.link is Link.SOLO:
        assert s.record.peer_behind, "serving alone although nobody was left behind durably (I4)"


def _second_is_in_sync_only_while_following(s: ModuleState) -> None:
    if s.synced and s.params.has_rfs and s.phase is Phase.FOLLOWING:
        assert s.following, "in sync without a stream that was asked for"


def _plan_belongs_to_the_state(s: ModuleState) -> None:
    if s.phase is Phase.STOPPED:
        assert not s.plan, "a stopped module has a plan"
        assert not s.serving
    if s.running:
        assert s.plan, "a step runs that belongs to no plan"


def _addresses_belong_to_who_serves(s: ModuleState) -> None:
    if s.running and s.plan[0] is Address.SET:
        assert s.serving, "an address is being set on a node that does not serve"
    if s.addressed and not s.serving and not s.address_left:
        assert s.removing, "nobody removes the address of a node that serves no more"


def _checkpoints_belong_to_a_pair(s: ModuleState) -> None:
    assert s.wanted.checkpoint <= s.wanted.checkpoint_started, "completed before it began (I6)"
    if s.checkpoint is not None:
        paired = s.link is Link.PAIRED if s.serving else s.synced
        assert paired, "a checkpoint is under way without a pair"
