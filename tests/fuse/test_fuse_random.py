"""One file under random use, against a model in memory: no stale page, no lost byte."""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path

import pytest
from conftest import Served
from test_fuse_files import fallocate

pytestmark = pytest.mark.kernel

STEPS = 1500
HIGHEST = 300_000
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


class Model:
    """What the file must hold."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, offset: int, data: bytes) -> None:
        self.truncate(max(len(self.data), offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data += bytes(size - len(self.data))

    def zero(self, offset: int, length: int) -> None:
        end = min(offset + length, len(self.data))
        self.data[offset:end] = bytes(max(0, end - offset))


def step(dice: random.Random, fds: list[int], path: Path, model: Model) -> str:
    fd = dice.choice(fds)
    offset, length = dice.randrange(HIGHEST), dice.randrange(1, 40_000)
    kind = dice.choice(
        [
            "write",
            "write",
            "append",
            "truncate",
            "punch",
            "zero",
            "reserve",
            "map",
            "sync",
            "reopen",
        ]
    )
    if kind == "write":
        data = dice.randbytes(length)
        assert os.pwrite(fd, data, offset) == length
        model.write(offset, data)
    elif kind == "append":
        data = dice.randbytes(length % 5000)
        with path.open("ab") as file:
            file.write(data)
        model.write(len(model.data), data)
    elif kind == "truncate":
        dice.choice([os.ftruncate, os.truncate])(fd, offset)
        model.truncate(offset)
    elif kind == "punch":
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        model.zero(offset, length)
    elif kind == "zero":
        fallocate(fd, ZERO_RANGE, offset, length)
        model.truncate(max(len(model.data), offset + length))
        model.zero(offset, length)
    elif kind == "reserve":
        fallocate(fd, 0, offset, length)
        model.truncate(max(len(model.data), offset + length))
    elif kind == "map" and offset < len(model.data):
        with mmap.mmap(fd, len(model.data)) as mapped:
            data = dice.randbytes(min(length, len(model.data) - offset))
            assert mapped[offset : offset + 10] == model.data[offset : offset + 10]
            mapped[offset : offset + len(data)] = data
        model.write(offset, data)
    elif kind == "sync":
        os.fsync(fd)
    elif kind == "reopen":
        fds.remove(fd)
        os.close(fd)
        fds.append(os.open(path, os.O_RDWR))
    return f"{kind} {offset} {length}"


@pytest.mark.parametrize("seed", [1, 2])
def test_random_use_of_one_file(served: Served, seed: int) -> None:
    dice = random.Random(seed)
    path, model = served.directory / "file", Model()
    path.write_bytes(b"")
    fds = [os.open(path, os.O_RDWR) for _ in range(2)]
    history: list[str] = []
    for number in range(STEPS):
        history.append(step(dice, fds, path, model))
        assert os.fstat(fds[0]).st_size == len(model.data), history[-3:]
        at = dice.randrange(HIGHEST)
        expected = bytes(model.data[at : at + 30_000])
        assert os.pread(dice.choice(fds), 30_000, at) == expected, history[-3:]
        if number % 100 == 0:
            for fd in fds:
                os.fsync(fd)
            assert (served.door / "file").read_bytes() == model.data, history[-10:]
    for fd in fds:
        os.close(fd)
    assert path.read_bytes() == (served.door / "file").read_bytes() == model.data
