"""Transfers between accounts in an SQLite database, each noted once it is committed.

    sqliteload.py DATABASE JOURNAL_MODE NUMBERS WRITER

Appends the number of each committed transaction to the file NUMBERS. Ends with the first error
of the file system: another program goes on where the database was left.
"""

from __future__ import annotations

import sqlite3
import sys

ACCOUNTS, BALANCE = 20, 1000


def opened(database: str, journal_mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={journal_mode}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=50")
    return connection


def create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INT)")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS done (number, writer, PRIMARY KEY (number, writer))"
    )
    rows = [(number, BALANCE) for number in range(ACCOUNTS)]
    connection.executemany("INSERT OR IGNORE INTO account VALUES (?, ?)", rows)
    connection.execute("COMMIT")


def main(database: str, journal_mode: str, numbers: str, writer: str) -> int:
    connection = opened(database, journal_mode)
    create(connection)
    first = connection.execute("SELECT count(*) FROM done WHERE writer = ?", (writer,)).fetchone()[
        0
    ]
    with open(numbers, "a", buffering=1) as noted:
        number = first
        while True:
            give, take = number % ACCOUNTS, (number * 7 + 3) % ACCOUNTS
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE account SET balance = balance - 1 WHERE id = ?", (give,))
            connection.execute("UPDATE account SET balance = balance + 1 WHERE id = ?", (take,))
            connection.execute("INSERT INTO done VALUES (?, ?)", (number, writer))
            connection.execute("COMMIT")
            noted.write(f"{number} {writer}\n")
            number += 1


def complaints(database: str, numbers: str) -> list[str]:
    """What is wrong with a database after all; nothing if it is whole."""
    connection = sqlite3.connect(database, timeout=60)
    said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    found = [] if said == ["ok"] else said
    if connection.execute("SELECT sum(balance) FROM account").fetchone()[0] != ACCOUNTS * BALANCE:
        found.append("the balances do not add up")
    done = {f"{number} {writer}" for number, writer in connection.execute("SELECT * FROM done")}
    with open(numbers) as noted:
        # The last line may have been cut off with the power.
        missing = [
            line.strip() for line in noted if line.endswith("\n") and line.strip() not in done
        ]
    connection.close()
    return found + [f"{len(missing)} missing: {missing[:3]}"] * bool(missing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
