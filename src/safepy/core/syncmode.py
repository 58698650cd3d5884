"""How much a resynchronisation must look at: the least that the two records allow (protocol 6).

Evaluated on the source from its own record and what the follower says of itself. The workers know
more of their trees (marks that were lost, suspects of a log) and may ask for more, never for less.
"""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Active, Disk, PeerView, Record, SyncMode, SyncPolicy

from .records import checkpoints_agree, marked_since
from .reunion import relation

#: The reference's message (6.5). It refuses; we go by counters instead of dates, and compare.
ABNORMAL = (
    "Automatic synchronization cannot be applied due to an abnormal delta between the dates of "
    "the last synchronization"
)
ABNORMAL_NEXT = "one node was put back to an older state: everything is compared instead"


@dataclass(frozen=True, slots=True)
class Choice:
    """`row` is that of protocol 6, or the command; `reason` the sentence for people. `abnormal`:
    the checkpoints do not agree (I15). `since`: see `commands.AllowFollower`."""

    mode: SyncMode
    row: str
    reason: str
    abnormal: bool = False
    since: float = 0.0


def choose(source: Record, target: PeerView) -> Choice:
    """What the source does for this follower."""
    theirs = target.record
    wished = _wished(source, target)
    if wished is not None:
        return wished
    if theirs.disk is Disk.UNCONFIGURED or not theirs.gen or not source.gen:
        return _everything("D2", "this is the first synchronisation of the other node")
    row = relation(source, theirs)
    if row == "D11":
        return _everything(row, "the two nodes hold unrelated data")
    if row in ("D9", "D10"):
        return _everything(row, "both nodes went on alone")
    if source.forced or theirs.forced:
        return _everything(row, "a node was forced to lead")
    if not checkpoints_agree(source, theirs):
        return Choice(SyncMode.EVERYTHING, row, "the checkpoints do not agree", abnormal=True)
    if theirs.gen not in marked_since(source):
        return _everything(row, "the other node missed more than the last change of roles")
    if crashed_as_primary(theirs):
        return Choice(SyncMode.WALK, row, "the other node ended as primary without a clean stop")
    return Choice(SyncMode.ZONES, row, "what changed since both nodes were in sync is known")


def crashed_as_primary(record: Record) -> bool:
    """Its last operations may be in its tree and nowhere else, names included."""
    return record.crashed_primary or record.active is Active.PRIMARY


def _everything(row: str, reason: str) -> Choice:
    return Choice(SyncMode.EVERYTHING, row, reason)


def _wished(source: Record, target: PeerView) -> Choice | None:
    """An operator's word comes before the table."""
    theirs = target.record
    for record, where in ((source, "here"), (theirs, "on the other node")):
        if record.policy.mode == "full":
            command = record.policy.why or "rfssync full"
            return _everything(command, f"asked for by {command} {where}")
    if theirs.policy.mode == "external":
        # The marks are complete since this node began to serve alone, and that was before the
        # backup: what the source itself does not know for certain it will say (worker).
        uid = theirs.policy.uid
        return Choice(
            SyncMode.ZONES, "external", f"the other node was restored from the backup {uid}"
        )
    if target.copy_since:
        return Choice(
            SyncMode.WALK,
            "secondforce",
            "of files only those modified after the date that an operator gave",
            since=target.copy_since,
        )
    return None


def objection(mine: Record, source: PeerView) -> str:
    """Follower: why the policy that was chosen here cannot be applied with this source, or
    empty (reference 19.9: the secondary stops with an error then)."""
    policy, theirs = mine.policy, source.record.policy
    if policy.mode != "external":
        return ""
    if policy.role != "second":
        return f"this node is the prim of the external synchronisation {policy.uid}"
    if theirs.mode != "external" or theirs.role != "prim":
        return f"the primary knows of no external synchronisation {policy.uid}"
    if theirs.uid != policy.uid:
        return f"the primary's external synchronisation is {theirs.uid}, not {policy.uid}"
    return ""


def applicable(mine: Record, peer: PeerView | None) -> bool:
    """Value of the resource rfs.rfssync (reference 19.8)."""
    policy = mine.policy
    if policy.mode != "external" or policy.role == "prim":
        return True
    return peer is not None and not objection(mine, peer)


#: How each mode is called in the module log and in `state -v`.
WORDS = {
    SyncMode.ZONES: "zones only",
    SyncMode.WALK: "names and attributes, content where needed",
    SyncMode.EVERYTHING: "everything",
}


def in_words(mode: str, reason: str) -> str:
    """`Reintegration: zones only: ...`, without the first word."""
    known = mode in SyncMode.__members__.values()
    words = WORDS[SyncMode(mode)] if known else mode
    return f"{words}: {reason}" if reason else words


def policy_in_words(policy: SyncPolicy) -> str:
    """What `safekit rfssync` shows; empty for the default."""
    if policy.mode == "external":
        blind = "" if policy.detect else ", changes before the start not looked for"
        return f"external, {policy.role} of {policy.uid}{blind}"
    if policy.mode == "full":
        return f"full ({policy.why})" if policy.why else "full"
    return ""
