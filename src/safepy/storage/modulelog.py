"""The module log and the node's command log (reference 15.1, 15.2, 15.6), in SQLite.

The daemon writes; the CLI reads the file by itself, also when the daemon is down. Of each, the
newest 100,000 lines are kept, those of the last 30 days, and 64 MiB (`storage.retention`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from safepy.model import Level
from safepy.storage.database import Database, reading
from safepy.storage.retention import Retention, clean_up

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


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One line of the command log. `mark` is START, END (then `text` is the exit code) or I."""

    time_s: float
    origin: str
    module: str
    pid: int
    mark: str
    text: str

    def __str__(self) -> str:
        head = f"| {stamp(self.time_s)} | {self.origin} | {self.module} | {self.pid}"
        return f"{head} | {self.mark} | {self.text}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted. `levels` None: all. `since_s` and `until_s` are Unix seconds;
    `text` is looked for in origin and message, ASCII letters in capitals or not."""

    levels: Iterable[str] | None = None
    since_s: float | None = None
    until_s: float | None = None
    text: str = ""

    def condition(self, columns: str) -> tuple[str, list[object]]:
        """As SQL, with its values; the text is looked for in `columns`."""
        parts, values = ["1"], list[object]()
        if self.levels is not None:
            chosen = [str(level) for level in self.levels]
            parts.append(f"level IN ({','.join('?' * len(chosen))})")
            values += chosen
        if self.since_s is not None:
            parts.append("time >= ?")
            values.append(self.since_s)
        if self.until_s is not None:
            parts.append("time <= ?")
            values.append(self.until_s)
        if self.text:
            parts.append(f"instr(lower({columns}), ?)")
            values.append(self.text.encode("utf-8", "replace").decode().lower())
        return " AND ".join(parts), values


NORMAL = Filter(NORMAL_LEVELS)
ALL = Filter()


class _Log:
    """A bounded table of lines that is only appended to."""

    TABLE = ""
    SCHEMA = ""
    COLUMNS = ""

    def __init__(self, path: str, keep: Retention | None = None) -> None:
        self._keep = keep or Retention()
        self._written = 0
        self._database = Database(path, self.SCHEMA, self._tell_loss)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything written before can be read; False if it took too long."""
        return self._database.flush(timeout_s)

    def close(self) -> None:
        self._database.close()

    def clear(self) -> None:
        """Forget all lines (`safekit clean log`)."""
        self._database.submit(lambda connection: self._clear(connection))

    def _clear(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"DELETE FROM {self.TABLE}")

    def _append(self, row: tuple[object, ...]) -> None:
        self._database.submit(lambda connection: self._insert(connection, row))

    def _insert(self, connection: sqlite3.Connection, row: tuple[object, ...]) -> None:
        marks = ",".join("?" * len(row))
        connection.execute(f"INSERT INTO {self.TABLE} ({self.COLUMNS}) VALUES ({marks})", row)
        if self._written % self._keep.every == 0:
            clean_up(connection, self.TABLE, self._keep, time.time())
        self._written += 1

    def _tell_loss(self, connection: sqlite3.Connection, count: int, reason: str) -> None:
        raise NotImplementedError


class ModuleLog(_Log):
    """The log of one module, for writing."""

    TABLE = "log"
    SCHEMA = _SCHEMA
    COLUMNS = "time, origin, level, message"

    def write(self, origin: str, level: Level, text: str) -> None:
        """Append a line with the present time; never blocks, never fails."""
        self._append((time.time(), _one_line(origin), str(level), _one_line(text)))

    def _tell_loss(self, connection: sqlite3.Connection, count: int, reason: str) -> None:
        text = f"{count} lines of this log were lost: {reason}"
        row = (time.time(), "safeadmin", str(Level.CRITICAL), _one_line(text))
        self._insert(connection, row)


class CommandLog(_Log):
    """The node's log of commands that change something (reference 15.6)."""

    TABLE = "commands"
    SCHEMA = _COMMAND_SCHEMA
    COLUMNS = "time, type, module, pid, mark, message"

    def start(self, module: str, pid: int, arguments: str) -> None:
        self._write("safekit", module, pid, "START", arguments)

    def end(self, pid: int, exit_code: int) -> None:
        self._write("", "", pid, "END", str(exit_code))

    def note(self, origin: str, text: str) -> None:
        """An informative line of the daemon itself (level I, pid 0)."""
        self._write(origin, "", 0, "I", text)

    def _write(self, origin: str, module: str, pid: int, mark: str, text: str) -> None:
        self._append((time.time(), origin, module, pid, mark, _one_line(text)))

    def _tell_loss(self, connection: sqlite3.Connection, count: int, reason: str) -> None:
        text = f"{count} lines of this log were lost: {reason}"
        self._insert(connection, (time.time(), "safeadmin", "", 0, "I", _one_line(text)))


def read(path: str, count: int = 300, wanted: Filter = NORMAL, after: int = 0) -> list[Line]:
    """The last `count` lines that are `wanted`, oldest first, only those with a number above
    `after` (to follow: give the number of the last line seen).

    Raises sqlite3.Error if the file is no such log.
    """
    condition, values = wanted.condition("origin || ' ' || message")
    with reading(path) as connection:
        if connection is None:
            return []
        rows = connection.execute(
            f"SELECT id, time, origin, level, message FROM log WHERE id > ? AND {condition}"
            " ORDER BY id DESC LIMIT ?",
            [after, *values, count],
        ).fetchall()
    return [Line(*row) for row in reversed(rows)]


def read_commands(path: str, count: int = 300, wanted: Filter = ALL) -> list[CommandLine]:
    """The last `count` lines of the command log that are wanted (levels do not count), oldest
    first (reference 15.6). Raises sqlite3.Error."""
    condition, values = wanted.condition("module || ' ' || message")
    with reading(path) as connection:
        if connection is None:
            return []
        rows = connection.execute(
            f"SELECT time, type, module, pid, mark, message FROM commands WHERE {condition}"
            " ORDER BY id DESC LIMIT ?",
            [*values, count],
        ).fetchall()
    return [CommandLine(*row) for row in reversed(rows)]


def stamp(time_s: float) -> str:
    """Local time as the reference shows it: `2025-08-27 16:49:33:662000`."""
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S:%f")


def _one_line(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text[:_TEXT_CHARACTERS_MAX])
    return clean.strip()
