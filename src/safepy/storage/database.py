"""A small SQLite file with a writer thread of its own.

Logs and resources are written from the daemon's loop, and a slow disk must not silence the
heartbeats: `submit` only queues. The queue is bounded (protocol S26): when it is full the oldest
entry goes, and is counted. A disk that refuses to write costs log lines, never the service; so does
a file that is damaged: it is put aside, and a new one is begun. What was lost is told with the
first write that succeeds again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

Job = Callable[[sqlite3.Connection], None]
#: Writes down how many entries were lost, and why.
TellLoss = Callable[[sqlite3.Connection, int, str], None]

_QUEUE_MAX = 10_000
_BATCH_MAX = 500
_BUSY_TIMEOUT_S = 5.0
_COMPLAIN_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Database:
    """Writes jobs in the order they were submitted, many to a commit when they come fast."""

    def __init__(
        self,
        path: str,
        schema: str,
        tell_loss: TellLoss | None = None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """`tell_loss` and `failed` (a batch was not written) are called in the writer's thread."""
        self.path = path
        self.dropped = 0
        self._told = 0
        self._reason = ""
        self._tell_loss = tell_loss
        self._failed = failed
        self._schema = schema
        self._jobs: queue.Queue[Job | threading.Event | None] = queue.Queue(_QUEUE_MAX)
        self._complained_at = -_COMPLAIN_EVERY_S
        self._thread = threading.Thread(
            target=self._work, name=f"database {os.path.basename(path)}", daemon=True
        )
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have `job` carried out soon; never blocks."""
        self._put(job)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything submitted before is on disk; False if it took too long."""
        done = threading.Event()
        self._put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued and end, within the time."""
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _put(self, entry: Job | threading.Event) -> None:
        while True:
            try:
                return self._jobs.put_nowait(entry)
            except queue.Full:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        """The newest lines say how a flood ended; an old one makes room."""
        with contextlib.suppress(queue.Empty):
            oldest = self._jobs.get_nowait()
            if isinstance(oldest, threading.Event):
                oldest.set()  # whatever was before it is written or dropped
                return
            self.dropped += 1
            self._reason = "they came faster than the disk took them"

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            batch, waiters, last = self._take()
            try:
                if connection is None:
                    connection = self._connect()
                with connection:
                    for job in batch:
                        job(connection)
                    told = self._tell(connection)
                self._told = told
            except (sqlite3.Error, OSError) as error:
                self._complain(error, len(batch))
                self._failed()
                connection = self._give_up(connection)
                if _is_damage(error):
                    self._put_aside()
            for waiter in waiters:
                waiter.set()
            if last:
                self._give_up(connection)
                return

    def _tell(self, connection: sqlite3.Connection) -> int:
        """Tell what was lost since it was told last; how much that makes in all."""
        dropped = self.dropped
        if self._tell_loss is not None and dropped > self._told:
            self._tell_loss(connection, dropped - self._told, self._reason)
        return dropped

    def _take(self) -> tuple[list[Job], list[threading.Event], bool]:
        """What is queued now: jobs, who waits for their end, and whether it was the last."""
        batch: list[Job] = []
        waiters: list[threading.Event] = []
        entry = self._jobs.get()
        while entry is not None:
            if isinstance(entry, threading.Event):
                waiters.append(entry)
            else:
                batch.append(entry)
            if len(batch) >= _BATCH_MAX:
                return batch, waiters, False
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                return batch, waiters, False
        return batch, waiters, True

    def _connect(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(self._schema)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> None:
        """The damaged file stays for who wants to look at it; the next write begins a new one."""
        aside = f"{self.path}.damaged-{time.strftime('%Y-%m-%dT%H%M%S')}"
        try:
            os.replace(self.path, aside)
            for rest in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path + rest)
        except OSError as error:
            log.warning("%s is damaged and cannot be put aside: %s", self.path, error.strerror)
        else:
            log.error("%s was damaged; it is %s now, and a new one is begun", self.path, aside)

    @staticmethod
    def _give_up(connection: sqlite3.Connection | None) -> None:
        if connection is not None:
            connection.close()

    def _complain(self, error: Exception, lost: int) -> None:
        self.dropped += lost
        self._reason = str(error)
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = now
            log.warning("%s cannot be written, %d entries lost: %s", self.path, lost, error)


def _is_damage(error: Exception) -> bool:
    """Whether the file itself is wrong, not the disk or the moment."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    # Extended codes keep the kind of error in their lowest byte.
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def reading(path: str) -> Iterator[sqlite3.Connection | None]:
    """The file opened for reading only, also without the daemon; None if there is none, or one that
    was just made: the writer's thread creates the tables."""
    if not os.path.exists(path):
        yield None
        return
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
    try:
        try:
            made = _first_name(connection)
        except sqlite3.OperationalError:
            # Reading needs an index beside the file, for which a full disk has no room. Without a
            # writer the file alone tells what it was told last.
            connection.close()
            connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
            made = _first_name(connection)
        yield None if made is None else connection
    finally:
        connection.close()


def _first_name(connection: sqlite3.Connection) -> object:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
