"""What `scripts/swarm` runs: days on all processors until the time is over."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from swarm import Outcome, days

CHUNK = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/swarm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=None, help="first seed (default: random)")
    options = parser.parse_args()
    first = random.randrange(10**9) if options.first is None else options.first
    print(f"seeds from {first} on", flush=True)
    total = swarm(first, time.monotonic() + 60 * options.minutes)
    print(total.report())
    return 1 if total.broken else 0


def swarm(first: int, until: float) -> Outcome:
    """Days from seed `first` on, until that moment of the monotonic clock."""
    total = Outcome()
    with ProcessPoolExecutor() as pool:
        under_way: set[Future[Outcome]] = set()
        while under_way or time.monotonic() < until:
            while time.monotonic() < until and len(under_way) < 2 * (os.cpu_count() or 1):
                under_way.add(pool.submit(days, first, CHUNK))
                first += CHUNK
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                total.add(outcome)
                for seed, error in outcome.broken.items():
                    print(f"seed {seed}: {error.splitlines()[0]}", flush=True)
    return total


if __name__ == "__main__":
    sys.exit(main())
