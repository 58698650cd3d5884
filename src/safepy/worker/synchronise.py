"""The source's side of a resynchronisation: rounds, the hold, the hand-over to live replication.

The comparison itself (`dataplane/resync`) runs in threads; this file is its conductor on the
loop. The order at the end is the order of protocol I11: writes held, last marks drained, both
sides flushed, `CaughtUp` to the daemon, and only after its durable record `adopt`.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable
from typing import Protocol

from safepy.core.replica.marks import Mark, Marks
from safepy.dataplane.primary import Primary
from safepy.dataplane.resync.source import RoundResult, Source
from safepy.errors import SafekitError
from safepy.host.loop import Loop, Timer
from safepy.model import Progress
from safepy.net.blocking import BlockingStream
from safepy.net.peer import SecureStream
from safepy.storage.syscalls import syncfs
from safepy.wire import replication as wire
from safepy.worker.telling import ProgressLog

#: A remainder that is compared in some tens of milliseconds: then writers may be held for it.
SMALL_PATHS = 64
SMALL_BYTES = 8 << 20
#: Paths to compare whole may hold anything; a few may remain, or no busy spool would ever end.
SMALL_WHOLE = 16
#: After so many rounds writers are slowed down, and after so many more they are held regardless:
#: the rest is then whatever one round's time let them write.
BRAKE_AFTER_ROUNDS = 4
HOLD_AFTER_ROUNDS = 8
#: How often the follower hears how far it is.
TELL_INTERVAL_S = 1.0
#: How long the follower may take to open its transfer connections.
TRANSFERS_TIMEOUT_S = 30.0


class Listeners(Protocol):
    """Who hears how it ends; all called on the loop."""

    def caught_up(self) -> None: ...

    def failed(self, reason: str, fatal: bool) -> None: ...


class Synchronisation:
    """One attempt to bring the follower's trees up to date. Used once."""

    def __init__(
        self,
        loop: Loop,
        primary: Primary,
        root_fds: list[int],
        live: SecureStream,
        transfers: int,
        keep_aside: bool,
        acl: bool,
        listeners: Listeners,
        log: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._primary = primary
        self._root_fds = root_fds
        self._live = live
        self._transfers = transfers
        self._acl = acl
        self._listeners = listeners
        self._told = ProgressLog(log, loop.now_s)
        self._marks = [Marks() for _ in root_fds]
        self._streams: list[BlockingStream] = []
        self._source: Source | None = None
        self._rounds = 0
        #: In the rounds that ended.
        self._files_copied = self._bytes_copied = 0
        self._flush_number = 0
        self._after_flush: Callable[[], None] | None = None
        self._local_flushed = self._remote_flushed = False
        self._over = False
        self._holding = False
        self.stream_id = secrets.token_hex(8)
        self.progress: Progress | None = Progress(phase="connect")
        self._deadline: Timer = loop.call_later(TRANSFERS_TIMEOUT_S, self._connect_timeout)
        # From here on every modification leaves its mark, so the first round may read anything.
        for marks in self._marks:
            marks.add_full(b"")
        primary.marks_sink = self._mark
        live.send(wire.encode(wire.SyncBegin(self.stream_id, transfers, keep_aside)))
        self._tell_timer: Timer = loop.call_later(TELL_INTERVAL_S, self._tell_again)

    # -- what the worker tells ----------------------------------------

    def transfer_opened(self, stream: BlockingStream) -> None:
        """A transfer connection with our `stream_id` was accepted."""
        if self._over or len(self._streams) >= self._transfers:
            stream.close()
            return
        self._streams.append(stream)
        if len(self._streams) == self._transfers:
            self._deadline.cancel()
            self._source = Source(self._root_fds, self._streams, self._on_progress, acl=self._acl)
            self._next_round()

    def flushed(self, number: int) -> None:
        """The target made durable what it had got."""
        if number == self._flush_number:
            self._remote_flushed = True
            self._flush_step()

    def abandon(self, reason: str, fatal: bool = False) -> None:
        """Give up: the stream is gone, or the target cannot go on. Writers go on ALONE."""
        if not self._over:
            self._end()
            self._listeners.failed(reason, fatal)

    def close(self) -> None:
        """End without a word: the worker demotes or exits, or the follower has joined."""
        if not self._over:
            self._end()

    # -- rounds ----------------------------------------

    def _next_round(self) -> None:
        self._rounds += 1
        marks = [marks.take() for marks in self._marks]
        self._in_thread("resync-round", lambda: self._run_round(marks))

    def _run_round(self, marks: list[dict[bytes, Mark]]) -> None:
        assert self._source is not None
        result = self._source.run_round(marks)
        self._loop.post(lambda: self._round_done(result))

    def _round_done(self, result: RoundResult) -> None:
        if self._over:
            return
        self._files_copied += result.files_copied
        self._bytes_copied += result.bytes_copied
        if self._rounds == 1:
            self._told.copied(
                result.files, result.files_copied, result.bytes_copied, result.seconds
            )
        if self._holding:
            self._flush(self._caught_up)
        elif self._rounds == 1:
            # The first flush may be long: it is done while the application still runs.
            self._flush(self._decide)
        else:
            self._decide()

    def _decide(self) -> None:
        paths = sum(len(marks) for marks in self._marks)
        whole = sum(marks.full_paths for marks in self._marks)
        size = sum(marks.extent_bytes for marks in self._marks)
        small = paths <= SMALL_PATHS and whole <= SMALL_WHOLE and size <= SMALL_BYTES
        if small or self._rounds >= HOLD_AFTER_ROUNDS:
            self._primary.hold()
            self._holding = True
            self._primary.drain(self._held)
            return
        if self._rounds >= BRAKE_AFTER_ROUNDS:
            self._primary.brake_s = 0.002 * (self._rounds - BRAKE_AFTER_ROUNDS + 1)
        self._next_round()

    def _held(self) -> None:
        if not self._over:
            self._next_round()

    def _caught_up(self) -> None:
        assert self._source is not None
        self._primary.marks_sink = None
        self._primary.brake_s = 0.0
        source = self._source
        self._in_thread("resync-finish", source.finish, quiet=True)
        self.progress = None
        self._tell_timer.cancel()
        self._listeners.caught_up()

    # -- flushing both sides (I12) ----------------------------------------

    def _flush(self, then: Callable[[], None]) -> None:
        self._after_flush = then
        if self.progress is not None:
            # Nothing is compared meanwhile, and how long a disk takes is not known.
            self.progress = dataclasses.replace(
                self.progress, phase="writing to disk", rate_bytes_s=0.0, left_s=None
            )
            self._tell()
        self._local_flushed = self._remote_flushed = False
        self._flush_number += 1
        self._live.send(wire.encode(wire.SyncFlush(self._flush_number)))
        self._in_thread("resync-flush", self._flush_local)

    def _flush_local(self) -> None:
        for fd in self._root_fds:
            syncfs(fd)
        self._loop.post(self._flushed_local)

    def _flushed_local(self) -> None:
        self._local_flushed = True
        self._flush_step()

    def _flush_step(self) -> None:
        if not self._over and self._local_flushed and self._remote_flushed and self._after_flush:
            then, self._after_flush = self._after_flush, None
            then()

    # -- helpers ----------------------------------------

    def _in_thread(self, name: str, work: Callable[[], None], quiet: bool = False) -> None:
        """Run `work` beside the loop. `quiet`: its failure changes nothing any more."""

        def run() -> None:
            try:
                work()
            except (SafekitError, OSError) as error:
                reason = str(error)
                fatal = bool(getattr(error, "fatal", False))
                if not quiet:
                    self._loop.post(lambda: self._thread_failed(reason, fatal))

        threading.Thread(target=run, name=name, daemon=True).start()

    def _thread_failed(self, reason: str, fatal: bool) -> None:
        if not self._over:
            self._live.send(wire.encode(wire.SyncFailed(reason, fatal)))
            self.abandon(reason, fatal)

    def _connect_timeout(self) -> None:
        self.abandon(
            f"only {len(self._streams)} of {self._transfers} transfer connections came "
            f"within {TRANSFERS_TIMEOUT_S:.0f} s"
        )

    def _mark(self, tree: int, kind: str, path: bytes, offset: int, length: int) -> None:
        marks = self._marks[tree]
        if kind == "full":
            marks.add_full(path)
        elif kind == "extents":
            marks.add_extent(path, offset, length)
        else:
            marks.add_attributes(path)

    def _on_progress(self, progress: Progress) -> None:
        """From the transfer threads: one assignment is safe. What was copied is told in all, how
        far it is of this round."""
        self.progress = dataclasses.replace(
            progress,
            files_copied=progress.files_copied + self._files_copied,
            bytes_copied=progress.bytes_copied + self._bytes_copied,
        )

    def _tell_again(self) -> None:
        self._tell_timer = self._loop.call_later(TELL_INTERVAL_S, self._tell_again)
        self._tell()

    def _tell(self) -> None:
        """How far it is, to the log here and to the other node."""
        progress = self.progress
        if progress is not None:
            self._told.seen(progress, self._loop.now_s)
            self._live.send(wire.encode(wire.SyncProgress(*dataclasses.astuple(progress))))

    def _end(self) -> None:
        self._over = True
        self._deadline.cancel()
        self._tell_timer.cancel()
        self._primary.marks_sink = None
        self._primary.brake_s = 0.0
        self.progress = None
        for stream in self._streams:
            stream.shutdown()  # a running round ends with PeerError and closes nothing twice
