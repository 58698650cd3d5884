"""`notreplicated` through a real mount: what programs do at the border."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest
from worker_pair import Job, Pair, join, pair_up, release_held

from safepy.worker import messages

pytestmark = pytest.mark.kernel

RULES = ((("regex", r"\.tmp$"), ("path", "cache")),)


def test_what_is_left_out_stays_here_and_files_may_come_in(pair: Pair) -> None:
    a, b = pair.worker("a", notreplicated=RULES), pair.worker("b", notreplicated=RULES)
    (b.beneath / "cache").mkdir()
    (b.beneath / "cache" / "mine").write_bytes(b"b")
    epoch = pair_up(a, b)
    refused = []

    def work() -> None:
        public = a.public
        (public / "cache").mkdir()
        (public / "cache" / "x").write_bytes(b"x")
        (public / "f").write_bytes(b"old")
        (public / "f.tmp").write_bytes(b"new")
        (public / "f.tmp").rename(public / "f")  # as careful programs replace a file
        (public / "leaves").write_bytes(b"1")
        (public / "leaves").rename(public / "leaves.tmp")
        (public / "d.tmp").mkdir()
        (public / "d.tmp" / "y").write_bytes(b"y")
        try:
            (public / "d.tmp").rename(public / "d")
        except OSError as error:
            refused.append(error.errno)
        subprocess.run(["mv", public / "d.tmp", public / "d"], check=True)
        fd = os.open(public / "cache" / "x", os.O_WRONLY)
        os.write(fd, b"synced")
        os.fsync(fd)
        os.close(fd)
        os.sync()

    Job(work).finish(a, b)
    assert refused == [errno.EXDEV]
    a.pump(0.5)
    b.pump(0.5)

    def check() -> None:
        names = sorted(os.listdir(b.beneath))
        assert names == ["cache", "d", "f"]
        assert (b.beneath / "f").read_bytes() == b"new"
        assert (b.beneath / "d" / "y").read_bytes() == b"y"
        assert os.listdir(b.beneath / "cache") == ["mine"]
        assert sorted(os.listdir(a.public)) == ["cache", "d", "f", "leaves.tmp"]

    check()
    # And over a synchronisation.
    b.step(lambda n: messages.StopFollowing(n, epoch))
    b.exit()
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    Job(lambda: (a.public / "other.tmp").write_bytes(b"z")).finish(a)
    Job(lambda: (a.public / "other.tmp").unlink()).finish(a)
    b = pair.worker("b", notreplicated=RULES)
    a.send(messages.AllowFollower(epoch, False, "everything", "asked for"))
    b.step(lambda n: messages.Follow(n, epoch, False))
    join(a, b, epoch)
    check()
