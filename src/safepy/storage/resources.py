"""Resources of a module: the last values in memory, these and a bounded history in SQLite
(reference 12).

A resource may be set thousands of times a second: memory has each value at once, the disk gets the
last ones at most ten times a second, and the history of one resource at most ten changes a second
and the value at the end of that second. The history keeps the newest 20,000 changes, of one
resource 2,000, those of the last 30 days.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from dataclasses import dataclass

from safepy.storage.database import Database, reading
from safepy.storage.retention import Retention, clean_up

#: Assignments kept in the history: of all, and of one resource.
HISTORY_MAX = 20_000
HISTORY_OF_ONE_MAX = 2_000
#: Changes of one resource in one second that the history gets, besides the last one.
CHANGES_PER_S = 10
#: Between two writes.
PACE_S = 0.1
_PURGE_EVERY = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS current (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    who TEXT NOT NULL,
    time REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    who TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_of_one ON history (name, id);
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource's last assignment; `time_s` is wall-clock seconds, for display only."""

    name: str
    value: str
    who: str
    time_s: float


class Resources:
    """The resources of one module. What an earlier run left is read at the start."""

    def __init__(self, path: str, history_max: int = HISTORY_MAX) -> None:
        self._values: dict[str, Resource] = {}
        #: Grows with every value that changes: who made something of all of them knows it is old.
        self.version = 0
        try:
            self._values = {resource.name: resource for resource in read(path)}
        except sqlite3.DatabaseError as error:
            # Damaged: the writer puts it aside. Nothing that decides depends on it.
            log.error("%s cannot be read, and is begun anew: %s", path, error)
        self._keep = Retention(history_max, kept_min=min(1_000, history_max))
        self._lock = threading.Lock()
        #: What the disk does not have yet; None: the resource is gone.
        self._pending: dict[str, Resource | None] = {}
        self._writing: dict[str, Resource | None] = {}
        self._changes = _Changes()
        self._queued = False
        #: The pause between two writes is over: once, or as long as `_draining`.
        self._hurry = threading.Event()
        self._draining = False
        self._inserted = 0
        self._database = Database(path, _SCHEMA, failed=self._write_all_again)

    def get(self, name: str) -> str | None:
        resource = self._values.get(name)
        return None if resource is None else resource.value

    def all(self) -> list[Resource]:
        return [self._values[name] for name in sorted(self._values)]

    def set(self, name: str, value: str, who: str, log: bool | None = None) -> bool:
        """Assign; True if the value is another one than before.

        The history gets changes; `log` True: every assignment (`set -l`), False: none (`set -n`).
        """
        before = self._values.get(name)
        changed = before is None or before.value != value
        resource = Resource(name, value, who, time.time())
        self._values[name] = resource
        self.version += changed
        with self._lock:
            self._pending[name] = resource
            if changed if log is None else log:
                self._changes.add(resource, time.monotonic())
        self._submit()
        return changed

    def drop(self, name: str) -> None:
        """Forget a resource that does not exist any more; its history stays."""
        if self._values.pop(name, None) is not None:
            self.version += 1
            with self._lock:
                self._pending[name] = None
            self._submit()

    def clear(self) -> None:
        """Forget all of them, and the history (`safekit clean resource`)."""
        for name in list(self._values):
            self.drop(name)
        self._database.submit(lambda connection: _clear_history(connection))

    def hurry(self) -> None:
        """Write what was set until now without waiting for more: the next run depends on it."""
        self._hurry.set()

    def flush(self, timeout_s: float = 5.0) -> bool:
        self._draining = True
        self._hurry.set()
        try:
            return self._database.flush(timeout_s)
        finally:
            self._draining = False
            self._hurry.clear()

    def close(self) -> None:
        self._draining = True
        self._hurry.set()
        self._submit()
        self._database.close()

    def _submit(self) -> None:
        """One writing job is queued at a time, however much there is to write."""
        with self._lock:
            if self._queued:
                return
            self._queued = True
        self._database.submit(self._write)

    def _write(self, connection: sqlite3.Connection) -> None:
        """In the writer's thread: what has come until now, after a pause in which more may come."""
        hurried = self._hurry.wait(PACE_S)
        if not self._draining:
            self._hurry.clear()
        with self._lock:
            self._queued = False
            self._writing, self._pending = self._pending, {}
            changes = self._changes.take(None if hurried else time.monotonic())
            waiting = self._changes.waiting
        for name, resource in self._writing.items():
            if resource is None:
                connection.execute("DELETE FROM current WHERE name=?", (name,))
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO current (name, value, who, time) VALUES (?, ?, ?, ?)",
                    (name, resource.value, resource.who, resource.time_s),
                )
        for change in changes:
            self._insert(connection, change)
        if waiting:
            self._submit()

    def _insert(self, connection: sqlite3.Connection, change: Resource) -> None:
        connection.execute(
            "INSERT INTO history (time, name, value, who) VALUES (?, ?, ?, ?)",
            (change.time_s, change.name, change.value, change.who),
        )
        if self._inserted % min(_PURGE_EVERY, self._keep.lines_max) == 0:
            clean_up(connection, "history", self._keep, time.time())
            for (name,) in connection.execute("SELECT DISTINCT name FROM history").fetchall():
                connection.execute(
                    "DELETE FROM history WHERE name = ? AND id <= (SELECT id FROM history"
                    " WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (name, name, HISTORY_OF_ONE_MAX),
                )
        self._inserted += 1

    def _write_all_again(self) -> None:
        """A write failed: the next one brings everything, so that the disk is right again."""
        with self._lock:
            self._queued = False
            gone = {**self._writing, **self._pending}
            self._pending = {name: None for name, value in gone.items() if value is None}
            self._pending |= self._values


