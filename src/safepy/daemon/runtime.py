"""One module: take an event from the inbox, step, keep the new state, hand out the commands, set
the timer. Nothing awaits between taking the event and keeping the state.

A gap in the loop's own turning means that this node was asleep (protocol 9, F35): `Paused` is
stepped before anything that waited, above all before a `Tick`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from safepy.core import machine
from safepy.core.commands import Command
from safepy.core.events import BeatReceived, Event, Paused, Tick
from safepy.core.state import ModuleState
from safepy.host.clock import until_next

#: Events that wait at most; beyond it heartbeats are dropped (the next ones say the same).
INBOX_MAX = 1_000
_TURN_MAX = 64
_PULSES_PER_PAUSE = 8

log = logging.getLogger(__name__)


class Runtime:
    """Holds the only reference to the module's state that changes.

    `perform` begins a command and must not raise for what the world does; an exception is a bug,
    and ends `run` and with it the daemon. `now_s` is a clock that counts suspended time.
    """

    def __init__(
        self,
        state: ModuleState,
        perform: Callable[[Command, float], None],
        now_s: Callable[[], float],
        pause_s: float,
    ) -> None:
        self.state = state
        self.dropped = 0
        self.pauses = 0
        self._perform = perform
        self._now_s = now_s
        #: A gap in the loop's turning from which on this node was asleep.
        self.pause_s = pause_s
        self._inbox: deque[Event] = deque()
        #: Who waits for an event to be stepped, in the order of the inbox.
        self._awaited: deque[tuple[Event, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._seen_s = now_s()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s: float | None = None
        self._pulse: asyncio.TimerHandle | None = None

    def post(self, event: Event) -> None:
        """Put an event into the inbox. Not for other threads."""
        if len(self._inbox) >= INBOX_MAX and isinstance(event, BeatReceived):
            self.dropped += 1
            return
        self._inbox.append(event)
        self._wake.set()

    async def happened(self, event: Event) -> None:
        """As `post`; returns when the event was stepped."""
        stepped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((event, stepped))
        self.post(event)
        await stepped

    async def run(self) -> None:
        """Work until cancelled."""
        self._seen_s = self._now_s()
        self._beat()
        self._set_timer()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._drain()
        finally:
            for handle in (self._timer, self._pulse):
                if handle is not None:
                    handle.cancel()

    async def _drain(self) -> None:
        taken = 0
        while self._inbox:
            self._notice_pause()
            self._step(self._inbox.popleft())
            taken += 1
            if taken % _TURN_MAX == 0:
                await asyncio.sleep(0)

    def _step(self, event: Event) -> None:
        now_s = self._now_s()
        self.state, commands = machine.step(self.state, event, now_s)
        for command in commands:
            self._perform(command, now_s)
        if self._awaited and self._awaited[0][0] is event:
            _, stepped = self._awaited.popleft()
            if not stepped.done():
                stepped.set_result(None)
        self._set_timer()

    def _set_timer(self) -> None:
        deadline_s = machine.next_deadline(self.state)
        if deadline_s == self._timer_due_s:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_due_s = deadline_s
        if deadline_s is not None:
            loop = asyncio.get_running_loop()
            delay_s = max(0.0, deadline_s - self._now_s())
            self._timer = loop.call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = self._timer_due_s = None
        self.post(Tick())

    def _beat(self) -> None:
        """The separate beat of the loop that measures its gaps."""
        self._notice_pause()
        loop = asyncio.get_running_loop()
        delay_s = until_next(self.pause_s / _PULSES_PER_PAUSE, self._now_s())
        self._pulse = loop.call_later(delay_s, self._beat)

    def _notice_pause(self) -> None:
        now_s = self._now_s()
        gap_s, self._seen_s = now_s - self._seen_s, now_s
        if gap_s <= self.pause_s:
            return
        self.pauses += 1
        log.warning("the event loop stood still for %.1f s", gap_s)
        # What a timer said before is worth nothing now; a new one is set after this step.
        waiting = [event for event in self._inbox if not isinstance(event, Tick)]
        self._inbox = deque([Paused(gap_s), *waiting])
        self._wake.set()
