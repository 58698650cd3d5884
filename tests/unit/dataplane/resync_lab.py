"""Two real trees, streams between them, and an equality of our own (not the engine's)."""

import contextlib
import os
import random
import socket
import stat
import threading

from safepy.core.replica import suspects as idents
from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.marks import FULL, WALK, Marks
from safepy.core.replica.suspects import Suspects
from safepy.dataplane.resync.intake import Receiver
from safepy.dataplane.resync.memory import Memories
from safepy.dataplane.resync.moves import Moves
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.source import Source
from safepy.dataplane.resync.target import Target
from safepy.errors import SafekitError
from safepy.net.blocking import BlockingStream
from safepy.wire.framing import FrameParser
from safepy.wire.secure import module_key, stream_ciphers

KEY = module_key(b"k" * 32, "m")
ZONE = 128 * 1024


def stream_pair(timeout_s=10.0):
    ours, theirs = socket.socketpair()
    nonces = os.urandom(32), os.urandom(32)
    dialer = stream_ciphers(KEY, *nonces, dialer=True)
    listener = stream_ciphers(KEY, *nonces, dialer=False)
    return (
        BlockingStream(ours, *dialer, FrameParser(), timeout_s),
        BlockingStream(theirs, *listener, FrameParser(), timeout_s),
    )


