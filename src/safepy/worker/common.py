"""What both roles of a worker need."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from safepy.host.loop import Loop
from safepy.model import Progress
from safepy.net.peer import SecureStream
from safepy.storage.syscalls import syncfs
from safepy.wire.secure import VERSION, Hello
from safepy.worker.messages import Log, Report, Setup

#: The keepalive's interval and some slack.
HEARD_LATELY_S = 1.6


@dataclass(slots=True)
class Context:
    """The worker's surroundings: set once by `Setup`."""

    loop: Loop
    setup: Setup
    door_fds: list[int]
    report: Callable[[Report], None]

    def log(self, origin: str, level: str, text: str) -> None:
        self.report(Log(origin, level, text))

    @staticmethod
    def progress_fields(progress: Progress) -> dict[str, str | int | float | None]:
        return dataclasses.asdict(progress)


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


def heard_lately(context: Context, stream: SecureStream | None) -> bool:
    """Whether the stream brought something since the last `Alive` (its keepalive is 1 s)."""
    return stream is not None and context.loop.now_s - stream.last_heard_s < HEARD_LATELY_S
