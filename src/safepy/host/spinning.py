"""When a loop should look again instead of sleeping.

Waking a sleeping thread costs tens of microseconds where the processor was idle too (on virtual
machines more than all the work of an operation), and one replicated operation is a chain of four
such wake-ups. So a loop that was often woken soon looks again for a short time first. It pays
only while the next event is near and nobody else wants the processor; both are learnt here, from
what just happened. A loop without work sleeps and costs nothing.
"""

from __future__ import annotations

#: How long to look, in seconds: about three wake-ups of an idle processor.
LOOK_S = 0.000_2
#: A sleep so short was mostly waking up, at both ends of the chain: looking would have paid.
NEAR_S = 0.000_5
#: So many looks in vain, each without one that paid, end the looking.
TRUST = 8
#: A yield of the processor that took so long gave it to somebody who has much to do. That may
#: cost a whole time slice, so then nobody looks for so many times as long: at most a part in so
#: many of the time is ever lost to it.
CROWDED_S = 0.000_1
RESTS = 20


class Spinning:
    """How long to look again before the next sleep. Times are seconds on one monotonic clock."""

    __slots__ = ("_rests_until_s", "_trust")

    def __init__(self) -> None:
        self._rests_until_s = 0.0
        self._trust = 0

    def limit_s(self, now_s: float) -> float:
        """0.0: sleep at once."""
        return LOOK_S if self._trust and now_s >= self._rests_until_s else 0.0

    def found(self) -> None:
        """Looking paid."""
        if self._trust < TRUST:
            self._trust += 1

    def looked_in_vain(self) -> None:
        self._trust -= 1

    def slept(self, for_s: float) -> None:
        """A sleep without looking first ended because something happened."""
        if for_s < NEAR_S:
            self.found()

    def is_crowded(self, yielded_s: float, now_s: float) -> bool:
        """Whether a yield says that others need the processor; then no looking for a while."""
        if yielded_s < CROWDED_S:
            return False
        self._rests_until_s = now_s + RESTS * yielded_s
        return True
