"""Resources of a module: the last values in memory, these and a bounded history in SQLite
(reference 12)."""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import dataclass

from safepy.storage.database import Database, reading

#: Assignments kept in the history.
HISTORY_MAX = 20_000
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
        try:
            self._values = {resource.name: resource for resource in read(path)}
        except sqlite3.DatabaseError as error:
            # Damaged: the writer puts it aside. Nothing that decides depends on it.
            log.error("%s cannot be read, and is begun anew: %s", path, error)
        self._database = Database(path, _SCHEMA)
        self._history_max = history_max

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
        keep = changed if log is None else log
        history_max = self._history_max

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO current (name, value, who, time) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value=excluded.value, who=excluded.who,"
                " time=excluded.time",
                (name, value, who, resource.time_s),
            )
            if not keep:
                return
            cursor = connection.execute(
                "INSERT INTO history (time, name, value, who) VALUES (?, ?, ?, ?)",
                (resource.time_s, name, value, who),
            )
            number = cursor.lastrowid or 0
            if number % min(_PURGE_EVERY, history_max) == 0:
                connection.execute("DELETE FROM history WHERE id <= ?", (number - history_max,))

        self._database.submit(job)
        return changed

    def drop(self, name: str) -> None:
        """Forget a resource that does not exist any more; its history stays."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM current WHERE name=?", (name,))

        if self._values.pop(name, None) is not None:
            self._database.submit(job)

    def flush(self, timeout_s: float = 5.0) -> bool:
        return self._database.flush(timeout_s)

    def close(self) -> None:
        self._database.close()


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
    """The last assignments of one resource, newest first."""
    with reading(path) as connection:
        if connection is None:
            return []
        rows = connection.execute(
            "SELECT name, value, who, time FROM history WHERE name = ? ORDER BY id DESC LIMIT ?",
            (name, count),
        )
        return [Resource(*row) for row in rows]
