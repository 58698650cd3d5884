"""Transactions in a MariaDB server, each noted once it is committed.

    mariaload.py SOCKET NUMBERS

Talks to the server through the `mariadb` client, one statement after the other.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CREATE = """\
CREATE DATABASE IF NOT EXISTS lab;
CREATE TABLE IF NOT EXISTS lab.done (number INT PRIMARY KEY, filler VARCHAR(500), KEY (filler(20)))
ENGINE=InnoDB;
SELECT COALESCE(MAX(number), -1) FROM lab.done;
"""


def main(socket: str, numbers: str) -> int:
    client = subprocess.Popen(
        ["mariadb", "--no-defaults", "-S", socket, "-N", "--unbuffered", "--silent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    into, out = client.stdin, client.stdout
    assert into and out

    def ask(statements: str) -> str:
        print(statements, file=into, flush=True)
        return out.readline().strip()

    number = int(ask(CREATE))
    with Path(numbers).open("a", buffering=1) as noted:
        while client.poll() is None:
            number += 1
            said = ask(
                f"BEGIN; INSERT INTO lab.done VALUES ({number}, REPEAT('{number}-', 40)); "
                f"UPDATE lab.done SET filler = CONCAT('x', filler) WHERE number = {number - 5}; "
                f"COMMIT; SELECT {number};"
            )
            if said != str(number):
                break
            noted.write(f"{number}\n")
    return 1


def missing(numbers: Path, rows: str) -> list[str]:
    """Noted numbers that are not among the rows; a line that was cut off is none."""
    there = set(rows.split())
    noted = numbers.read_text().splitlines(keepends=True)
    return [line.strip() for line in noted if line.endswith("\n") and line.strip() not in there]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
