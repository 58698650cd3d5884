"""How two records relate, and who is the source when the nodes meet again (protocol 6, D0 to D11).

Both nodes see the same two records and compute the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Active, Disk, PeerView, Record, State

from .records import put_back

PUT_BACK = "was put back to an older state"
PUT_BACK_THERE = f"the other node {PUT_BACK}"


@dataclass(frozen=True, slots=True)
class Reunion:
    """How two records relate: the row, whether this node is the source (None: nobody is), and
    whether what the target has must be kept aside."""

    row: str
    source: bool | None
    sentence: str
    keep_aside: bool = False


def leads(peer: PeerView) -> bool:
    """The peer has or may at any moment have an open gate."""
    return peer.serving or peer.state in (State.ALONE, State.PRIM)


def misfit(record: Record, peer: PeerView) -> str:
    """D0: a sentence if the two nodes do not belong together, else empty."""
    theirs = peer.record
    if theirs.cluster_id and theirs.cluster_id != record.cluster_id:
        return "the other node belongs to another cluster configuration"
    if theirs.module and theirs.module != record.module:
        return f"the other node speaks of module {theirs.module}"
    if peer.node == record.node:
        return f"another node claims to be {record.node} as well"
    if peer.node != record.peer:
        return f"{peer.node} is not the other node of this module"
    return ""


def ancestors(record: Record) -> frozenset[str]:
    names = {gen for _, gen in record.history}
    names.add(record.base)
    return frozenset(names - {""})


def behind(record: Record, peer: PeerView) -> bool:
    """The peer's generation departed from ours: it has moved on without us (D7, D8)."""
    theirs = peer.record
    return (
        theirs.disk is Disk.UPTODATE
        and record.gen != ""
        and record.gen != theirs.gen
        and record.gen in ancestors(theirs)
    )


def must_keep_aside(target: Record, source: Record) -> bool:
    """What the target holds may exist nowhere else: it must not be overwritten unseen (I19)."""
    if target.disk is Disk.UNCONFIGURED or not target.gen:
        return True
    if target.checkpoint > source.checkpoint_started:
        return True  # F50, overruled by an operator
    return relation(target, source) in ("D9", "D10", "D11") or source.gen in (
        ancestors(target) - {target.gen}
    )


def reunion(
    record: Record, lost_volatile: bool, peer: PeerView, defaultprim: str = "alone"
) -> Reunion:
    """The table of protocol 6, rows D1 to D11, seen from `record`'s side. A node that was put back
    to an older state is never the source without an operator (F50)."""
    found = _by_table(record, lost_volatile, peer, defaultprim)
    if found.source is True and put_back(record, peer.record):
        return Reunion("D10", None, f"this node {PUT_BACK}", keep_aside=True)
    if found.source is False and put_back(peer.record, record):
        return Reunion("D10", None, PUT_BACK_THERE, keep_aside=True)
    return found


def _by_table(mine: Record, lost_volatile: bool, peer: PeerView, defaultprim: str) -> Reunion:
    theirs = peer.record
    if mine.disk is not Disk.UPTODATE and theirs.disk is not Disk.UPTODATE:
        if mine.disk is theirs.disk is Disk.UNCONFIGURED:
            return Reunion("D1", None, "no node has valid data yet")
        return Reunion("D3", None, "no node is known to be up to date")
    if Disk.UNCONFIGURED in (mine.disk, theirs.disk):
        source = mine.disk is Disk.UPTODATE
        return Reunion("D2", source, _is_source(source), keep_aside=True)
    if mine.disk is not theirs.disk:
        return _one_uptodate(mine, theirs)
    return _both_uptodate(mine, theirs, lost_volatile, peer, defaultprim)


def _is_source(mine: bool) -> str:
    return "this node has the valid data" if mine else "the other node has the valid data"


def _one_uptodate(mine: Record, theirs: Record) -> Reunion:
    """D4, with the relation deciding what must be kept aside."""
    source = mine.disk is Disk.UPTODATE
    good, bad = (mine, theirs) if source else (theirs, mine)
    if good.gen != bad.gen and good.gen in ancestors(bad):
        return Reunion("D4", None, "the up to date node was put back to an older state")
    apart = relation(good, bad) in ("D9", "D10", "D11")
    return Reunion("D4", source, _is_source(source), keep_aside=apart)


def relation(a: Record, b: Record) -> str:
    """D6 to D11 without regard to who is source, for two records that have generations."""
    if a.gen == b.gen:
        return "D6"
    if a.base == b.gen or b.base == a.gen:
        return "D7"
    if b.gen in ancestors(a) or a.gen in ancestors(b):
        return "D8"
    if a.base and a.base == b.base:
        return "D9"
    if ancestors(a) & ancestors(b):
        return "D10"
    return "D11"


def _both_uptodate(
    mine: Record, theirs: Record, lost_volatile: bool, peer: PeerView, defaultprim: str
) -> Reunion:
    row = relation(mine, theirs)
    match row:
        case "D6":
            return _same_generation(mine, theirs, lost_volatile, peer, defaultprim)
        case "D7" | "D8":
            source = theirs.gen in ancestors(mine)
            return Reunion(row, source, _is_source(source))
        case "D9":
            source = wins_split(mine, theirs)
            return Reunion(row, source, "both nodes went on alone", keep_aside=True)
        case "D10":
            return Reunion(row, None, "both nodes went on alone, more than once", keep_aside=True)
        case _:
            return Reunion(row, None, "the two nodes hold unrelated data", keep_aside=True)


def _same_generation(
    mine: Record, theirs: Record, lost_volatile: bool, peer: PeerView, defaultprim: str
) -> Reunion:
    """D5 and D6. A node that stayed up is preferred to a primary that crashed: it still holds
    every write that was acknowledged to the application (K10)."""
    if mine.active is Active.NONE and theirs.active is Active.NONE:
        if defaultprim in (mine.node, theirs.node):
            source = defaultprim == mine.node
        elif (mine.last_role == "P") != (theirs.last_role == "P"):
            source = mine.last_role == "P"
        else:
            source = mine.node < theirs.node
        return Reunion("D5", source, "both nodes hold the same data")
    if lost_volatile != peer.lost_volatile:
        source = not lost_volatile
    elif (mine.active is Active.PRIMARY) != (theirs.active is Active.PRIMARY):
        source = mine.active is Active.PRIMARY
    else:
        source = mine.node < theirs.node
    return Reunion("D6", source, _is_source(source))


def wins_split(mine: Record, theirs: Record) -> bool:
    """Who stays after both went alone. Nothing is lost: the other's files are kept aside.

    Only values that never go back within a generation decide, so two nodes with views of
    different age may both stay for a moment, but never both give way."""
    if mine.forced != theirs.forced:
        return mine.forced
    if mine.modified != theirs.modified:
        return mine.modified
    if (mine.solo_role == "P") != (theirs.solo_role == "P"):
        return mine.solo_role == "P"
    return mine.node < theirs.node
