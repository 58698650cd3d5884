"""Thousands of random operations through a primary and a secondary: the trees end equal.

Streams end and begin anew in the middle, so that handles are introduced by path; the kernel's
part (lookups and forgets) is played too.
"""

from __future__ import annotations

import os
import random
import stat
from typing import Any

import pytest
from live_path import LivePath, make_live_path

from safepy.core.replica.ops import (
    ROOT,
    Fallocate,
    Fsync,
    Link,
    Make,
    Op,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Tmpfile,
    Unlink,
    Write,
)
from safepy.storage import syscalls

NAMES = [b"a", b"b", b"c", b"d", b"\xff\xfe e"]


class Application:
    """Random requests, as the kernel would hand them over: only of handles it holds."""

    def __init__(self, live: LivePath, seed: int) -> None:
        self.live = live
        self.random = random.Random(seed)
        self.held = {ROOT: stat.S_IFDIR}
        self.failed = self.done = 0

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.15:
            self.look_up()
        elif choice < 0.22:
            self.forget()
        else:
            self.request(self.operation())

    def request(self, op: Op) -> None:
        def answer(number: int, result: Any) -> None:
            if number:
                self.failed += 1
                return
            self.done += 1
            if isinstance(op, Make | Symlink | Tmpfile):
                self.held[op.handle] = stat.S_IFMT(result.st_mode)

        self.live.primary.modify(0, op, answer)

    def look_up(self) -> None:
        try:
            handle, status = self.live.pair.here.lookup(self.folder(), self.name())
        except OSError:
            return
        self.held[handle] = stat.S_IFMT(status.st_mode)

    def forget(self) -> None:
        handle = self.any()
        if handle != ROOT and not self.live.primary.in_flight:
            del self.held[handle]
            self.live.pair.here.release(handle)

    def any(self) -> int:
        return self.random.choice([*sorted(self.held)[-40:], ROOT])

    def of(self, kind: int) -> int:
        """Mostly one of this kind."""
        some = [handle for handle in self.held if self.held[handle] == kind]
        return self.random.choice(some) if some and self.random.random() < 0.9 else self.any()

    def folder(self) -> int:
        return self.of(stat.S_IFDIR)

    def file(self) -> int:
        return self.of(stat.S_IFREG)

    def name(self) -> bytes:
        return self.random.choice(NAMES)

    def operation(self) -> Op:
        pick, handle = self.random, self.any()
        file, folder = self.file(), self.folder()
        new = self.live.pair.here.new_handle
        offset = pick.choice([0, 100, 4096, 70_000, 1 << 20])
        ids = (pick.choice([0, 1000]), pick.choice([0, 1000]))
        exotic = (stat.S_IFIFO | 0o640, stat.S_IFSOCK | 0o600, stat.S_IFREG | 0o4755)
        makers = [stat.S_IFREG | 0o664, stat.S_IFDIR | 0o2775, stat.S_IFDIR | 0o755, *exotic]
        mode = pick.choice(makers)
        flags = pick.choice([0, 0, 0, 0, syscalls.RENAME_EXCHANGE, syscalls.RENAME_NOREPLACE, 4])
        punch = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
        ranges = pick.choice([0, syscalls.FALLOC_KEEP_SIZE, punch, syscalls.FALLOC_ZERO_RANGE])
        choices: list[tuple[int, Op]] = [
            (8, Make(new(), folder, self.name(), mode, 0, 0o022, *ids)),
            (8, Write(file, offset, pick.randbytes(pick.choice([1, 4096])), pick.random() < 0.3)),
            (2, SetAttr(handle, mode=pick.choice([0o600, 0o4755, 0o2775, 0o777]))),
            (2, SetAttr(handle, uid=ids[0], gid=ids[1], kill_priv=True)),
            (2, SetAttr(file, size=offset, mtime_ns=pick.randrange(1 << 60))),
            (1, SetAttr(handle, mode=0o640, uid=7, atime_ns=5)),
            (2, Fallocate(file, ranges, offset, 8192)),
            (1, Tmpfile(new(), folder, 0o660, 0o002, *ids)),
            (2, Symlink(new(), folder, self.name(), b"/etc/../" + self.name(), *ids)),
            (5, Link(file, folder, self.name())),
            (4, Unlink(folder, self.name())),
            (2, Rmdir(folder, self.name())),
            (8, Rename(folder, self.name(), self.folder(), self.name(), flags)),
            (2, SetXattr(handle, b"user." + self.name(), os.urandom(4), 0)),
            (1, RemoveXattr(handle, b"user." + self.name())),
        ]
        weights = [weight for weight, _ in choices]
        return pick.choices([op for _, op in choices], weights)[0]


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_leave_equal_trees(seed: int) -> None:
    with make_live_path() as live:
        application = Application(live, seed)
        live.automatic = True
        for generation in range(4):
            live.follow("receipt" if seed % 2 else "apply")
            live.join(generation + 2)
            for number in range(700):
                application.step()
                if number % 7 == 0:
                    live.deliver()
                    live.turn()
            live.modify(f"last {generation}", Fsync(0, False))
            live.until(
                lambda: not live.deliver() and not live.turn() and not live.primary.in_flight
            )
            assert live.peer_faults == []
            assert live.faults == []
            assert live.pair.difference(with_holes=False) == ""
            live.primary.disconnect()
        assert application.done > 800
        assert application.failed > 100
