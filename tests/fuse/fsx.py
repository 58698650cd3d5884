"""Random operations on a few files, each checked against what the files must hold.

    fsx.py SEED DIRECTORY FILES

Reads "run N" on its standard input: N operations, then all files are compared whole and
"done COUNT" is printed. Ends with what it did last if a byte is not what it must be.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
from collections import deque
from collections.abc import Callable

from safepy.storage import syscalls

#: As fsx: small files meet their own edges often.
HIGHEST = 256 << 10
LONGEST = 48 << 10
PAGE = 4096
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


class File:
    """One file with two descriptors, and what it must hold."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.data = bytearray()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        self.fd = self.append = -1
        self.open()

    def open(self) -> None:
        for fd in (self.fd, self.append):
            if fd >= 0:
                os.close(fd)
        self.fd = os.open(self.path, os.O_RDWR)
        self.append = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def put(self, offset: int, data: bytes) -> None:
        self.resize(max(len(self.data), offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.data += bytes(size - len(self.data))

    def zero(self, offset: int, length: int) -> None:
        end = min(offset + length, len(self.data))
        self.data[offset:end] = bytes(max(0, end - offset))

    def check(self, offset: int, length: int) -> None:
        seen = os.pread(self.fd, length, offset)
        wanted = bytes(self.data[offset : offset + length])
        if seen != wanted:
            first = next((i for i, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b))
            raise AssertionError(f"{self.path}: byte {offset + first}, {len(seen)} bytes read")


class Fsx:
    def __init__(self, seed: int, folder: str, files: int) -> None:
        self.dice = random.Random(seed)
        self.files = [File(f"{folder}/fsx{seed}-{n}") for n in range(files)]
        self.history: deque[str] = deque(maxlen=30)
        self.count = 0
        self.noise = self.dice.randbytes(1 << 20)
        kinds: dict[Callable[[File, int, int], None], int] = {
            self.write: 10,
            self.append: 4,
            self.truncate: 3,
            self.mapped_write: 4,
            self.mapped_read: 3,
            self.read: 10,
            self.punch: 3,
            self.zero: 2,
            self.reserve: 2,
            self.copy: 3,
            self.direct: 2,
            self.sync: 1,
            self.reopen: 1,
        }
        self.kinds, self.weights = list(kinds), list(kinds.values())

    def run(self, operations: int) -> None:
        for kind in self.dice.choices(self.kinds, self.weights, k=operations):
            file = self.dice.choice(self.files)
            offset, length = self.dice.randrange(HIGHEST), self.dice.randrange(1, LONGEST)
            length = min(length, HIGHEST - offset)
            if self.dice.random() < 0.3:  # whole pages go other ways than parts of them
                offset, length = offset // PAGE * PAGE, max(PAGE, length // PAGE * PAGE)
            self.history.append(f"{kind.__name__} {file.path[-3:]} {offset:#x} {length:#x}")
            kind(file, offset, length)
            self.count += 1
            if os.fstat(file.fd).st_size != len(file.data):
                raise AssertionError(f"{file.path}: size {os.fstat(file.fd).st_size}")
        for file in self.files:
            file.check(0, HIGHEST)

    def bytes(self, length: int) -> bytes:
        at = self.dice.randrange(len(self.noise) - length)
        return self.noise[at : at + length]

    def write(self, file: File, offset: int, length: int) -> None:
        data = self.bytes(length)
        assert os.pwrite(file.fd, data, offset) == length
        file.put(offset, data)

    def append(self, file: File, offset: int, length: int) -> None:
        data = self.bytes(min(length, max(0, HIGHEST - len(file.data)), 9000))
        assert os.write(file.append, data) == len(data)
        file.put(len(file.data), data)

    def truncate(self, file: File, offset: int, length: int) -> None:
        how = self.dice.choice([os.ftruncate, os.truncate])
        how(file.fd if how is os.ftruncate else file.path, offset)  # type: ignore[arg-type]
        file.resize(offset)

    def mapped_write(self, file: File, offset: int, length: int) -> None:
        length = min(length, len(file.data) - offset)
        if length <= 0:
            return
        with mmap.mmap(file.fd, 0) as mapped:
            data = self.bytes(length)
            mapped[offset : offset + length] = data
            if self.dice.random() < 0.7:
                mapped.flush()
        file.put(offset, data)
        if self.dice.random() < 0.5:
            file.check(offset, length)

    def mapped_read(self, file: File, offset: int, length: int) -> None:
        length = min(length, len(file.data) - offset)
        if length > 0:
            with mmap.mmap(file.fd, 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[offset : offset + length] == file.data[offset : offset + length]

    def read(self, file: File, offset: int, length: int) -> None:
        file.check(offset, length)

    def punch(self, file: File, offset: int, length: int) -> None:
        syscalls.fallocate(file.fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        file.zero(offset, length)

    def zero(self, file: File, offset: int, length: int) -> None:
        keep = self.dice.choice([0, KEEP_SIZE])
        syscalls.fallocate(file.fd, ZERO_RANGE | keep, offset, length)
        if not keep:
            file.resize(max(len(file.data), offset + length))
        file.zero(offset, length)

    def reserve(self, file: File, offset: int, length: int) -> None:
        keep = self.dice.choice([0, KEEP_SIZE])
        syscalls.fallocate(file.fd, keep, offset, length)
        if not keep:
            file.resize(max(len(file.data), offset + length))

    def copy(self, file: File, offset: int, length: int) -> None:
        """From another file, or from another place of this one."""
        source = self.dice.choice(self.files)
        start = self.dice.randrange(HIGHEST)
        length = min(length, len(source.data) - start)
        if length <= 0 or (source is file and abs(start - offset) < length):
            return
        done = 0
        while done < length:
            done += os.copy_file_range(
                source.fd, file.fd, length - done, start + done, offset + done
            )
        file.put(offset, bytes(source.data[start : start + length]))

    def direct(self, file: File, offset: int, length: int) -> None:
        offset, length = offset // PAGE * PAGE, max(PAGE, length // PAGE * PAGE)
        fd = os.open(file.path, os.O_RDWR | os.O_DIRECT)
        try:
            with mmap.mmap(-1, length) as page:
                if self.dice.random() < 0.5:
                    data = self.bytes(length)
                    page[:] = data
                    assert os.pwrite(fd, page, offset) == length
                    file.put(offset, data)
                else:
                    count = os.preadv(fd, [page], offset)
                    assert page[:count] == file.data[offset : offset + length]
        finally:
            os.close(fd)

    def sync(self, file: File, offset: int, length: int) -> None:
        self.dice.choice([os.fsync, os.fdatasync])(file.fd)

    def reopen(self, file: File, offset: int, length: int) -> None:
        file.open()
        file.check(0, HIGHEST)


def main() -> None:
    fsx = Fsx(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    for line in sys.stdin:
        try:
            fsx.run(int(line.split()[1]))
        except BaseException:
            print(*fsx.history, sep="\n", file=sys.stderr)
            raise
        print("done", fsx.count, flush=True)


if __name__ == "__main__":
    main()
