"""Watches that a directory never silently shows the bare files beneath the replication.

Opens a file of the directory for writing, over and over. Whenever that succeeds, the file must
belong to the replicated file system and not to the bare one (its device number says which).
Prints one line and ends with 1 at the first time that it does not.

Usage: watcher.py DIRECTORY BARE-DIRECTORY   (the second lies on the same bare file system)
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path


def main(directory: str, bare: str) -> int:
    device = os.stat(bare).st_dev
    probe = os.path.join(directory, ".watched")
    while True:
        try:
            handle = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError:
            pass  # read-only, not connected, not there: nothing was silently written
        else:
            found = os.fstat(handle).st_dev
            os.close(handle)
            if found == device:
                moment = time.strftime("%T", time.gmtime()) + f"{time.time() % 1:.3f}"[1:]
                print(f"{socket.gethostname()} {moment}: {directory} was the bare file system")
                print(Path("/proc/self/mountinfo").read_text(), flush=True)
                return 1
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
