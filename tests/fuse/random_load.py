"""One of several programs that do random things to one tree; driven by test_fuse_random_pair.

    random_load.py SEED DIRECTORY [names]

With "names" most operations are about names, links and attributes. Reads "run", "pause" and
"end" on its standard input, and says "paused OPERATIONS" or what went wrong. Errors that programs
cause one another are part of the game; those of a broken file system end it. Open files, also
nameless ones, are kept across pauses.
"""

from __future__ import annotations

import errno
import faulthandler
import mmap
import os
import random
import select
import signal
import stat
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable

from safepy.storage import syscalls

NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"new\nline", b"\xff\xfe\x80", b"l" * 255, b"sp ace"]
HIGHEST = 400_000
MAX_OPEN = 8
#: What no program can bring about by itself.
BROKEN = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EUCLEAN,
    errno.ENOSYS,
    errno.EROFS,
    errno.EFAULT,
    errno.ENODEV,
}


#: How often, beside 2 for every other operation.
WEIGHTS = {"do_write": 8, "do_create": 6, "do_append": 3, "do_rename": 5, "do_open": 4}
NAME_WEIGHTS = {
    "do_create": 12,
    "do_mkdir": 12,
    "do_rename": 14,
    "do_rename_over": 8,
    "do_link": 8,
    "do_unlink": 8,
    "do_rmdir": 4,
    "do_symlink": 6,
    "do_truncate": 6,
    "do_set_xattr": 8,
    "do_remove_xattr": 6,
    "do_map": 1,
    "do_fsync": 1,
    "do_remove_tree": 1,
}


