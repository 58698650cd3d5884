"""The snapshot that everybody sees, and waiting for the next one."""

from __future__ import annotations

import asyncio

from safepy.host.clock import Clock
from safepy.model import Snapshot, State


class Published:
    """Of one module. `version` counts the snapshots that were shown."""

    #: What the last change showed.
    snapshot: Snapshot

    def __init__(self, clock: Clock) -> None:
        self.version = 0
        self._clock = clock
        self._changed = asyncio.Event()

    def shown(self) -> None:
        """`snapshot` is a new one: whoever waits is told."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def newer(self, version: int, timeout_s: float) -> tuple[int, Snapshot]:
        """The snapshot once it is newer than `version`, or the present one after `timeout_s`."""
        deadline_s = self._clock.monotonic() + timeout_s
        while self.version <= version:
            left_s = deadline_s - self._clock.monotonic()
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                break
        return self.version, self.snapshot

    async def until(self, state: State, timeout_s: float) -> bool:
        """Whether the module got into `state` within the time."""
        deadline_s = self._clock.monotonic() + timeout_s
        version = 0
        while self.snapshot.state is not state:
            left_s = deadline_s - self._clock.monotonic()
            if left_s <= 0:
                return False
            version, _ = await self.newer(max(version, self.version), left_s)
        return True
