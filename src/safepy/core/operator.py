"""What an operator says about the next synchronisation, and what the configuration consents to
beforehand: `rfssync`, `fullsync`, `secondforce`, `primforce`, `syncdelta`, `syncat`
(reference 6.4 to 6.8).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from safepy.model import Level, State, SyncPolicy

from . import maintenance, records, stopping, syncmode
from .commands import SetResource
from .events import ActionRequested
from .state import Link, Phase
from .turn import SYNCDELTA_S_MIN, Turn

#: How often the moment in sync is recorded for it.
STAMP_S = 30.0
#: The longest name of an external synchronisation (reference 6.6).
UID_CHARACTERS_MAX = 24


def policy_set(t: Turn, policy: SyncPolicy) -> None:
    """`safekit rfssync`. The follower begins nothing before the source knows of it."""
    s = t.s
    s.policy_version = t.want(replace(s.wanted, policy=policy))


def wished(t: Turn, event: ActionRequested) -> None:
    """The part of prim, primforce, second and secondforce that concerns the synchronisation."""
    s = t.s
    s.copy_since = event.since if event.action == "secondforce" else 0.0
    s.policy_wished = event.fullsync or event.action == "primforce"
    if s.policy_wished:
        why = f"{event.action} fullsync" if event.fullsync else event.action
        policy_set(t, SyncPolicy(mode="full", why=why))
    if s.copy_since:
        s.fresh_since = t.now
        moment = datetime.fromtimestamp(s.copy_since, UTC)
        t.announce(
            Level.CRITICAL,
            f"Only files modified on the primary after {moment:%Y-%m-%d %H:%M:%S}Z are copied: the "
            "operator answers for the older ones, which are taken as equal",
        )


def aborted(t: Turn) -> None:
    """The forced start came to nothing, and so does what was said with it."""
    s = t.s
    if s.policy_wished:
        policy_set(t, SyncPolicy())
    s.policy_wished = False
    s.copy_since = 0.0


def sync_due(t: Turn, on: bool) -> None:
    """The resource rfs.syncat was set, by the schedule or by hand."""
    if t.s.params.syncat:
        t.s.sync_due = on
        t.do(SetResource("rfs.syncat", "up" if on else "down"))


# Looked at by the decision in WAIT.


def may_follow(t: Turn) -> bool:
    """The source knows what was said here of the next synchronisation."""
    s = t.s
    return not s.policy_version and t.heard_at >= s.fresh_since


def must_wait_for_schedule(t: Turn) -> bool:
    """Rule rfs_syncat_wait (reference 6.8); an operator's `second` is a date of its own."""
    s = t.s
    return s.params.syncat and not s.sync_due and not s.wish.startswith("second")


# Rules that hold at every moment.


def rules(t: Turn) -> bool:
    return _policy_known(t) or _stamp(t) or _scheduled_done(t)


def _policy_known(t: Turn) -> bool:
    """A beat that was sent from now on tells the source of it."""
    s = t.s
    if not s.policy_version or not t.durable(s.policy_version):
        return False
    s.policy_version = 0
    s.fresh_since = t.now
    return True


def _stamp(t: Turn) -> bool:
    s = t.s
    if s.params.syncdelta_s <= SYNCDELTA_S_MIN or t.now < s.stamp_at or not _in_sync(t):
        return False
    s.stamp_at = t.now + STAMP_S
    t.want(records.in_sync(s.wanted, t.wall))
    return True


def _in_sync(t: Turn) -> bool:
    s = t.s
    if not s.params.has_rfs:
        return False
    return s.link is Link.PAIRED if s.serving else s.synced and s.phase is Phase.FOLLOWING


def _scheduled_done(t: Turn) -> bool:
    """In sync: back to the waiting for the next date."""
    s = t.s
    if not s.params.syncat or s.phase is not Phase.FOLLOWING or not (s.synced and s.app_ready):
        return False
    view = t.view
    if view is None or view.state is not State.PRIM:
        return False  # It is leaving, or gone: this node may be needed.
    if maintenance.on(s):
        return False
    sync_due(t, False)
    t.announce(Level.EVENT, "Synchronised as scheduled: waits for the next date (rfs_syncat_wait)")
    stopping.begin(t, "stopstart", start_again=True)
    return True


# What is shown.


def resources(t: Turn) -> dict[str, str]:
    """The resources of the replication, by name (reference 12)."""
    s = t.s
    policy = s.record.policy
    shown = {
        "rfs.degraded": "up" if s.degraded else "down",
        "rfs.reintegre_failed": "true" if s.reintegre_failed else "false",
        "rfs.rfssync": "up" if syncmode.applicable(s.record, t.view) else "down",
        "usersetting.rfssyncmode": policy.mode,
        "usersetting.rfssyncrole": policy.role,
        "usersetting.rfssyncuid": policy.uid or "default",
    }
    if s.params.syncdelta_s > SYNCDELTA_S_MIN:
        shown["rfs.synced"] = "up" if _in_sync(t) or t.recent else "down"
    if s.params.syncat:
        shown["rfs.syncat"] = "up" if s.sync_due else "down"
    return shown
