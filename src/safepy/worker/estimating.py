"""`rfsdiff`: what a resynchronisation would look at if it began now, at a node that is ALONE."""

from __future__ import annotations

from safepy.core.replica.exclusion import Exclusion
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
        suspect, incomplete = keeper.suspect_everything_because, keeper.incomplete
        mode, reason = choose(SyncMode(order.mode), order.reason, suspect, incomplete, Offer())
        exclusions = [Exclusion(rules) for rules in context.setup.notreplicated]
        suspects_of_all = keeper.suspects(mode is SyncMode.ZONES)
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

        in_thread(context.loop, "estimate", lambda: found.append(estimate(kept, mode)), then)

    context.knowledge.when_known(known)
