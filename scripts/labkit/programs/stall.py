"""Write 4 KiB now and then until told to end; print the longest wait and how many writes.

Usage: stall.py FILE END   (ends when the file END exists; milliseconds)
"""

from __future__ import annotations

import os
import sys
import time


def main(path: str, end: str) -> int:
    block = b"s" * 4096
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    longest_s, writes = 0.0, 0
    while not os.path.exists(end):
        begun = time.monotonic()
        os.pwrite(file, block, (writes % 1024) * 4096)
        longest_s = max(longest_s, time.monotonic() - begun)
        writes += 1
        time.sleep(0.002)
    print(longest_s * 1000, writes)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
