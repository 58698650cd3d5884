"""Run one query on whichever host serves; rows as JSON.

Usage: python -m labkit.programs.pgask QUERY HOST...
"""

from __future__ import annotations

import json
import sys

from . import pgwire


def main(query: str, *hosts: str) -> int:
    try:
        with pgwire.anywhere(list(hosts), timeout_s=10.0) as connection:
            print(json.dumps(connection.query(query)))
    except (OSError, pgwire.Refused) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
