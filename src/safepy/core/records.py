"""What each chapter of life writes into the generation record (protocol 2.1 and 5).

Pure functions from record to record. Every one of them keeps `promised` and `epoch` from going
back.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from safepy.model import Active, Disk, Record, SyncPolicy

History = tuple[tuple[int, str], ...]
HISTORY_LENGTH = 16
DEFAULT_POLICY = SyncPolicy()


def generation_name(session: str, node: str, epoch: int) -> str:
    """A name no other generation has: `session` is random, and an epoch is claimed once."""
    return hashlib.sha256(f"{session}|{node}|{epoch}".encode()).hexdigest()[:32]


def see(record: Record, epoch: int) -> Record:
    """An epoch was seen in use."""
    return replace(record, promised=max(record.promised, epoch))


def next_epoch(record: Record) -> int:
    return max(record.epoch, record.promised) + 1


def _depart(record: Record, session: str) -> Record:
    """A new generation that departs from the present one."""
    epoch = next_epoch(record)
    history = record.history
    if record.gen:
        history = ((record.epoch, record.gen), *history)[:HISTORY_LENGTH]
    return replace(
        record,
        epoch=epoch,
        promised=epoch,
        gen=generation_name(session, record.node, epoch),
        base=record.gen,
        marks_base="",
        history=history,
        modified=False,
    )


def lead(record: Record, session: str, boot_id: str, same: bool, forced: bool) -> Record:
    """WAIT to ALONE. `same`: this node is known to be the newest, nothing departs (E0), unless the
    other node holds this very generation: what is written from here on must not bear the name of
    what it holds (I19). That is so after `leave_behind`."""
    same = same and record.solo_role != ""
    led = record if same else _depart(record, session)
    return replace(
        led,
        disk=Disk.UPTODATE,
        peer_behind=True,
        active=Active.PRIMARY,
        forced=forced or (same and record.forced),
        crashed_primary=False,
        solo_role=record.solo_role if same else "P",
        boot_id=boot_id,
    )


def take_over(record: Record, session: str, boot_id: str) -> Record:
    """SECOND to ALONE."""
    return replace(
        _depart(record, session),
        peer_behind=True,
        active=Active.PRIMARY,
        forced=False,
        solo_role="S",
        boot_id=boot_id,
    )


def claim(record: Record, session: str, unjoined: Record | None = None) -> Record:
    """PRIM lost its secondary: the generation a secondary must hear of before writes go on.

    `peer_behind` stays false until permission is obtained: it is the evidence E0, and a node that
    crashes while it asks must not find permission in its own record when it returns.

    `unjoined`: the record before a join that the secondary never confirmed. No mark went (I11), so
    they tell all since before it; the checkpoint that the join was, is not known to be complete."""
    claimed = replace(_depart(record, session), peer_behind=False, solo_role="P")
    if unjoined is None:
        return claimed
    return replace(
        claimed,
        marks_base=unjoined.marks_base or unjoined.base,
        checkpoint=unjoined.checkpoint,
        forced=unjoined.forced,
    )


def confirmed_late(record: Record) -> Record:
    """The join was confirmed after all, just before the secondary was lost: the marks went."""
    return replace(record, marks_base="", checkpoint=record.checkpoint_started)


def marked_since(record: Record) -> frozenset[str]:
    """The generations since which this node's marks tell of every difference."""
    names = {record.gen, record.base}
    ancestors = [gen for _, gen in record.history]
    if record.marks_base in ancestors:
        names.update(ancestors[: ancestors.index(record.marks_base) + 1])
    return frozenset(names - {""})


def confirm(record: Record) -> Record:
    """Permission obtained. `modified`: the held writes are in the tree already."""
    return replace(record, peer_behind=True, modified=True)


def is_unconfirmed_claim(record: Record) -> bool:
    """The node ended while it asked: nothing was acknowledged under the claimed generation.

    `modified` tells it from a node that went on alone and gave way later (`outdated` clears
    `peer_behind` as well): what that one acknowledged is found again by its generation (I19)."""
    asking = record.active is Active.PRIMARY and not record.peer_behind and not record.modified
    return asking and record.solo_role == "P" and record.base != ""


def join(
    record: Record,
    peer_started: int = 0,
    synced_at: float = 0.0,
    policy: SyncPolicy = DEFAULT_POLICY,
) -> Record:
    """The source stopped answering alone; next the follower may adopt (I11).

    Both trees are flushed and equal, so it is a checkpoint as well: its number is beyond every one
    that either node ever began (`peer_started`: the follower's). `policy`: for the time after."""
    epoch = next_epoch(record)
    checkpoint = max(record.checkpoint_started, record.checkpoint, peer_started) + 1
    return replace(
        record,
        epoch=epoch,
        shared=epoch,
        promised=epoch,
        checkpoint=checkpoint,
        checkpoint_started=checkpoint,
        synced_at=synced_at,
        policy=policy,
        marks_base="",
        peer_behind=False,
        modified=False,
        forced=False,
        solo_role="",
    )


