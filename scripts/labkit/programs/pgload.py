"""A load like pgbench's that records every commit it was told succeeded.

Several connections each move money between accounts and write a numbered line of history, all
in one transaction. They follow the primary by trying every address. Each acknowledged commit is
a line "worker number moment" in the record; SIGTERM ends the load.

Usage: python -m labkit.programs.pgload RECORD CONNECTIONS HOST...
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time

from . import pgwire

ACCOUNTS = 1000
#: A connection that says nothing for so long is given up; the commit counts as unknown.
SILENCE_S = 5.0

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    worker int, number int, account int, delta bigint, filler text, PRIMARY KEY (worker, number));
INSERT INTO accounts SELECT id, 0 FROM generate_series(1, {ACCOUNTS}) AS id
    ON CONFLICT DO NOTHING;
"""


def transaction(worker: int, number: int) -> str:
    account, delta = random.randint(1, ACCOUNTS), random.randint(-5000, 5000)
    return (
        f"BEGIN; UPDATE accounts SET balance = balance + {delta} WHERE id = {account}; "
        f"INSERT INTO history VALUES ({worker}, {number}, {account}, {delta}, "
        f"'{'x' * 80}'); COMMIT"
    )


def work(worker: int, hosts: list[str], record: str, stopping: threading.Event) -> None:
    number = 0
    connection: pgwire.Connection | None = None
    with open(record, "a", buffering=1) as file:
        while not stopping.is_set():
            try:
                if connection is None:
                    connection = pgwire.anywhere(hosts, timeout_s=SILENCE_S)
                number += 1
                connection.query(transaction(worker, number))
            except (OSError, pgwire.Refused):
                if connection is not None:
                    with connection:
                        connection = None
                stopping.wait(0.1)
                continue
            file.write(f"{worker} {number} {time.monotonic():.4f}\n")
    if connection is not None:
        with connection:
            pass


def main(record: str, connections: str, *hosts: str) -> int:
    with pgwire.anywhere(list(hosts), timeout_s=10.0) as connection:
        connection.query(SCHEMA)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    workers = [
        threading.Thread(target=work, args=(number, list(hosts), record, stopping))
        for number in range(int(connections))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
