"""How much of a log table is kept: lines, days and bytes, whichever is reached first.

Runs in the writer's thread, a portion at a time, and never takes the newest lines: what an age or
a clock that was set says, the last `kept_min` stay.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

DAY_S = 86_400.0
#: Rows that one clean-up takes at most: it is done between two writes.
_PORTION = 20_000


@dataclass(frozen=True, slots=True)
class Retention:
    """`bytes_max` counts what is used in the file; the room of what went is used again."""

    lines_max: int = 100_000
    age_max_s: float = 30 * DAY_S
    bytes_max: int = 64 << 20
    kept_min: int = 1_000
    #: Between two clean-ups, in lines.
    every: int = 1_000


def clean_up(connection: sqlite3.Connection, table: str, keep: Retention, now_s: float) -> None:
    """Take what is beyond `keep` from `table`, which has an `id` that grows and a `time`."""
    oldest, newest = connection.execute(f"SELECT min(id), max(id) FROM {table}").fetchone()
    if newest is None:
        return
    last = newest - keep.lines_max
    (aged,) = connection.execute(
        f"SELECT max(id) FROM {table} WHERE time < ?", (now_s - keep.age_max_s,)
    ).fetchone()
    last = max(last, aged or 0)
    if _used_bytes(connection) > keep.bytes_max:
        last = max(last, oldest + (newest - oldest) // 4)
    last = min(last, newest - min(keep.kept_min, keep.lines_max), oldest + _PORTION - 1)
    if last >= oldest:
        connection.execute(f"DELETE FROM {table} WHERE id <= ?", (last,))


def _used_bytes(connection: sqlite3.Connection) -> int:
    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
