"""Who is asked before a node serves alone (protocol 7): what is configured, and its words.

Evidence E0 (the own record) and E1 (the other node's own word) always count. Beyond them exactly
one arbiter is configured, none (E6, the time-out alone), or two that must *both* agree: offered as
alternatives, each would let another node win (K12b).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Added to the time-out of a hardware watchdog before the node it guards counts as reset.
WATCHDOG_MARGIN_S = 2.0


class Arbiter(StrEnum):
    """In the order in which they are asked: what does no harm first, switching off last."""

    WITNESS = "witness"
    PING = "ping"
    WATCHDOG = "watchdog"
    FENCE = "fence"


ORDER = tuple(Arbiter)
EVIDENCE = {
    Arbiter.WITNESS: "E2",
    Arbiter.FENCE: "E3",
    Arbiter.WATCHDOG: "E4",
    Arbiter.PING: "E5",
}

#: Evidence that neither of the two nodes gave itself.
OUTSIDE = (*EVIDENCE.values(), "E6")

SPLIT_BRAIN_POSSIBLE = (
    "split brain possible: nothing but the time-out says that the other node is down"
)
#: What each evidence says, for log and state.
SENTENCES = {
    "E0": "the own record says that the other node is behind",
    "E1": "the other node is behind",
    "E2": "the witness gave this node the right to serve",
    "E3": "the fencing agent confirmed that the other node is switched off",
    "E4": "the watchdog of the other node has reset it",
    "E5": "split brain possible: that the witness address answers a ping here does not say that "
    "the other node is down",
    "E6": SPLIT_BRAIN_POSSIBLE,
}


@dataclass(frozen=True, slots=True)
class Arbitration:
    """The arbiters of one module.

    `required`: at most two, and all of them must agree; empty means E6. `guarded` is the node
    that has the hardware watchdog, `watchdog_s` its time-out: only the other node can take its
    silence for a reset, so with a watchdog alone the guarded node never serves alone.
    `freeze_limit_s`: how long a PRIM stays frozen and asks, once the other node is lost, before
    it gives up; the wait for a watchdog comes on top of it.
    """

    required: tuple[Arbiter, ...] = ()
    guarded: str = ""
    watchdog_s: float = 0.0
    freeze_limit_s: float = 30.0

    def __post_init__(self) -> None:
        if len(self.required) > 2 or len(set(self.required)) != len(self.required):
            raise ValueError("at most two different arbiters of a module")
        if Arbiter.WATCHDOG in self.required and not (self.guarded and self.watchdog_s > 0):
            raise ValueError("a watchdog needs the node it guards and its time-out")
        object.__setattr__(self, "required", tuple(sorted(self.required, key=ORDER.index)))

    def watchdog_wait_s(self, detection_s: float) -> float:
        """How long after its loss the guarded node counts as reset: it stops feeding at the latest
        a detection time later (it may have heard us a little longer than we heard it)."""
        return detection_s + self.watchdog_s + WATCHDOG_MARGIN_S

    def patience_s(self, detection_s: float) -> float:
        """How long a node asks, once the other one is lost, before it gives up."""
        if Arbiter.WATCHDOG not in self.required:
            return self.freeze_limit_s
        return self.freeze_limit_s + self.watchdog_wait_s(detection_s)

    @property
    def sound(self) -> bool:
        """At most one node goes on (P3); with a ping or the time-out alone both may."""
        return any(arbiter is not Arbiter.PING for arbiter in self.required)


def evidence(agreed: tuple[Arbiter, ...]) -> str:
    """The name of the evidence: "E2", "E2+E3", or "E6" when nobody was asked."""
    return "+".join(EVIDENCE[arbiter] for arbiter in agreed) or "E6"


def sentence(name: str) -> str:
    """What an evidence says, in words. A ping beside sound evidence does no harm."""
    parts = [part for part in name.split("+") if heuristic(name) or part != "E5"]
    return "; ".join(SENTENCES[part] for part in parts)


def heuristic(name: str) -> bool:
    """With this evidence alone the other node may serve as well."""
    return all(part in ("E5", "E6") for part in name.split("+"))
