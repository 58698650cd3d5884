"""The test application: numbered records of fixed length, appended by several threads.

What the operating system said was written is noted in a file outside the replicated directory,
with the times of the machine's monotonic clock, which all nodes of a lab share. Runs in the
background; the command returns when the first record was written (or could not be).

Usage: writer.py DIRECTORY NOTES MODULE
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

THREADS = 3
RECORD_BYTES = 100
PAUSE_S = 0.004
FSYNC_EVERY = 10
RENAME_EVERY = 25


def record(number: int, node: str) -> bytes:
    return f"{number:012d} {node} ".encode().ljust(RECORD_BYTES - 1, b".") + b"\n"


class Writer(threading.Thread):
    def __init__(self, directory: Path, notes: Path, stopping: threading.Event) -> None:
        super().__init__()
        self.directory, self.notes, self.stopping = directory, notes, stopping
        self.node = socket.gethostname()
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            self._write()
        except OSError as error:
            self.error = error
            self.stopping.set()

    def _write(self) -> None:
        path = self.directory / f"records-{self.name}"
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        notes = os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        number = os.fstat(file).st_size // RECORD_BYTES
        while not self.stopping.is_set():
            begun = time.monotonic()
            os.pwrite(file, record(number, self.node), number * RECORD_BYTES)
            if number % FSYNC_EVERY == 0:
                os.fsync(file)
            if number % RENAME_EVERY == 0:
                draft = self.directory / f"draft-{self.name}"
                draft.write_text(f"{number}\n")
                draft.rename(self.directory / f"latest-{self.name}")
            os.write(notes, f"{number} {self.node} {begun:.4f} {time.monotonic():.4f}\n".encode())
            number += 1
            time.sleep(PAUSE_S)


def main(directory: str, notes: str, module: str) -> int:
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        # Empty when the background process died before it could say that it works.
        return 0 if os.read(reading, 1) else 1
    os.setsid()
    os.close(reading)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    writers = []
    for number in range(THREADS):
        file = Path(notes) / f"{module}.{socket.gethostname()}.{number}"
        writer = Writer(Path(directory), file, stopping)
        writer.name = str(number)
        writers.append(writer)
        writer.start()
    os.write(writing, b"1")
    os.close(writing)
    while any(writer.is_alive() for writer in writers):
        time.sleep(0.05)
    for writer in writers:
        if writer.error is not None:
            print(f"writer {writer.name}: {writer.error}", flush=True)
    return 1 if any(writer.error for writer in writers) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
