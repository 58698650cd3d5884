"""Create small files for some seconds, then unlink them; print how many a second of each.

Usage: smallfiles.py DIRECTORY SECONDS
"""

from __future__ import annotations

import os
import sys
import time

#: libfuse's example keeps a descriptor of every file; a machine without more may allow 20,000.
MOST = 15_000


def main(directory: str, seconds: str) -> int:
    content = b"x" * 4096
    os.makedirs(directory, exist_ok=True)
    begun = time.monotonic()
    made = 0
    while made < MOST and time.monotonic() - begun < float(seconds):
        file = os.open(f"{directory}/{made}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(file, content)
        os.close(file)
        made += 1
    created_s = time.monotonic() - begun
    begun = time.monotonic()
    for number in range(made):
        os.unlink(f"{directory}/{number}")
    print(made / created_s, made / (time.monotonic() - begun))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
