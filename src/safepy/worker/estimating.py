"""`rfsdiff`: what a resynchronisation would look at if it began now, at a node that is ALONE."""

from __future__ import annotations

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.suspects import by_name_only
from safepy.dataplane.estimate import Estimate, Kept, estimate
from safepy.dataplane.keeper import Keeper
from safepy.model import SyncMode
from safepy.worker import messages
from safepy.worker.choosing import Offer, choose
from safepy.worker.common import Context, in_thread


def begin(context: Context, keeper: Keeper, order: messages.Estimate) -> None:
    """The answer is reported. The memories are those of this moment; the trees are looked at in a
    thread, while they change."""

    def known() -> None:
        mode, reason = SyncMode(order.mode), order.reason
        newer_than_ns = int(order.since * 1e9) if order.since else None
        if newer_than_ns is None:
            suspect, incomplete = keeper.suspect_everything_because, keeper.incomplete
            mode, reason = choose(mode, reason, suspect, incomplete, Offer())
            suspects_of_all = keeper.suspects(mode is SyncMode.ZONES)
        else:  # An operator answers for what is older.
            suspects_of_all = by_name_only(keeper.suspects(False))
        exclusions = [Exclusion(rules) for rules in context.setup.notreplicated]
        kept = [
            Kept(root_fd, marks, suspects, exclusion)
            for root_fd, marks, suspects, exclusion in zip(
                context.door_fds, keeper.paths.saved(), suspects_of_all, exclusions, strict=True
            )
        ]
        found: list[Estimate] = []

        def then(error: str) -> None:
            total = found[0] if found else Estimate()
            answer = (mode.value, reason, total.names, total.files, total.bytes, error)
            context.report(messages.Estimated(order.epoch, order.number, *answer))

        def count() -> None:
            found.append(estimate(kept, mode, newer_than_ns))

        in_thread(context.loop, "estimate", count, then)

    context.knowledge.when_known(known)
