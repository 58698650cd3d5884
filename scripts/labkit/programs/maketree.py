"""Make a tree of files, 1,000 in each directory: maketree.py DIRECTORY FILES BYTES

Eight threads, as replicating file systems take long for each.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

FILES_EACH = 1000


def fill(directory: str, first: int, count: int, size: int) -> None:
    os.makedirs(directory, exist_ok=True)
    for number in range(first, first + count):
        with open(f"{directory}/{number}", "wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(os.urandom(min(1 << 20, size - start)))


def main(directory: str, files: str, size: str) -> int:
    total = int(files)
    with ThreadPoolExecutor(8) as pool:
        parts = [
            pool.submit(
                fill, f"{directory}/{first}", first, min(FILES_EACH, total - first), int(size)
            )
            for first in range(0, total, FILES_EACH)
        ]
        for part in parts:
            part.result()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
