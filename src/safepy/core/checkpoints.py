"""Checkpoints: moments at which both nodes have everything on their disks (protocol 4.3).

The two counters of the record are durable before what follows from them: `checkpoint_started`
before the primary's log is rotated, both on the secondary before it answers, `checkpoint` before
the primary drops the marks of the older window (I6). So a node whose counter is ahead of what the
other ever began was not there at that checkpoint: it, or the other, was put back to an older
state, and marks say nothing about the difference (I15).
"""

from __future__ import annotations

from . import records
from .commands import CheckpointBegun, CheckpointRecorded
from .state import CheckpointStage, CheckpointUnderWay, Link, Phase
from .turn import Turn

__all__ = ["reached", "rules", "wanted"]


# What the worker reports.


def wanted(t: Turn, epoch: int) -> None:
    """PRIM: the window is full or old. One checkpoint at a time."""
    s = t.s
    if s.checkpoint is not None or not _leads_a_pair(t) or epoch != t.epoch:
        return
    record = records.begin_checkpoint(s.wanted)
    s.checkpoint = CheckpointUnderWay(
        record.checkpoint_started, CheckpointStage.BEGINNING, t.want(record)
    )


def reached(t: Turn, epoch: int, number: int) -> None:
    """Everything before the checkpoint is durable: here (SECOND), on both nodes (PRIM)."""
    s = t.s
    under_way = s.checkpoint
    if s.serving:
        if under_way is None or not _leads_a_pair(t) or epoch != t.epoch:
            return
        if under_way.stage is not CheckpointStage.FLUSHING or under_way.number != number:
            return
    elif not _in_sync(t) or epoch != s.adopted_epoch or number <= s.wanted.checkpoint:
        return
    version = t.want(records.complete_checkpoint(s.wanted, number, t.wall))
    s.checkpoint = CheckpointUnderWay(number, CheckpointStage.RECORDING, version)


# Rules that hold at every moment.


def rules(t: Turn) -> bool:
    """A checkpoint is void when its link is not what it was; its numbers stay in the record, which
    does no harm: the older window is kept."""
    s = t.s
    under_way = s.checkpoint
    if under_way is None:
        return False
    if not (_leads_a_pair(t) if s.serving else _in_sync(t)):
        s.checkpoint = None
        return True
    if under_way.stage is CheckpointStage.FLUSHING or not t.durable(under_way.version):
        return False
    if under_way.stage is CheckpointStage.BEGINNING:
        s.checkpoint = CheckpointUnderWay(under_way.number, CheckpointStage.FLUSHING)
        t.do(CheckpointBegun(t.epoch, under_way.number))
    else:
        s.checkpoint = None
        t.do(CheckpointRecorded(t.epoch, under_way.number))
    return True


def _leads_a_pair(t: Turn) -> bool:
    return t.s.serving and t.s.link is Link.PAIRED


def _in_sync(t: Turn) -> bool:
    return t.s.synced and t.s.phase is Phase.FOLLOWING
