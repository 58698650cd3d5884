"""`rfsverify`: both copies compared while they are in use (protocol 8.6, F51)."""

from __future__ import annotations

import os
import time

import pytest
from relay import Relay
from worker_pair import HandledWorker, Job, Pair, join, pair_up, release_held

from safepy.worker import messages

pytestmark = pytest.mark.kernel


def verify(
    asked: HandledWorker, other: HandledWorker, epoch: int, limit_s: float = 60
) -> tuple[dict[str, str], messages.VerifyDone]:
    """Kinds of difference by path, and the end."""
    asked.send(messages.Verify(epoch, 7))
    until_s = time.monotonic() + limit_s
    while True:
        other.pump(0.02)
        ends = [r for r in asked.reports if isinstance(r, messages.VerifyDone)]
        if ends:
            break
        assert time.monotonic() < until_s, "the verification does not end"
        asked.pump(0.1)
    told = [r for r in asked.reports if isinstance(r, messages.VerifyProgress)]
    asked.reports = [
        r for r in asked.reports if not isinstance(r, messages.VerifyProgress | messages.VerifyDone)
    ]
    return {d.path: d.kind for r in told for d in r.differences}, ends[0]


def fill(a: HandledWorker) -> None:
    root = a.public
    for folder in range(4):
        (root / f"d{folder}").mkdir()
        for number in range(80):
            (root / f"d{folder}" / f"f{number}").write_bytes(b"%d" % number * 700)
    (root / "large").write_bytes(os.urandom(5 << 20))
    os.symlink("d0/f1", root / "link")
    os.mkfifo(root / "pipe")


def behind_the_mount(b: HandledWorker, name: str) -> str:
    """The real file of the secondary, as a disk that forgets would reach it."""
    return f"{b.door}/{name}"


@pytest.mark.parametrize("asked_on", ["primary", "secondary"])
def test_f51_silent_corruption_is_found_by_name(pair: Pair, asked_on: str) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    Job(lambda: fill(a)).finish(a, b)
    asked, other = (a, b) if asked_on == "primary" else (b, a)
    found, done = verify(asked, other, epoch)
    assert (found, done.problem) == ({}, "")
    assert done.files >= 4 * 80 + 3 and done.bytes > 5 << 20

    # One bit, with the times as they were: nothing but the content tells.
    for name, at in (("large", 3 << 20), ("d2/f7", 100)):
        path = behind_the_mount(b, name)
        times = os.stat(path)
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 4]))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    parent = os.stat(behind_the_mount(b, "d1"))
    os.unlink(behind_the_mount(b, "d1/f3"))
    with open(behind_the_mount(b, "d1/stranger"), "w"):
        pass
    os.utime(behind_the_mount(b, "d1"), ns=(parent.st_atime_ns, parent.st_mtime_ns))
    os.chmod(behind_the_mount(b, "d3/f1"), 0o600)
    found, done = verify(asked, other, epoch)
    assert done.problem == ""
    assert found == {
        "large": "content",
        "d2/f7": "content",
        "d1/f3": "missing on second",
        "d1/stranger": "missing on prim",
        "d3/f1": "attributes",
    }


#: Reads of the real file "f7" for a comparison end with EIO.
UNREADABLE = """
import errno
import safepy.dataplane.resync.inspection as inspection

class Disk:
    def __getattr__(self, name):
        return getattr(os, name)

    def pread(self, fd, size, offset):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/d2/f7"):
            raise OSError(errno.EIO, "Input/output error")
        return os.pread(fd, size, offset)

inspection.os = Disk()
"""


@pytest.mark.parametrize(("bad", "side"), [("a", "prim"), ("b", "second")])
def test_f51_what_a_disk_refuses_to_read_is_named_and_the_rest_is_compared(
    pair: Pair, bad: str, side: str
) -> None:
    a, b = (pair.worker(name, prelude=UNREADABLE if name == bad else "") for name in "ab")
    epoch = pair_up(a, b)
    Job(lambda: fill(a)).finish(a, b)
    corrupt(b, "d3/f1")
    found, done = verify(a, b, epoch)
    assert (found, done.problem) == ({"d2/f7": f"unreadable on {side}", "d3/f1": "content"}, "")


@pytest.mark.parametrize("acknowledge_on", ["receipt", "apply"])
def test_nothing_differs_for_being_written_meanwhile(pair: Pair, acknowledge_on: str) -> None:
    a = pair.worker("a", acknowledge_on=acknowledge_on)
    b = pair.worker("b", acknowledge_on=acknowledge_on)
    epoch = pair_up(a, b)
    Job(lambda: fill(a)).finish(a, b)
    over = False

    def work() -> None:
        turn = 0
        with open(a.public / "large", "r+b", buffering=0) as large:
            while not over:
                turn += 1
                large.seek((turn * 7919) % (5 << 20))
                large.write(os.urandom(5000))
                place = a.public / f"d{turn % 4}"
                (place / f"new{turn % 50}").write_bytes(b"%d" % turn)
                os.rename(place / f"new{turn % 50}", place / f"f{turn % 80}")
                os.chmod(place / f"f{(turn * 3) % 80}", 0o600 + turn % 8)

    job = Job(work)
    try:
        for _ in range(2):
            found, done = verify(a, b, epoch)
            assert (found, done.problem) == ({}, "")
            assert done.files > 200
    finally:
        over = True
    job.finish(a, b)