class Load:
    def __init__(self, seed: int, root: bytes, weights: dict[str, int]) -> None:
        self.dice = random.Random(seed)
        self.root = root
        self.open: list[int] = []
        self.count = 0
        self.kinds: Counter[str] = Counter()
        own = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        self.actions: list[Callable[[], None]] = own
        self.weights = [weights.get(action.__name__, 2) for action in own]

    def step(self) -> None:
        action = self.dice.choices(self.actions, self.weights)[0]
        try:
            action()
        except OSError as error:
            if error.errno in BROKEN:
                raise
        else:
            self.kinds[action.__name__] += 1
        self.count += 1

    # -- choices ----------------------------------------------------------------------------

    def folder(self) -> bytes:
        path = self.root
        while self.dice.random() < 0.6 and path.count(b"/") < self.root.count(b"/") + 5:
            with os.scandir(path) as entries:
                below = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
            if not below:
                break
            path = self.dice.choice(below)
        return path

    def path(self) -> bytes:
        return self.folder() + b"/" + self.dice.choice(NAMES)

    def there(self) -> bytes:
        """Something that exists, if there is anything."""
        folder = self.folder()
        names = sorted(os.listdir(folder))
        return folder + b"/" + (self.dice.choice(names) if names else b"a")

    def fd(self) -> int:
        if not self.open or self.dice.random() < 0.1:
            self.do_open()
        return self.dice.choice(self.open)

    def keep(self, fd: int) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # a pipe would make the program wait
            os.close(fd)
            raise FileExistsError(errno.EEXIST, "not a file")
        if len(self.open) >= MAX_OPEN:
            os.close(self.open.pop(self.dice.randrange(MAX_OPEN)))
        self.open.append(fd)

    def data(self) -> bytes:
        return self.dice.randbytes(self.dice.choice([1, 13, 4096, 5000, 33_000, 140_000]))

    def offset(self) -> int:
        return self.dice.choice([0, 0, 4096, self.dice.randrange(HIGHEST)])

    # -- contents ---------------------------------------------------------------------------

    def do_create(self) -> None:
        flags = os.O_CREAT | os.O_RDWR | self.dice.choice([0, os.O_EXCL, os.O_TRUNC])
        mode = self.dice.choice([0o644, 0o600, 0o755, 0o4711, 0o2755])
        self.keep(os.open(self.path(), flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode))
        if self.dice.random() < 0.7:
            os.write(self.open[-1], self.data())

    def do_open(self) -> None:
        path = self.there()
        if not stat.S_ISREG(os.lstat(path).st_mode):
            self.do_create()
            return
        append = self.dice.choice([0, 0, os.O_APPEND])
        self.keep(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | append))

    def do_close(self) -> None:
        if self.open:
            os.close(self.open.pop(self.dice.randrange(len(self.open))))

    def do_write(self) -> None:
        os.pwrite(self.fd(), self.data(), self.offset())

    def do_append(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self.root + b"/log", flags, 0o644)
        try:
            os.write(fd, b"%d\n" % self.count * self.dice.randrange(1, 30))
        finally:
            os.close(fd)

    def do_vector(self) -> None:
        os.pwritev(self.fd(), [b"x" * 100, self.data(), b"end"], self.offset())

    def do_truncate(self) -> None:
        os.ftruncate(self.fd(), self.dice.choice([0, 1, 4096, self.offset()]))

    def do_fallocate(self) -> None:
        keep = syscalls.FALLOC_KEEP_SIZE
        hole = syscalls.FALLOC_PUNCH_HOLE | keep
        zero = syscalls.FALLOC_ZERO_RANGE
        whole = [syscalls.FALLOC_COLLAPSE_RANGE, syscalls.FALLOC_INSERT_RANGE]
        mode = self.dice.choice([0, keep, hole, hole, zero, zero | keep, *whole])
        offset, length = self.offset(), self.dice.randrange(1, 100_000)
        if mode in whole:
            offset, length = offset & ~4095, (length & ~4095) + 4096
        syscalls.fallocate(self.fd(), mode, offset, length)

    def do_sparse(self) -> None:
        fd = self.fd()
        os.ftruncate(fd, HIGHEST * 4)
        os.pwrite(fd, b"end", HIGHEST * 4 - 3)

    def do_map(self) -> None:
        """In a child: somebody may cut the file meanwhile, which kills (SIGBUS)."""
        fd = self.fd()
        size = os.fstat(fd).st_size
        if not size:
            return
        sync, dice = self.dice.random() < 0.4, random.Random(self.dice.random())
        child = os.fork()
        if child == 0:
            try:
                with mmap.mmap(fd, size) as mapped:
                    for _ in range(3):
                        at = dice.randrange(size)
                        data = dice.randbytes(min(5000, size - at))
                        mapped[at : at + len(data)] = data
                    if sync:
                        mapped.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    def do_copy_range(self) -> None:
        os.copy_file_range(self.fd(), self.fd(), 50_000, self.offset(), self.offset())

    def do_sendfile(self) -> None:
        out = self.fd()
        os.lseek(out, self.offset(), os.SEEK_SET)
        os.sendfile(out, self.fd(), self.offset(), 60_000)

    def do_fsync(self) -> None:
        self.dice.choice([os.fsync, os.fdatasync])(self.fd())

    def do_read(self) -> None:
        os.pread(self.fd(), 30_000, self.offset())

    # -- names ------------------------------------------------------------------------------

    def do_mkdir(self) -> None:
        os.mkdir(self.path(), self.dice.choice([0o755, 0o2775, 0o1777, 0o700]))

    def do_rename(self) -> None:
        flags = self.dice.choice([0, 0, 0, 1, 2, 2, 4])
        old = self.there()
        new = self.dice.choice([self.path, self.there])()
        syscalls.renameat2(-100, old, -100, new, flags)

    def do_rename_over(self) -> None:
        """A directory takes the place of another one, which must be empty."""
        old, new = self.folder(), self.folder()
        if self.dice.random() < 0.5:
            new += b"/" + self.dice.choice(NAMES)
            os.mkdir(new, 0o755)
        os.rename(old, new)

    def do_link(self) -> None:
        os.link(self.there(), self.path(), follow_symlinks=False)

    def do_symlink(self) -> None:
        # None of them leads to a file of this machine: a program that follows one writes there.
        away = [b"a", b"../b", b"/nonexistent/safepy/away", b"t" * 900]
        os.symlink(self.dice.choice(away), self.path())

    def do_unlink(self) -> None:
        os.unlink(self.there())

    def do_remove_tree(self) -> None:
        """As much of it as others let it; it keeps trees from growing deeper for ever."""
        if self.dice.random() < 0.3:
            command = [b"rm", b"-rf", b"--", self.root + b"/" + self.dice.choice(NAMES)]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)

    def do_rmdir(self) -> None:
        os.rmdir(self.there())

    def do_mknod(self) -> None:
        kind = self.dice.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFREG])
        os.mknod(self.path(), kind | 0o640, os.makedev(1, 3) if kind == stat.S_IFCHR else 0)

    def do_tmpfile(self) -> None:
        fd = os.open(self.folder(), os.O_TMPFILE | os.O_RDWR, 0o640)
        self.keep(fd)
        os.write(fd, self.data())

    def do_link_open(self) -> None:
        """Gives an open file a name, also one that has none (any more)."""
        folder = os.open(self.folder(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            syscalls.link_descriptor(self.fd(), folder, self.dice.choice(NAMES))
        finally:
            os.close(folder)

    def do_unlink_open(self) -> None:
        path = self.path()
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        self.keep(fd)
        os.unlink(path)
        os.write(fd, self.data())

    def do_replace(self) -> None:
        """As editors and databases do."""
        path = self.folder() + b"/" + self.dice.choice(NAMES[:6])
        flags = os.O_CREAT | os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW
        self.keep(os.open(path + b"~", flags, 0o644))
        os.write(self.open[-1], self.data())
        os.fsync(self.open[-1])
        os.rename(path + b"~", path)

    # -- attributes -------------------------------------------------------------------------

    def do_chmod(self) -> None:
        path = self.there()
        if not os.path.islink(path):
            os.chmod(path, self.dice.choice([0o644, 0o4755, 0o2755, 0o1777, 0o600, 0o2644]))

    def do_chown(self) -> None:
        ids = [-1, 0, 1, 1000, 65534, 3_000_000_000]
        os.chown(self.there(), self.dice.choice(ids), self.dice.choice(ids), follow_symlinks=False)

    def do_times(self) -> None:
        path = self.there()
        if self.dice.random() < 0.3:
            os.utime(path, follow_symlinks=False)
        else:
            ns = self.dice.randrange(-2 * 10**18, 10**19)
            os.utime(path, ns=(ns, ns + 7), follow_symlinks=False)

    def do_set_xattr(self) -> None:
        name = self.dice.choice([b"user.a", b"user.b", b"trusted.x", b"user." + b"n" * 200])
        value = self.dice.randbytes(self.dice.choice([0, 1, 60, 900]))
        os.setxattr(
            self.there(), name, value, self.dice.choice([0, 0, 1, 2]), follow_symlinks=False
        )

    def do_remove_xattr(self) -> None:
        os.removexattr(
            self.there(), self.dice.choice([b"user.a", b"user.b"]), follow_symlinks=False
        )


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    seed, root = int(sys.argv[1]), os.fsencode(sys.argv[2])
    load = Load(seed, root, NAME_WEIGHTS if "names" in sys.argv[3:] else WEIGHTS)
    if sys.stdin.readline() != "run\n":
        return
    while True:
        if select.select([sys.stdin], [], [], 0)[0]:
            order = sys.stdin.readline()
            if order == "pause\n":
                print("paused", load.count, flush=True)
                order = sys.stdin.readline()
            if order != "run\n":
                break
        load.step()
    print(dict(load.kinds), file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        print("failed", traceback.format_exc().replace("\n", " | "), flush=True)
        raise
