"""How much a resynchronisation looks at: the least that the records and both workers allow."""

from __future__ import annotations

from dataclasses import dataclass, field

from safepy.model import SyncMode


@dataclass(slots=True)
class Offer:
    """What the target says of its own tree (`wire.SyncOffer`), as far as it has come."""

    known: bool = True
    reason: str = ""
    paths: list[tuple[int, bytes]] = field(default_factory=list)
    complete: bool = False


def choose(
    least: SyncMode, reason: str, suspect: str, incomplete: str, offer: Offer
) -> tuple[SyncMode, str]:
    """(mode, why). `least` and `reason` come with the records (protocol 6). `suspect`: why all
    content of this node must be compared; `incomplete`: why its marks by path do not tell
    everything; "" if neither."""
    if least is SyncMode.EVERYTHING:
        return least, reason
    if suspect:
        return SyncMode.EVERYTHING, suspect
    if least is SyncMode.WALK:
        return least, reason
    if incomplete:
        return SyncMode.WALK, incomplete
    if not offer.known:
        return SyncMode.WALK, offer.reason
    return SyncMode.ZONES, reason