def follow(record: Record, epoch: int, boot_id: str, has_data: bool) -> Record:
    """Before the first byte changes (I10). The own `gen` stays until adoption: it tells what
    was here, and thereby what must be kept aside if the copying is interrupted."""
    return replace(
        see(record, epoch),
        epoch=max(record.epoch, epoch),
        disk=Disk.INCONSISTENT if has_data else record.disk,
        peer_behind=False,
        active=Active.SECONDARY,
        crashed_primary=record.crashed_primary or record.active is Active.PRIMARY,
        last_role="P" if record.active is Active.PRIMARY else record.last_role,
        boot_id=boot_id,
    )


def adopt(
    record: Record,
    epoch: int,
    gen: str,
    base: str,
    history: History,
    checkpoint: int = 0,
    synced_at: float = 0.0,
    policy: SyncPolicy = DEFAULT_POLICY,
) -> Record:
    """The tree equals the source's and is flushed (I11)."""
    return replace(
        see(record, epoch),
        checkpoint=checkpoint,
        checkpoint_started=checkpoint,
        crashed_primary=False,
        synced_at=synced_at,
        policy=policy,
        epoch=max(record.epoch, epoch),
        shared=epoch,
        gen=gen,
        base=base,
        history=history,
        marks_base="",
        disk=Disk.UPTODATE,
        peer_behind=False,
        modified=False,
        forced=False,
        solo_role="",
    )


def begin_checkpoint(record: Record) -> Record:
    """PRIM, before its log is rotated (protocol 4.3 a)."""
    return replace(record, checkpoint_started=max(record.checkpoint, record.checkpoint_started) + 1)


def in_sync(record: Record, wall: float) -> Record:
    """Both nodes are in sync at this moment (Unix seconds)."""
    return replace(record, synced_at=wall)


def complete_checkpoint(record: Record, number: int, synced_at: float) -> Record:
    """Everything before this checkpoint is durable (4.3 c, d)."""
    return replace(
        in_sync(record, synced_at),
        checkpoint=max(record.checkpoint, number),
        checkpoint_started=max(record.checkpoint_started, number),
    )


def put_back(record: Record, other: Record) -> bool:
    """`other` completed a checkpoint together with this node that `record` knows nothing of: it is
    from before it (a snapshot, a backup; F50). Never true of a node that only missed something."""
    known = Disk.UNCONFIGURED not in (record.disk, other.disk)
    return known and not record.forced and other.checkpoint > record.checkpoint_started


def checkpoints_agree(a: Record, b: Record) -> bool:
    """Neither node has completed a checkpoint that the other never began (protocol 2.1)."""
    return a.checkpoint <= b.checkpoint_started and b.checkpoint <= a.checkpoint_started


def outdated(record: Record) -> Record:
    """This node's tree is behind the other's. INCONSISTENT stays: it is worse."""
    disk = Disk.OUTDATED if record.disk is Disk.UPTODATE else record.disk
    return replace(record, disk=disk, peer_behind=False)


def inconsistent(record: Record) -> Record:
    """Neither the old nor the new content is whole here."""
    return replace(record, disk=Disk.INCONSISTENT, peer_behind=False)


def unclaim(record: Record) -> Record:
    """Step back from a claim in which nothing was acknowledged: the old generation again, with
    the new epoch. What was written and not acknowledged is overwritten by the new leader's."""
    gen = record.base
    history = record.history[1:] if record.history[:1] and record.history[0][1] == gen else ()
    return replace(
        record, gen=gen, base="", marks_base="", history=history, solo_role="", modified=False
    )


def stopped(record: Record, role: str) -> Record:
    """A clean end of activity."""
    return replace(record, active=Active.NONE, last_role=role)


def gave_way(record: Record) -> Record:
    """The end of activity of a node that does not serve. Of a primary that stopped serving before,
    because another one leads or nobody permits it, that was no clean end: what it did last, names
    included, may be in its tree and nowhere else."""
    primary = record.active is Active.PRIMARY
    return replace(
        stopped(record, "P" if primary else "S"),
        crashed_primary=record.crashed_primary or primary,
    )


def modified(record: Record) -> Record:
    """The application is about to change something while this node is alone (I4)."""
    return replace(record, modified=True)


def renumber(record: Record) -> Record:
    """The same generation goes on under the highest number there is."""
    epoch = next_epoch(record)
    return replace(record, epoch=epoch, promised=epoch)


def leave_behind(record: Record) -> Record:
    """The other node is left behind durably, although it holds the same data today."""
    return replace(record, peer_behind=True)
