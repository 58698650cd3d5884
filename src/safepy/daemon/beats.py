"""The heartbeats of one module: lanes, keys, and what is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from safepy.core.events import BeatReceived, Event, LaneAddress
from safepy.daemon.twins import Twins
from safepy.errors import PeerError
from safepy.model import Beat, PeerView
from safepy.net.lanes import Lane, LaneEnds
from safepy.wire.heartbeat import MAGIC, ForeignKey, Opener, Sealer

_COMPLAIN_EVERY_S = 60.0
#: Datagrams of sessions that have not proved themselves, opened in one second at most: a tenth of
#: what a processor can.
TRIES_A_SECOND = 1000
#: A lane on which the other node was understood so lately has no trouble with keys: who sends
#: noise under its address shall not be able to make us say so.
_UNDERSTOOD_S = 10.0

#: Among the troubles, which have the names of lanes: this one is of all of them.
_TWO = "/two"

log = logging.getLogger(__name__)


class Beats:
    """`ends` are the lanes in the order of the configuration: the place in it is the number of
    the lane on the wire. A lane is known by its ident.

    `on_trouble` is told a sentence when something about a lane is wrong that an administrator
    must mend, and "" when that is over; `troubles` holds what is wrong now, by lane.
    `resources` gives this node's names and values, which travel in every heartbeat."""

    def __init__(
        self,
        module: str,
        ends: Sequence[LaneEnds],
        sealer: Sealer,
        opener: Opener,
        post: Callable[[Event], None],
        on_trouble: Callable[[str], None],
        resources: Callable[[], tuple[tuple[str, str], ...]] = tuple,
    ) -> None:
        self._module = module
        self._resources = resources
        self._sealer = sealer
        self._opener = opener
        #: For what is sent under this node's own name: nobody else should (F57).
        self._mirror = opener.under(sealer.sender)
        self._twins = Twins(sealer.session)
        self._post = post
        self._on_trouble = on_trouble
        #: The view that the core gave last, and the one that was told: the same object again as
        #: long as it says the same, which is written once.
        self._said: PeerView | None = None
        self._told: PeerView | None = None
        self.troubles: dict[str, str] = {}
        self._understood_s: dict[str, float] = {}
        self._complained_s = -_COMPLAIN_EVERY_S
        self._tries_since_s, self._tries = 0.0, 0
        self._numbers = {end.name: number for number, end in enumerate(ends)}
        self.lanes = {end.name: self._lane(end) for end in ends}

    async def run(self) -> None:
        """Keep all lanes up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, lane in self.lanes.items():
                tasks.create_task(lane.run(), name=f"{self._module} lane {name}")

    def send(self, lane: str, beat: Beat) -> None:
        """Send what the core says, and with it this node's resources as they are now. A lane that
        the configuration is just taking away, or adding, is not there for a moment."""
        if lane not in self.lanes:
            return
        resources = self._resources()
        told = self._told
        if told is None or beat.view is not self._said or told.resources is not resources:
            self._said, self._told = beat.view, (told := replace(beat.view, resources=resources))
        beat = replace(beat, view=told)
        self.lanes[lane].send(self._sealer.seal(self._numbers[lane], beat))

    def _lane(self, ends: LaneEnds) -> Lane:
        name = ends.name

        def address(present: bool) -> None:
            self._trouble(name, "" if present else lane.fault)
            self._post(LaneAddress(name, present))

        lane = Lane(ends, lambda datagram: self._received(name, datagram), address, magic=MAGIC)
        return lane

    def dropped(self) -> tuple[tuple[str, int], ...]:
        """What was not believed since the start, by lane and kind; only what there was."""
        found: list[tuple[str, int]] = []
        for name, lane in self.lanes.items():
            found.append((f"{name}: from elsewhere, no heartbeat, or too many", lane.dropped_early))
            found.append((f"{name}: not authentic", lane.counters.malformed))
        return tuple(entry for entry in found if entry[1])

    def _received(self, name: str, datagram: bytes) -> None:
        if not self._opener.knows(datagram) and not self._may_try():
            self.lanes[name].counters.malformed += 1
            return
        try:
            beat = self._opener.open(self._numbers[name], datagram)
        except PeerError as error:
            if isinstance(error, ForeignKey):
                self._foreign_key(name, datagram)
            counters = self.lanes[name].counters
            counters.malformed += 1
            self._complain(name, error, counters.malformed)
        else:
            now_s = asyncio.get_running_loop().time()
            self._understood_s[name] = now_s
            self._trouble(name, "")
            self._twins.heard(beat, now_s)
            self._trouble(_TWO, self._two_of_them(name) if self._twins.alarm(now_s) else "")
            self._post(BeatReceived(name, beat))

    def _may_try(self) -> bool:
        """A session that is not known costs the making of a key: whoever forges them by the
        thousand gets only so many made (S26)."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._tries_since_s >= 1.0:
            self._tries_since_s, self._tries = now_s, 0
        self._tries += 1
        return self._tries <= TRIES_A_SECOND

    def _foreign_key(self, name: str, datagram: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._understood_s.get(name, float("-inf")) < _UNDERSTOOD_S:
            return
        there = self.lanes[name].ends.peer
        if self._speaks_as_we_do(name, datagram):
            self._trouble(
                name,
                f"Heartbeat {name}: {there} says that it is {self._sealer.sender}, which this node "
                "is: nothing is taken from it; give one of the two its own name (a copied "
                "machine?), and both the same cluster.xml: safekit cluster config",
            )
        else:
            self._trouble(
                name,
                f"Heartbeat {name}: what {there} sends was not made with the cluster key of this "
                "node; compare the fingerprints of both: safekit cluster confinfo",
            )

    def _speaks_as_we_do(self, name: str, datagram: bytes) -> bool:
        """D0: the other end claims to be this node. Our own words sent back do not count."""
        try:
            beat = self._mirror.open(self._numbers[name], datagram)
        except PeerError:
            return False
        return beat.session != self._sealer.session

    def _two_of_them(self, name: str) -> str:
        there, peer = self.lanes[name].ends.peer, self._opener.sender
        return (
            f"Two machines send as {peer} from {there} (a copied machine?): only one of them is "
            f"believed, and it may be the wrong one; switch off the copy, then, on {peer}: "
            "systemctl restart safeadmin"
        )

    def _trouble(self, name: str, text: str) -> None:
        if text != self.troubles.get(name, ""):
            self.troubles.pop(name, None)
            if text:
                self.troubles[name] = text
            self._on_trouble(text)

    def _complain(self, name: str, error: PeerError, count: int) -> None:
        """Once a minute at most: the network decides how often this happens (protocol S3)."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            hint = "do both nodes have the same cluster key?"
            log.warning("%s lane %s: dropped %d: %s; %s", self._module, name, count, error, hint)
