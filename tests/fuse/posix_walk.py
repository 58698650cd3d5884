"""Random calls of several users on one tree, each with what came of it, one a line.

    posix_walk.py SEED DIRECTORY STEPS

The same seed gives the same calls: two file systems that behave alike print the same.
"""

from __future__ import annotations

import os
import random
import stat
import struct
import sys
import time
from collections.abc import Callable

from safepy.storage import syscalls

#: Longer than the tick of the clock that stamps files.
TICK_S = 0.006
USERS = [(0, 0, []), (0, 0, []), (1001, 1001, []), (1002, 1002, [1001]), (1003, 1001, [1002])]
NAMES = ["a", "b", "c", "d", "e"]
ODD = ["a/", "b/.", "d/b", "", "x" * 255, "x" * 256, "y/" * 2100, "a/b/"]
MODES = [0o755, 0o644, 0o700, 0o777, 0o1777, 0o2775, 0o4755, 0o6755, 0o444, 0o000, 0o3777]


class Walk:
    def __init__(self, seed: int, root: str) -> None:
        self.dice = random.Random(seed)
        self.root = root
        self.names: tuple[str, ...] = ()
        self.fds: list[int] = []
        own = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]
        self.actions: list[Callable[[], object]] = own

    def step(self, number: int) -> str:
        pick = self.dice.choice
        uid, gid, groups = pick(USERS)
        action = pick(self.actions)
        self.names = (self.path(), self.path())
        if self.dice.random() < 0.05:
            self.names = (self.names[0] + "/" + pick(ODD), self.names[1])
        inner = self.dice.getrandbits(60)
        watched = self.watched()
        before = [times(path) for path in watched]
        os.umask(pick([0, 0o22, 0o27]))
        become(uid, gid, groups)
        time.sleep(TICK_S)
        outer, self.dice = self.dice, random.Random(inner)
        try:
            result = repr(action())
        except OSError as error:
            result = error.strerror or "?"
        finally:
            self.dice = outer
            become(0, 0, [])
            os.umask(0)
        after = [times(path) for path in watched]
        changes = [
            "".join(letter for letter, x, y in zip("mc", b, a, strict=True) if x != y)
            for b, a in zip(before, after, strict=True)
        ]
        shown = [name.replace("/" * 3, "~")[:40] for name in self.names]
        looks = [look(path) for path in watched]
        return f"{number} {uid} {action.__name__} {shown} {result} {changes} {looks}"

    def path(self) -> str:
        return "/".join(self.dice.choices(NAMES, k=self.dice.choice([1, 1, 1, 2, 2, 3])))

    def watched(self) -> list[str]:
        """Both paths and the directories they lie in."""
        paths = [f"{self.root}/{name}" for name in self.names]
        return [*paths, *(os.path.dirname(path) for path in paths)]

    @property
    def one(self) -> str:
        return f"{self.root}/{self.names[0]}"

    @property
    def two(self) -> str:
        return f"{self.root}/{self.names[1]}"

    # -- calls ------------------------------------------------------------------------------

    def do_open(self) -> object:
        flags = self.dice.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]) | os.O_NONBLOCK
        for flag in (os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW):
            flags |= flag if self.dice.random() < 0.4 else 0
        flags |= os.O_DIRECTORY if self.dice.random() < 0.05 else 0
        fd = os.open(self.one, flags, self.dice.choice(MODES))
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return "no file"
        self.fds.append(fd)
        if len(self.fds) > 6:
            os.close(self.fds.pop(0))
        return oct(status.st_mode), status.st_size

    do_create = do_open

    def do_write(self) -> object:
        fd = self.dice.choice(self.fds or [-1])
        count = os.write(fd, b"x" * self.dice.choice([0, 1, 5000]))
        status = os.fstat(fd)
        return count, status.st_size, oct(status.st_mode), status.st_nlink

    def do_read(self) -> object:
        return len(os.pread(self.dice.choice(self.fds or [-1]), 9000, self.dice.choice([0, 4000])))

    def do_write_file(self) -> object:
        fd = os.open(self.one, os.O_WRONLY | os.O_NONBLOCK)
        try:
            return os.write(fd, b"y" * self.dice.choice([1, 5000])), oct(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def do_truncate(self) -> object:
        size = self.dice.choice([0, 1, 100_000, 1 << 62, (1 << 44) - 1])
        return os.truncate(self.one, size)

    def do_ftruncate(self) -> object:
        fd = self.dice.choice(self.fds or [-1])
        return os.ftruncate(fd, self.dice.choice([0, 77, 5000])), oct(os.fstat(fd).st_mode)

    def do_fallocate(self) -> object:
        fd = self.dice.choice(self.fds or [-1])
        mode = self.dice.choice([0, 1, 3, 2, 16, 17])
        offset, length = self.dice.choice([0, 4096, 100, -1]), self.dice.choice([0, 4096, 9000])
        syscalls.fallocate(fd, mode, offset, length)
        return os.fstat(fd).st_size, oct(os.fstat(fd).st_mode)

    def do_seek(self) -> object:
        fd = self.dice.choice(self.fds or [-1])
        return os.lseek(fd, self.dice.choice([0, 5000, -1]), self.dice.choice([3, 4]))

    def do_mkdir(self) -> object:
        return os.mkdir(self.one, self.dice.choice(MODES))

    do_mkdir_too = do_mkdir

    def do_mknod(self) -> object:
        kinds = [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK]
        kind = self.dice.choice([*kinds, 0, stat.S_IFDIR])
        return os.mknod(self.one, kind | self.dice.choice(MODES), os.makedev(1, 3))

    def do_rename(self) -> object:
        flags = self.dice.choice([0, 0, 0, 0, 1, 2, 3, 6, 8])
        return syscalls.renameat2(-100, os.fsencode(self.one), -100, os.fsencode(self.two), flags)

    do_rename_too = do_rename

    def do_link(self) -> object:
        return os.link(self.one, self.two, follow_symlinks=False)

    def do_symlink(self) -> object:
        targets = ["a", "b/c", "../d", ".", "e", "", "z" * 4095, "z" * 4096, "c/a"]
        return os.symlink(self.dice.choice(targets), self.one)

    def do_readlink(self) -> object:
        return os.readlink(self.one)[:20]

    def do_unlink(self) -> object:
        return os.unlink(self.one)

    def do_rmdir(self) -> object:
        return os.rmdir(self.one)

    def do_chmod(self) -> object:
        return os.chmod(self.one, self.dice.choice(MODES))

    def do_fchmod(self) -> object:
        fd = self.dice.choice(self.fds or [-1])
        return os.chmod(fd, self.dice.choice(MODES)), oct(os.fstat(fd).st_mode)

    def do_chown(self) -> object:
        ids = [-1, -1, 0, 1001, 1002]
        follow = self.dice.choice([True, False])
        return os.chown(
            self.one, self.dice.choice(ids), self.dice.choice(ids), follow_symlinks=follow
        )

    def do_times(self) -> object:
        kind = self.dice.choice(["now", "set", "mtime", "atime", "half", "far"])
        if kind == "now":
            return os.utime(self.one)
        if kind == "far":
            os.utime(self.one, ns=(-(10**18), self.dice.choice([10**19, 10**23])))
            return os.stat(self.one).st_mtime_ns
        os.utime(self.one, ns=(10**18 + 5, 10**18 + 123_456_789))
        status = os.stat(self.one)
        return status.st_atime_ns, status.st_mtime_ns

    def do_access(self) -> object:
        return [os.access(self.one, mode, effective_ids=True) for mode in (0, 1, 2, 4, 6, 7)]

    def do_list(self) -> object:
        return sorted(os.listdir(self.one))

    def do_chdir(self) -> object:
        os.chdir(self.one)
        os.chdir("/")
        return True

    def do_xattr(self) -> object:
        name = self.dice.choice(
            ["user.a", "user.b", "trusted.a", "user." + "n" * 250, "bad", "user."]
        )
        what = self.dice.choice(["set", "set", "get", "list", "remove"])
        follow = self.dice.choice([True, False])
        if what == "set":
            value = b"v" * self.dice.choice([0, 1, 100, 3000, 70_000])
            return os.setxattr(
                self.one, name, value, self.dice.choice([0, 1, 2]), follow_symlinks=follow
            )
        if what == "get":
            return len(os.getxattr(self.one, name, follow_symlinks=follow))
        if what == "list":
            return sorted(os.listxattr(self.one, follow_symlinks=follow))
        return os.removexattr(self.one, name, follow_symlinks=follow)

    def do_acl(self) -> object:
        """Refused where ACLs are off; this is asked only where both enforce them."""
        if not os.environ.get("WALK_ACL"):
            return "not asked"
        kind = self.dice.choice(["access", "default"])
        if self.dice.random() < 0.3:
            return os.removexattr(self.one, f"system.posix_acl_{kind}")
        entries = [(1, 7, -1), (2, self.dice.choice([0, 4, 6]), 1002), (4, 5, -1), (16, 7, -1)]
        entries.append((32, self.dice.choice([0, 5]), -1))
        raw = b"\x02\0\0\0" + b"".join(struct.pack("<HHi", *entry) for entry in entries)
        return os.setxattr(self.one, f"system.posix_acl_{kind}", raw)

    def do_tmpfile(self) -> object:
        fd = os.open(self.one, os.O_TMPFILE | os.O_RDWR, self.dice.choice(MODES))
        try:
            os.write(fd, b"tmp")
            folder = os.open(os.path.dirname(self.two), os.O_RDONLY | os.O_DIRECTORY)
            try:
                name = os.fsencode(os.path.basename(self.two))
                syscalls.link_descriptor(fd, folder, name)
            finally:
                os.close(folder)
            return oct(os.fstat(fd).st_mode), os.fstat(fd).st_nlink
        finally:
            os.close(fd)


def become(uid: int, gid: int, groups: list[int]) -> None:
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def times(path: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ctime_ns


def look(path: str) -> object:
    try:
        st = os.lstat(path)
    except OSError as error:
        return error.errno
    acl: list[str] = []
    if os.environ.get("WALK_ACL") and not stat.S_ISLNK(st.st_mode):
        for name in os.listxattr(path):
            acl += [name[-12:], os.getxattr(path, name).hex() if "acl" in name else ""]
    return oct(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, st.st_size, *acl


def main() -> None:
    seed, root, steps = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.chmod(root, 0o777)
    walk = Walk(seed, root)
    for number in range(steps):
        print(walk.step(number), flush=True)


if __name__ == "__main__":
    main()
