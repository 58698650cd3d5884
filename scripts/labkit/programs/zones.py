"""Change ten zones of 128 KiB, each in another file of a tree: zones.py DIRECTORY ROUND"""

from __future__ import annotations

import os
import sys

ZONES = 10


def main(directory: str, turn: str) -> int:
    files = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names
    )
    for number in range(ZONES):
        path = files[(int(turn) + number * len(files) // ZONES) % len(files)]
        size = min(128 << 10, max(1, os.path.getsize(path)))
        with open(path, "r+b") as file:
            file.write(os.urandom(size))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
