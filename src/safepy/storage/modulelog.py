"""The module log and the node's command log (reference 15.1, 15.2, 15.6), in SQLite.

The daemon writes; the CLI reads the file by itself, also when the daemon is down.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from safepy.model import Level
from safepy.storage.database import Database, reading

#: Lines kept; older ones go, a thousand at a time.
LINES_MAX = 100_000
_PURGE_EVERY = 1_000
_TEXT_CHARACTERS_MAX = 4_000

#: What `safekit log` shows without `-A` (reference 15.2).
NORMAL_LEVELS = (Level.USER, Level.CRITICAL, Level.EVENT, Level.SCRIPT)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    origin TEXT NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL
);
"""

_COMMAND_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    type TEXT NOT NULL,
    module TEXT NOT NULL,
    pid INTEGER NOT NULL,
    mark TEXT NOT NULL,
    message TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `number` grows; `time_s` is wall-clock seconds, for display only."""

    number: int
    time_s: float
    origin: str
    level: str
    text: str

    def __str__(self) -> str:
        return f"| {stamp(self.time_s)} | {self.origin} | {self.level} | {self.text}"


class ModuleLog:
    """The log of one module, for writing."""

    def __init__(self, path: str, lines_max: int = LINES_MAX) -> None:
        self._database = Database(path, _SCHEMA)
        self._lines_max = lines_max

    def write(self, origin: str, level: Level, text: str) -> None:
        """Append a line with the present time; never blocks, never fails."""
        row = (time.time(), _one_line(origin), str(level), _one_line(text))
        lines_max = self._lines_max

        def job(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO log (time, origin, level, message) VALUES (?, ?, ?, ?)", row
            )
            number = cursor.lastrowid or 0
            if number % min(_PURGE_EVERY, lines_max) == 0:
                connection.execute("DELETE FROM log WHERE id <= ?", (number - lines_max,))

        self._database.submit(job)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything written before can be read; False if it took too long."""
        return self._database.flush(timeout_s)

    def close(self) -> None:
        self._database.close()


class CommandLog:
    """The node's log of commands that change something (reference 15.6)."""

    def __init__(self, path: str) -> None:
        self._database = Database(path, _COMMAND_SCHEMA)

    def start(self, module: str, pid: int, arguments: str) -> None:
        self._write("safekit", module, pid, "START", arguments)

    def end(self, pid: int, exit_code: int) -> None:
        self._write("", "", pid, "END", str(exit_code))

    def note(self, origin: str, text: str) -> None:
        """An informative line of the daemon itself (level I, pid 0)."""
        self._write(origin, "", 0, "I", text)

    def close(self) -> None:
        self._database.close()

    def _write(self, origin: str, module: str, pid: int, mark: str, text: str) -> None:
        row = (time.time(), origin, module, pid, mark, _one_line(text))

        def job(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO commands (time, type, module, pid, mark, message)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            number = cursor.lastrowid or 0
            if number % _PURGE_EVERY == 0:
                connection.execute("DELETE FROM commands WHERE id <= ?", (number - LINES_MAX,))

        self._database.submit(job)


def read(
    path: str, count: int = 300, levels: Iterable[str] | None = NORMAL_LEVELS, after: int = 0
) -> list[Line]:
    """The last `count` lines of these levels (None: of all), oldest first, only those with a
    number above `after` (to follow: give the number of the last line seen).

    Raises sqlite3.Error if the file is no such log.
    """
    chosen = None if levels is None else [str(level) for level in levels]
    where, values = "id > ?", [after]
    with reading(path) as connection:
        if connection is None:
            return []
        if chosen is not None:
            where += f" AND level IN ({','.join('?' * len(chosen))})"
        rows = connection.execute(
            f"SELECT id, time, origin, level, message FROM log WHERE {where}"
            " ORDER BY id DESC LIMIT ?",
            [*values, *(chosen or ()), count],
        ).fetchall()
    return [Line(*row) for row in reversed(rows)]


def read_commands(path: str, count: int = 300) -> list[str]:
    """The last `count` lines of the command log, oldest first, as text (reference 15.6)."""
    with reading(path) as connection:
        if connection is None:
            return []
        rows = connection.execute(
            "SELECT time, type, module, pid, mark, message FROM commands ORDER BY id DESC LIMIT ?",
            (count,),
        ).fetchall()
    return [
        f"| {stamp(time_s)} | {origin} | {module} | {pid} | {mark} | {text}"
        for time_s, origin, module, pid, mark, text in reversed(rows)
    ]


def stamp(time_s: float) -> str:
    """Local time as the reference shows it: `2025-08-27 16:49:33:662000`."""
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S:%f")


def _one_line(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text[:_TEXT_CHARACTERS_MAX])
    return clean.strip()
