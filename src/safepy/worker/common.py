"""What both roles of a worker need."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from safepy.core.replica.exclusion import Exclusion
from safepy.dataplane.resync.scope import Scope
from safepy.host.loop import Loop
from safepy.model import Progress
from safepy.net.peer import SecureStream
from safepy.storage.syscalls import syncfs
from safepy.wire.secure import VERSION, Hello
from safepy.worker.knowledge import Knowledge
from safepy.worker.messages import Log, Report, Setup


@dataclass(slots=True)
class Context:
    """The worker's surroundings: set once by `Setup`."""

    loop: Loop
    setup: Setup
    door_fds: list[int]
    report: Callable[[Report], None]
    knowledge: Knowledge
    #: When the last `Alive` was made, on the loop's clock.
    told_s: float = 0.0
    #: A synchronisation that has come to its end and was not told yet.
    finished: Progress | None = None

    def log(self, origin: str, level: str, text: str) -> None:
        self.report(Log(origin, level, text))

    def heard_since_told(self, stream: SecureStream | None) -> bool:
        """Whether the stream brought something since the last `Alive`: never more than that, or
        a stream that died would seem to live on (its traffic counts against a lost peer)."""
        heard = stream is not None and stream.last_heard_s > self.told_s
        self.told_s = self.loop.now_s
        return heard

    @staticmethod
    def progress_fields(
        progress: Progress | None,
    ) -> dict[str, str | int | float | None] | None:
        return None if progress is None else dataclasses.asdict(progress)


def in_thread(loop: Loop, name: str, work: Callable[[], None], then: Callable[[str], None]) -> None:
    """Run blocking `work` beside the loop; `then(error sentence or "")` runs on the loop."""

    def run() -> None:
        error = ""
        try:
            work()
        except OSError as failure:
            error = str(failure)
        loop.post(lambda: then(error))

    threading.Thread(target=run, name=name, daemon=True).start()


def sync_path(path: str) -> None:
    """Have the kernel write back what it caches for the mount at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def hello(setup: Setup, epoch: int, purpose: str, stream_id: str) -> Hello:
    """Who this worker is, for the first record of a stream."""
    return Hello(VERSION, setup.node, setup.module, epoch, purpose, stream_id)


def exclusions_of(setup: Setup) -> list[Exclusion]:
    """What is left out of each replicated directory; empty if nothing is anywhere."""
    exclusions = [Exclusion(rules) for rules in setup.notreplicated]
    return exclusions if any(exclusions) else []


def scope_of(setup: Setup) -> Scope:
    """Which names of the replicated directories are replicated."""
    return Scope(exclusions_of(setup))