class _Changes:
    """Changes for the history, of each resource no more than CHANGES_PER_S in one second; of those
    beyond only the last, when that second is over."""

    def __init__(self) -> None:
        self._ready: list[Resource] = []
        #: By name: when its present second began, changes taken in it, the last one beyond.
        self._seconds: dict[str, tuple[float, int, Resource | None]] = {}

    @property
    def waiting(self) -> bool:
        """Whether a change waits for its second to end."""
        return any(late is not None for _, _, late in self._seconds.values())

    def add(self, change: Resource, now_s: float) -> None:
        began_s, count, late = self._seconds.get(change.name, (now_s, 0, None))
        if now_s >= began_s + 1.0:
            if late is not None:
                self._ready.append(late)
            began_s, count, late = now_s, 0, None
        if count < CHANGES_PER_S:
            self._ready.append(change)
            self._seconds[change.name] = (began_s, count + 1, None)
        else:
            self._seconds[change.name] = (began_s, count, change)

    def take(self, now_s: float | None) -> list[Resource]:
        """What can be written now, oldest first; None: everything."""
        for name, (began_s, _, late) in list(self._seconds.items()):
            if now_s is None or now_s >= began_s + 1.0:
                if late is not None:
                    self._ready.append(late)
                del self._seconds[name]
        ready, self._ready = self._ready, []
        return ready


def _clear_history(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM history")


def read(path: str) -> list[Resource]:
    """The last values as they are on disk, by name; nothing if there is no such file yet."""
    try:
        with reading(path) as connection:
            if connection is None:
                return []
            rows = connection.execute("SELECT name, value, who, time FROM current ORDER BY name")
            return [Resource(*row) for row in rows]
    except sqlite3.OperationalError:
        # Made but not yet filled: the writer's thread creates the tables.
        return []


def history(path: str, name: str, count: int = 100) -> list[Resource]:
    """The last assignments of one resource (of all with an empty name), newest first."""
    chosen, values = ("WHERE name = ?", [name]) if name else ("", [])
    try:
        with reading(path) as connection:
            if connection is None:
                return []
            rows = connection.execute(
                f"SELECT name, value, who, time FROM history {chosen} ORDER BY id DESC LIMIT ?",
                [*values, count],
            )
            return [Resource(*row) for row in rows]
    except sqlite3.OperationalError:
        return []  # as above