def test_an_interrupted_stream_ends_it_with_a_reason(pair: Pair) -> None:
    a = pair.worker("a")
    relay = Relay("127.0.0.1", ("127.0.0.1", pair.ports["a"]), "127.0.0.2")
    try:
        b = pair.worker("b", dial=("127.0.0.1", relay.port))
        epoch = pair_up(a, b)
        Job(lambda: fill(a)).finish(a, b)
        os.truncate(a.public / "large", 4 << 30)  # long enough to be interrupted
        for asked in (a, b):
            asked.send(messages.Verify(epoch, 9))
            asked.wait(lambda r: isinstance(r, messages.VerifyProgress), 20)
            relay.cut()
            done = asked.wait(lambda r: isinstance(r, messages.VerifyDone), 20)
            assert isinstance(done, messages.VerifyDone) and "interrupted" in done.problem
            a.wait(lambda r: isinstance(r, messages.Log) and "goes on" in r.text)
        os.truncate(a.public / "large", 1 << 20)
        found, done = verify(a, b, epoch)
        assert (found, done.problem) == ({}, "")
    finally:
        relay.close()


def test_one_at_a_time_and_only_in_sync(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    b.send(messages.Verify(0, 1))
    done = b.wait(lambda r: isinstance(r, messages.VerifyDone))
    assert isinstance(done, messages.VerifyDone) and done.problem
    epoch = pair_up(a, b)
    Job(lambda: fill(a)).finish(a, b)
    a.send(messages.Verify(epoch, 1))
    b.send(messages.Verify(epoch, 2))
    done = b.wait(lambda r: isinstance(r, messages.VerifyDone))
    assert isinstance(done, messages.VerifyDone) and "already" in done.problem
    a.send(messages.StopVerify(epoch, 1))
    done = a.wait(lambda r: isinstance(r, messages.VerifyDone))
    assert isinstance(done, messages.VerifyDone) and "stopped" in done.problem


def corrupt(b: HandledWorker, name: str) -> None:
    path = behind_the_mount(b, name)
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"\xff" * 10)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def end_of(worker: HandledWorker, other: HandledWorker) -> messages.VerifyDone:
    until_s = time.monotonic() + 60
    while True:
        for report in worker.reports:
            if isinstance(report, messages.VerifyDone):
                worker.reports.remove(report)
                return report
        assert time.monotonic() < until_s, "the verification does not end"
        worker.pump(0.1)
        other.pump(0.02)


def test_f51_mended_from_the_primary(pair: Pair) -> None:
    """The secondary is lost for a moment and gets the files that differ, and no others."""
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    a.reports.clear()
    Job(lambda: fill(a)).finish(a, b)
    corrupt(b, "d1/f9")
    os.unlink(behind_the_mount(b, "d2/f2"))
    a.send(messages.Verify(epoch, 3, "prim"))
    assert end_of(a, b).problem == ""
    lost = a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    assert isinstance(lost, messages.ReplicaLost) and "rfsverify" in lost.reason
    release_held(a, epoch + 1)
    b.step(lambda n: messages.StopFollowing(n, epoch))
    a.send(messages.AllowFollower(epoch + 1, False, "zones", "a test"))
    b.step(lambda n: messages.Follow(n, epoch + 1, False))
    chosen = a.wait(lambda r: isinstance(r, messages.SyncChosen))
    assert isinstance(chosen, messages.SyncChosen) and chosen.mode == "zones", chosen
    join(a, b, epoch + 1)
    assert (b.public / "d1/f9").read_bytes() == (a.public / "d1/f9").read_bytes()
    assert (b.public / "d2/f2").read_bytes() == (a.public / "d2/f2").read_bytes()


def test_f51_mended_from_the_secondary(pair: Pair) -> None:
    """The good copy leads, and the other one gets what differed."""
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    a.reports.clear()
    Job(lambda: fill(a)).finish(a, b)
    corrupt(a, "d1/f9")
    good = (b.public / "d1/f9").read_bytes()
    b.send(messages.Verify(epoch, 3, "second"))
    assert end_of(b, a).problem == ""
    a.step(lambda n: messages.Quiesce(n, epoch))
    a.step(lambda n: messages.Demote(n, epoch))
    b.step(lambda n: messages.StopFollowing(n, epoch))
    b.step(lambda n: messages.Serve(n, epoch + 1))
    b.open_gate("alone", epoch + 1)
    b.send(messages.AllowFollower(epoch + 1, False, "zones", "a test"))
    a.step(lambda n: messages.Follow(n, epoch + 1, False))
    chosen = b.wait(lambda r: isinstance(r, messages.SyncChosen))
    assert isinstance(chosen, messages.SyncChosen) and chosen.mode == "zones", chosen
    join(b, a, epoch + 1)
    assert (a.public / "d1/f9").read_bytes() == (b.public / "d1/f9").read_bytes() == good