def tree_of(top):
    """Everything that must be equal, by path; and which paths are one inode."""
    top = os.fsencode(top)
    found, inodes = {}, {}
    pending = [b""]
    while pending:
        path = pending.pop()
        full = os.path.join(top, path) if path else top
        st = os.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        content = b""
        if stat.S_ISDIR(st.st_mode):
            pending += [os.path.join(path, name) for name in os.listdir(full)]
        else:
            inodes.setdefault(st.st_ino, set()).add(path)
        if stat.S_ISREG(st.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(full)
        xattrs = {
            name: os.getxattr(full, name, follow_symlinks=False)
            for name in os.listxattr(full, follow_symlinks=False)
            if not name.startswith("trusted.safekit")
        }
        found[path] = (
            kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns,
            0 if stat.S_ISDIR(st.st_mode) else st.st_size,
            content, st.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0, xattrs,
        )  # fmt: skip
    return found, {frozenset(paths) for paths in inodes.values() if len(paths) > 1}


def assert_equal(left, right):
    found_left, links_left = tree_of(left)
    found_right, links_right = tree_of(right)
    assert found_left.keys() == found_right.keys()
    for path, value in found_left.items():
        if value != found_right[path]:
            cut = [(*v[:6], v[6][:40], *v[7:]) for v in (value, found_right[path])]
            raise AssertionError(f"{path!r} differs:\n{cut[0]}\n{cut[1]}")
    assert links_left == links_right


def full_marks():
    return {b"": FULL}


class Lab:
    """One source and its targets; `keep_aside` as the target's node would have it."""

    def __init__(
        self, left, right, streams=3, keep_aside=None, acl=True, on_progress=None,
        suspects=(), target_suspects=(), rules=(), memories=None, **source_options,
    ):  # fmt: skip
        # Nobody tells of what tests change: then nothing may be remembered.
        memory = [each.attempt() for each in memories or (Memories(0), Memories(0))]
        self.fds = [os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in (left, right)]
        pairs = [stream_pair() for _ in range(streams)]
        self.ours = [pair[0] for pair in pairs]
        self.theirs = [pair[1] for pair in pairs]
        scope = Scope([Exclusion(rules)])
        self.source = Source(
            [self.fds[0]], self.ours, on_progress, acl=acl,
            suspects=suspects, scope=scope, memory=memory[0], **source_options,
        )  # fmt: skip
        roots = [self.fds[1]]
        self.moves = Moves(roots, keep_aside, scope)
        self.receiver = Receiver(
            roots, acl, keep_aside, target_suspects, scope, moves=self.moves, memory=memory[1]
        )  # fmt: skip
        self.targets = [Target(roots, s, receiver=self.receiver) for s in self.theirs]
        self.errors = []
        self.threads = [threading.Thread(target=self._serve, args=(t,)) for t in self.targets]
        for thread in self.threads:
            thread.start()

    def _serve(self, target):
        try:
            target.serve()
        except SafekitError as error:
            self.errors.append(error)
            target._stream.shutdown()

    def round(self, marks=None):
        return self.source.run_round([marks.take() if isinstance(marks, Marks) else marks])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in (*self.ours, *self.theirs):
            stream.shutdown()
        for thread in self.threads:
            thread.join(10)
        for stream in (*self.ours, *self.theirs):
            stream.close()
        for fd in self.fds:
            os.close(fd)

    @property
    def sent_bytes(self):
        return sum(stream.sent_bytes for stream in self.ours)


def idents_of(top):
    """Which object bears which id, by path."""
    top = os.fsencode(top)
    found = {}
    for at, directories, names in os.walk(top):
        for name in directories + names:
            full = os.path.join(at, name)
            if not os.path.islink(full):
                ident = ident_of(full)
                found[os.path.relpath(full, top)] = ident
    return {path: ident for path, ident in found.items() if ident}


def ident_of(full):
    try:
        return os.getxattr(full, "trusted.safekit.id", follow_symlinks=False)
    except OSError:
        return b""


def walk_marks():
    return {b"": WALK}


def resync(left, right, marks=None, **options):
    """One comparison, of everything if no marks are given; returns (result, bytes sent)."""
    with Lab(left, right, **options) as lab:
        result = lab.round(full_marks() if marks is None else marks)
        lab.source.finish()
        for thread in lab.threads:
            thread.join(10)
        assert not lab.errors
        return result, lab.sent_bytes


class Mutator:
    """A seeded application: random operations on a tree, marked as the primary marks them."""

    NAMES = (b"a", b"b", b"c", b"d\n", b"\xff\xfe", b"x" * 200)

    def __init__(self, top, seed, marks=None):
        self.top = os.fsencode(top)
        self.random = random.Random(seed)
        self.marks = marks if marks is not None else Marks()
        #: Held while an operation and its marks are made, as the loop's one thread does it.
        self.lock = threading.Lock()
        self.count = 0

    def paths(self, kind=None):
        found = [b""]
        at = 0
        result = []
        while at < len(found):
            path = found[at]
            at += 1
            for name in sorted(os.listdir(self.full(path))):
                below = path + b"/" + name if path else name
                st = os.lstat(self.full(below))
                if stat.S_ISDIR(st.st_mode):
                    found.append(below)
                if kind is None or kind(st.st_mode):
                    result.append(below)
        return found if kind is stat.S_ISDIR else result

    def full(self, path):
        return os.path.join(self.top, path) if path else self.top

    def place(self):
        parent = self.random.choice(self.paths(stat.S_ISDIR))
        name = self.random.choice(self.NAMES)
        return parent + b"/" + name if parent else name

    def named(self, *paths):
        for path in paths:
            self.marks.add_full(path)
            self.marks.add_attributes(os.path.dirname(path))

    def step(self):
        operation = self.random.choice(
            [
                self.make, self.make, self.make, self.mkdir, self.mkdir, self.special,
                self.symlink, self.link, self.link, self.unlink, self.unlink, self.rmtree,
                self.rename, self.rename, self.exchange, self.write, self.write, self.write,
                self.truncate, self.punch, self.chmod, self.chown, self.utime, self.xattr,
            ]
        )  # fmt: skip
        with self.lock:
            try:
                operation()
                self.count += 1
            except (OSError, IndexError):
                pass

    def content(self):
        size = self.random.choice([0, 1, 100, 5000, ZONE, ZONE + 1, 3 * ZONE])
        return self.random.randbytes(size)

    def make(self):
        path = self.place()
        fd = os.open(self.full(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, self.content())
        os.close(fd)
        self.named(path)

    def mkdir(self):
        path = self.place()
        os.mkdir(self.full(path), self.random.choice([0o700, 0o755, 0o2775]))
        self.named(path)

    def special(self):
        path = self.place()
        kind = self.random.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
        rdev = os.makedev(1, self.random.randrange(9))
        os.mknod(self.full(path), kind | 0o640, rdev)
        self.named(path)

    def symlink(self):
        path = self.place()
        os.symlink(self.random.choice([b"a", b"../b", b"/nonexistent/away"]), self.full(path))
        self.named(path)

    def link(self):
        old, new = self.random.choice(self.paths()), self.place()
        os.link(self.full(old), self.full(new), follow_symlinks=False)
        self.named(old, new)

    def unlink(self):
        path = self.random.choice(self.paths(lambda mode: not stat.S_ISDIR(mode)))
        os.unlink(self.full(path))
        self.named(path)

    def rmtree(self):
        path = self.random.choice(self.paths(stat.S_ISDIR)[1:])
        os.rmdir(self.full(path))
        self.named(path)

    def rename(self):
        old, new = self.random.choice(self.paths()), self.place()
        os.rename(self.full(old), self.full(new))
        self.named(old, new)

    def exchange(self):
        from safepy.storage.syscalls import RENAME_EXCHANGE, renameat2

        one, two = self.random.choice(self.paths()), self.random.choice(self.paths())
        renameat2(-100, self.full(one), -100, self.full(two), RENAME_EXCHANGE)
        self.named(one, two)

    def regular(self):
        return self.random.choice(self.paths(stat.S_ISREG))

    def write(self):
        path = self.regular()
        offset = self.random.choice([0, 10, ZONE - 1, ZONE, 5 * ZONE, 30 * ZONE])
        data = self.random.randbytes(self.random.choice([1, 300, ZONE]))
        fd = os.open(self.full(path), os.O_WRONLY)
        before = os.fstat(fd).st_size
        os.pwrite(fd, data, offset)
        os.close(fd)
        start = min(before, offset)
        self.marks.add_extent(path, start, offset + len(data) - start)

    def truncate(self):
        path = self.regular()
        before = os.stat(self.full(path)).st_size
        size = self.random.choice([0, 1, ZONE, 2 * ZONE - 1, before // 2, before + 100])
        os.truncate(self.full(path), size)
        self.marks.add_extent(path, min(size, before), 1 << 62)

    def punch(self):
        path = self.regular()
        fd = os.open(self.full(path), os.O_WRONLY)
        from safepy.storage.syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate

        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 4096, ZONE)
        os.close(fd)
        self.marks.add_extent(path, 4096, ZONE)

    def anything(self):
        path = self.random.choice([*self.paths(), b""])
        self.marks.add_attributes(path)
        return path

    def chmod(self):
        path = self.anything()
        if not os.path.islink(self.full(path)):
            os.chmod(self.full(path), self.random.choice([0o600, 0o4755, 0o755, 0o1777]))

    def chown(self):
        path = self.anything()
        os.chown(self.full(path), 1000, self.random.choice([0, 1000]), follow_symlinks=False)

    def utime(self):
        path = self.anything()
        os.utime(
            self.full(path),
            ns=(1, self.random.randrange(10**18)),
            follow_symlinks=False,
        )

    def xattr(self):
        path = self.anything()
        name = self.random.choice(["trusted.one", "trusted.two", "security.three"])
        if self.random.random() < 0.3:
            os.removexattr(self.full(path), name, follow_symlinks=False)
        else:
            value = self.random.randbytes(self.random.randrange(40))
            os.setxattr(self.full(path), name, value, follow_symlinks=False)


class Logged(Mutator):
    """A seeded application behind a mount: new objects bear ids, content that changes is in the
    intent log (`suspects`), and names in `marks` as the primary keeps them.

    `sly`: a change of content leaves size and time as they were, so only what was logged tells.
    """

    def __init__(self, top, seed, marks=None, session=b"session1", sly=True):
        super().__init__(top, seed, marks)
        self.suspects = Suspects()
        self.suspects.add_new_since(session, 1)
        self.session = session
        self.sly = sly
        self.made = 0

    def step(self):
        if self.random.random() < 0.2:
            with self.lock, contextlib.suppress(OSError, IndexError):
                self.sly_write()
                self.count += 1
        else:
            super().step()

    def give(self, path):
        self.made += 1
        ident = idents.ident_of(self.session, 0, self.made)
        os.setxattr(self.full(path), "trusted.safekit.id", ident, follow_symlinks=False)

    def content(self):
        size = self.random.choice([0, 1, 100, 5000, ZONE, ZONE + 1, 3 * ZONE, 9 * ZONE])
        return self.random.randbytes(size)

    def make(self):
        path = self.place()
        fd = os.open(self.full(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.give(path)
        os.write(fd, self.content())
        os.close(fd)
        self.named(path)

    def mkdir(self):
        path = self.place()
        os.mkdir(self.full(path))
        self.give(path)
        self.named(path)

    def rename(self):
        old, new = self.random.choice(self.paths()), self.place()
        st = os.lstat(self.full(old))
        if not (stat.S_ISLNK(st.st_mode) or ident_of(self.full(old))):
            if not (stat.S_ISDIR(st.st_mode) or stat.S_ISREG(st.st_mode)):
                return
            self.give(old)
        others = self.other_names(new)
        os.rename(self.full(old), self.full(new))
        for path in others:
            self.marks.add_full(path)
        self.marks.moved(old, new, stat.S_ISDIR(st.st_mode))
        for path in (old, new):
            self.marks.add_attributes(os.path.dirname(path))

    def exchange(self):
        from safepy.storage.syscalls import RENAME_EXCHANGE, renameat2

        one, two = self.random.choice(self.paths()), self.random.choice(self.paths())
        renameat2(-100, self.full(one), -100, self.full(two), RENAME_EXCHANGE)
        self.named(one, two)

    def other_names(self, path):
        """Of a file that is about to lose this one: what is marked there concerns them too."""
        try:
            inode = os.lstat(self.full(path)).st_ino
        except OSError:
            return []
        names = [name for name in self.paths() if os.lstat(self.full(name)).st_ino == inode]
        return [name for name in names if name != path]

    def unlink(self):
        path = self.random.choice(self.paths(lambda mode: not stat.S_ISDIR(mode)))
        others = self.other_names(path)
        os.unlink(self.full(path))
        self.named(path)
        for other in others:
            self.marks.add_full(other)

    def log(self, path, start, end):
        start -= start % (1 << 20)
        end = -(-end // (1 << 20)) * (1 << 20)
        self.suspects.add(os.lstat(self.full(path)).st_ino, start, min(end, 1 << 62))

    def sly_write(self):
        path = self.regular()
        st = os.stat(self.full(path))
        if not st.st_size:
            return
        offset = self.random.randrange(st.st_size)
        fd = os.open(self.full(path), os.O_WRONLY)
        os.pwrite(fd, b"!"[: st.st_size - offset], offset)
        os.close(fd)
        self.log(path, offset, offset + 1)
        self.marks.add_extent(path, offset, 1)
        if self.sly:
            os.utime(self.full(path), ns=(st.st_atime_ns, st.st_mtime_ns))

    def write(self):
        path = self.regular()
        offset = self.random.choice([0, 10, ZONE - 1, ZONE, 5 * ZONE, 30 * ZONE])
        data = self.random.randbytes(self.random.choice([1, 300, ZONE]))
        fd = os.open(self.full(path), os.O_WRONLY)
        before = os.fstat(fd).st_size
        os.pwrite(fd, data, offset)
        os.close(fd)
        start = min(before, offset)
        self.log(path, start, offset + len(data))
        self.marks.add_extent(path, start, offset + len(data) - start)

    def truncate(self):
        path = self.regular()
        before = os.stat(self.full(path)).st_size
        size = self.random.choice([0, 1, ZONE, 2 * ZONE - 1, before // 2, before + 100])
        os.truncate(self.full(path), size)
        self.log(path, min(size, before), 1 << 62)
        self.marks.add_extent(path, min(size, before), 1 << 62)

    def punch(self):
        path = self.regular()
        fd = os.open(self.full(path), os.O_WRONLY)
        from safepy.storage.syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate

        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 4096, ZONE)
        os.close(fd)
        self.log(path, 4096, 4096 + ZONE)
        self.marks.add_extent(path, 4096, ZONE)
