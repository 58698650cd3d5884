"""The virtual network: heartbeat lanes that lose, delay, reorder and duplicate; one stream.

A lane is cut for each direction separately. The stream between the two workers is one more
network: it can be cut while the lanes live, and the reverse.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from clock import Clock


@dataclass
class Lane:
    """One heartbeat network. `cut` holds the senders whose packets do not arrive."""

    name: str
    loss: float = 0.0
    duplicates: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.002)
    cut: set[str] = field(default_factory=set)


class Network:
    def __init__(self, clock: Clock, rng: random.Random, lanes: tuple[str, ...]) -> None:
        self.clock = clock
        self.rng = rng
        self.lanes = {name: Lane(name) for name in lanes}
        self.stream_cut = False
        self._queued: dict[str, int] = {}
        #: How long an end that sends nothing needs to notice that the stream is gone.
        self.stream_notice_s = (0.01, 3.0)
        self.stream_delay_s = (0.0002, 0.002)

    def send(self, lane_name: str, sender: str, deliver: Callable[[], None]) -> None:
        """Deliver a datagram, or not, or twice."""
        lane = self.lanes[lane_name]
        copies = 2 if self.rng.random() < lane.duplicates else 1
        for _ in range(copies):
            if sender in lane.cut or self.rng.random() < lane.loss:
                continue
            self.clock.later(self.rng.uniform(*lane.delay_s), self._arrival(lane, sender, deliver))

    def _arrival(self, lane: Lane, sender: str, deliver: Callable[[], None]) -> Callable[[], None]:
        queue = self._queued.get(sender, 0)

        def arrive() -> None:
            if sender not in lane.cut and queue == self._queued.get(sender, 0):
                deliver()

        return arrive

    def drop_queued(self, sender: str) -> None:
        """What this node has sent and nobody has received yet is lost with it."""
        self._queued[sender] = self._queued.get(sender, 0) + 1

    def cut_lanes(self, *senders: str) -> None:
        for lane in self.lanes.values():
            lane.cut.update(senders)

    def heal(self) -> None:
        """Everything works, well."""
        self.stream_cut = False
        self.stream_delay_s = (0.0002, 0.002)
        for lane in self.lanes.values():
            lane.cut.clear()
            lane.loss = lane.duplicates = 0.0
            lane.delay_s = (0.0002, 0.002)

    @property
    def lanes_dead(self) -> bool:
        """No lane works in both directions (F25)."""
        return all(lane.cut for lane in self.lanes.values())

    @property
    def partitioned(self) -> bool:
        """Nothing at all gets through both ways: what E6 cannot tell from a dead peer."""
        return self.lanes_dead and self.stream_cut
