"""The source's side of a resynchronisation: rounds, the hold, the hand-over to live replication.

The comparison itself (`dataplane/resync`) runs in threads; this file is its conductor on the
loop. The order at the end is the order of protocol I11: writes held, last marks drained, both
sides flushed, `CaughtUp` to the daemon, and only after its durable record `adopt`.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.marks import FULL, WALK, Mark
from safepy.core.replica.suspects import Suspects, by_name_only
from safepy.dataplane.keeper import Keeper
from safepy.dataplane.primary import Primary
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.source import RoundResult, Source
from safepy.errors import PeerError, SafekitError
from safepy.host.loop import Timer
from safepy.model import Progress, SyncMode
from safepy.net.blocking import BlockingStream
from safepy.net.peer import SecureStream
from safepy.storage.syscalls import sync_all
from safepy.wire import replication as wire
from safepy.worker import messages
from safepy.worker.choosing import Offer, choose
from safepy.worker.common import Context
from safepy.worker.knowledge import PATHS_MAX
from safepy.worker.measuring import Measure
from safepy.worker.telling import Detail, ProgressLog

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
#: How long the follower may take to open its transfer connections, once it knows its own tree.
TRANSFERS_TIMEOUT_S = 30.0
#: A node that found more changes says that it does not know.
OFFERED_PATHS_MAX = 2 * PATHS_MAX


class Listeners(Protocol):
    """Who hears how it ends; all called on the loop."""

    def chosen(self, mode: SyncMode, reason: str) -> None: ...

    def caught_up(self) -> None: ...

    def failed(self, reason: str, fatal: bool) -> None: ...


class Synchronisation:
    """One attempt to bring the follower's trees up to date. Used once.

    How much is looked at is settled when the follower has said what it knows of its own tree, and
    this node knows what happened to its own while the module was stopped."""

    def __init__(
        self,
        context: Context,
        primary: Primary,
        keeper: Keeper,
        live: SecureStream,
        order: messages.AllowFollower,
        listeners: Listeners,
    ) -> None:
        self._context = context
        self._loop = loop = context.loop
        self._primary = primary
        self._keeper = keeper
        self._root_fds = context.door_fds
        self._live = live
        self._setup = setup = context.setup
        self._transfers = transfers = setup.transfers
        self._order = order
        self._listeners = listeners
        self._told = ProgressLog(partial(context.log, "reintegre"), loop.now_s)
        self._offer = Offer()
        self._self_known = False
        self._suspects: list[Suspects] = []
        self._mode, self._reason = SyncMode(order.mode), order.reason
        self._streams: list[BlockingStream] = []
        self._source: Source | None = None
        self._rounds = 0
        self._measure = Measure(len(context.door_fds), time.monotonic())
        self._flush_number = 0
        self._after_flush: Callable[[], None] | None = None
        self._local_flushed = self._remote_flushed = False
        self._over = False
        self._holding = False
        self.stream_id = secrets.token_hex(8)
        self.progress: Progress | None = Progress(phase="connect")
        self._deadline: Timer | None = None
        begin = wire.SyncBegin(
            self.stream_id,
            transfers,
            order.keep_aside,
            order.mode,
            order.reason,
            order.since > 0,
        )
        live.send(wire.encode(begin))
        self._tell_timer: Timer = loop.call_later(TELL_INTERVAL_S, self._tell_again)
        context.knowledge.when_known(self._know_self)

    # -- what the worker tells ----------------------------------------

    def transfer_opened(self, stream: BlockingStream) -> None:
        """A transfer connection with our `stream_id` was accepted."""
        if self._over or len(self._streams) >= self._transfers:
            stream.close()
            return
        self._streams.append(stream)
        if len(self._streams) == self._transfers:
            self._stop_deadline()
            self._begin()

    def offered(self, offer: wire.SyncOffer) -> None:
        """What the target knows of its own tree."""
        mine = self._offer
        if mine.complete:
            raise PeerError("an offer after the last one")
        if not offer.known:
            mine.known, mine.reason = False, offer.reason
        mine.paths += offer.paths
        if len(mine.paths) > OFFERED_PATHS_MAX:
            raise PeerError("too many paths in an offer")
        mine.complete = offer.last
        if offer.last and len(self._streams) < self._transfers:
            self._deadline = self._loop.call_later(TRANSFERS_TIMEOUT_S, self._connect_timeout)
        self._begin()

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

    # -- how much is looked at ----------------------------------------

    def _know_self(self) -> None:
        self._self_known = True
        self._begin()

    def _begin(self) -> None:
        """Settle the mode and start, once everybody is there and has said what it knows."""
        ready = self._self_known and self._offer.complete and not self._over
        if not ready or len(self._streams) < self._transfers or self._source is not None:
            return
        keeper, paths = self._keeper, self._keeper.paths
        suspect = keeper.suspect_everything_because
        setup, since_s = self._setup, self._order.since
        if since_s:
            # An operator answers for what is older, whatever this node cannot know.
            self._suspects = by_name_only(keeper.suspects(False))
        else:
            self._mode, self._reason = choose(
                self._mode, self._reason, suspect, keeper.incomplete, self._offer
            )
            self._suspects = keeper.suspects(self._mode is SyncMode.ZONES)
        self._source = Source(
            self._root_fds,
            self._streams,
            self._on_progress,
            acl=setup.acl,
            suspects=self._suspects,
            scope=Scope([Exclusion(rules) for rules in setup.notreplicated]),
            bytes_s=setup.reiallowedbw_bytes_s,
            newer_than_ns=int(since_s * 1e9) if since_s else None,
            memory=keeper.memories.attempt(),
        )
        if setup.reidetail:
            detail = Detail(self._loop, partial(self._context.log, "reintegre"), setup.paths)
            self._source.tell_copied(detail.copied)
        self._tell_chosen()
        if self._mode is SyncMode.EVERYTHING:
            paths.demand(FULL)
            # Before the first byte changes there (I9): nobody may later believe less.
            keeper.suspect_everything(self._next_round)
            return
        if self._mode is SyncMode.WALK:
            paths.demand(WALK)
        for tree, path in self._offer.paths:
            if tree < len(self._root_fds):
                paths.add_found(tree, path)
        self._next_round()

    def _tell_chosen(self) -> None:
        """Here, and with every progress on the other node."""
        self._measure.mode, self._measure.reason = self._mode.value, self._reason
        self._listeners.chosen(self._mode, self._reason)

    # -- rounds ----------------------------------------

    def _next_round(self) -> None:
        if self._over:
            return
        self._rounds += 1
        if self._mode is SyncMode.ZONES and self._keeper.incomplete:
            # Meanwhile too much has changed: from here on names are walked.
            self._mode, self._reason = SyncMode.WALK, self._keeper.incomplete
            self._tell_chosen()
            for mine, all_of_them in zip(self._suspects, self._keeper.suspects(False), strict=True):
                mine.absorb(all_of_them)
        marks = self._keeper.take()
        self._measure.round_began(time.monotonic())
        self._in_thread("resync-round", lambda: self._run_round(marks))

    def _run_round(self, marks: list[dict[bytes, Mark]]) -> None:
        assert self._source is not None
        result = self._source.run_round(marks)
        self._loop.post(lambda: self._round_done(result))

    def _round_done(self, result: RoundResult) -> None:
        if self._over:
            return
        self._measure.round_over(result)
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
        paths, whole, size = self._keeper.paths.left()
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
        self._primary.brake_s = 0.0
        source = self._source
        self._in_thread("resync-finish", source.finish, quiet=True)
        self.progress = self._context.finished = self._measure.whole
        self._tell()
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
        try:
            sync_all(self._root_fds)
        except OSError:
            self._keeper.memories.clear()  # what was read may not be on the disk (I16)
            raise
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

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _connect_timeout(self) -> None:
        self.abandon(
            f"only {len(self._streams)} of {self._transfers} transfer connections came "
            f"within {TRANSFERS_TIMEOUT_S:.0f} s"
        )

    def _on_progress(self, progress: Progress) -> None:
        """From the transfer threads: one assignment is safe."""
        self.progress = self._measure.seen(progress, time.monotonic())

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
        self._stop_deadline()
        self._tell_timer.cancel()
        self._primary.brake_s = 0.0
        # What was taken is to be compared again, unless the marks are reset: it was adopted (I8).
        self._keeper.paths.put_back()
        self.progress = None
        for stream in self._streams:
            stream.shutdown()  # a running round ends with PeerError and closes nothing twice
