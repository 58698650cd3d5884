"""Two real workers, real mounts, real streams: what the data path promises the daemon."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from worker_pair import Job, Pair, join, pair_up, release_held

from safepy.worker import messages

pytestmark = pytest.mark.kernel


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Contents and metadata of a tree, for comparison."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        st = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        xattrs = {
            n: os.getxattr(path, n, follow_symlinks=False)
            for n in os.listxattr(path, follow_symlinks=False)
            if n.startswith("user.")
        }
        seen[str(path.relative_to(root))] = (
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_mtime_ns,
            st.st_rdev,
            content,
            target,
            st.st_nlink if not path.is_dir() else 0,
            xattrs,
        )
    return seen


def test_every_kind_of_change_reaches_the_secondary(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    pair_up(a, b)

    def work() -> None:
        root = a.public
        (root / "d").mkdir(mode=0o750)
        (root / "d" / "f").write_bytes(b"one" * 5000)
        os.chown(root / "d" / "f", 12, 34)
        os.chmod(root / "d" / "f", 0o4711)
        os.link(root / "d" / "f", root / "hard")
        os.symlink("d/f", root / "soft")
        os.mkfifo(root / "pipe")
        os.setxattr(root / "d", b"user.colour", b"blue")
        os.truncate(root / "hard", 7000)
        with open(root / "sparse", "wb") as file:
            file.seek(1 << 20)
            file.write(b"end")
        (root / "gone").write_bytes(b"x")
        with open(root / "gone", "r+b") as file:
            os.unlink(root / "gone")
            file.write(b"still here")
        os.rename(root / "d" / "f", root / "moved")
        os.utime(root / "moved", ns=(1, 1_700_000_000_123_456_789))

    Job(work).finish(a, b)
    assert picture(a.public) == picture(b.public)
    assert (b.public / "moved").stat().st_nlink == 2


def test_a_writer_during_the_first_synchronisation_loses_nothing(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    stop = threading.Event()

    def fill() -> None:
        for number in range(300):
            (a.public / f"old-{number}").write_bytes(os.urandom(20_000))

    def churn() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            (a.public / f"new-{count % 40}").write_bytes(b"%d" % count * 2000)
            if count % 7 == 0:
                os.replace(a.public / f"new-{count % 40}", a.public / f"old-{count % 300}")
            time.sleep(0.001)

    Job(fill).finish(a)
    job = Job(churn)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    join(a, b, 1)
    time.sleep(0.2)  # some replicated writes too
    stop.set()
    job.finish(a, b)
    assert picture(a.public) == picture(b.public)


def test_a_lost_secondary_holds_writers_until_the_daemon_has_decided(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    b.kill()
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    job = Job(lambda: (a.public / "late").write_bytes(b"held"))
    a.pump(0.5)
    assert job.is_alive(), "answered although nobody had it"
    release_held(a, epoch + 1)
    job.finish(a)
    assert (a.public / "late").read_bytes() == b"held"


def test_a_secondary_left_behind_by_the_heartbeats_loses_its_stream(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    a.send(messages.CloseGate(epoch))
    job = Job(lambda: (a.public / "late").write_bytes(b"held"))
    a.pump(0.3)
    assert job.is_alive()
    release_held(a, epoch + 1)
    job.finish(a)
    b.wait(lambda r: isinstance(r, messages.SourceLost))


def test_the_secondary_serves_what_was_acknowledged_when_the_primary_dies(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    acknowledged: list[int] = []

    def work() -> None:
        fd = os.open(a.public / "log", os.O_WRONLY | os.O_CREAT)
        for number in range(100_000):
            os.pwrite(fd, b"%08d" % number, number * 8)
            acknowledged.append(number)

    job = Job(work)
    while len(acknowledged) < 300:
        b.pump(0.01)
    a.kill()
    with pytest.raises(OSError) as failure:
        job.finish(b)
    assert failure.value.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(a.public)  # the dead mount protects the files
    b.wait(lambda r: isinstance(r, messages.SourceLost))
    b.step(lambda n: messages.StopFollowing(n, epoch + 1))
    b.step(lambda n: messages.Serve(n, epoch + 1))
    b.open_gate("alone", epoch + 1)
    data = (b.public / "log").read_bytes()
    for number in acknowledged:
        assert data[number * 8 : number * 8 + 8] == b"%08d" % number
    Job(lambda: (b.public / "after").write_text("served here")).finish(b)


def test_nothing_is_answered_after_the_deadline_of_the_gate(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    a.open_gate("prim", epoch, for_s=-1.0)
    job = Job(lambda: (a.public / "late").write_bytes(b"x"))
    a.pump(0.5)
    assert job.is_alive()
    a.open_gate("prim", epoch)
    job.finish(a, b)
    assert (b.public / "late").read_bytes() == b"x"


def test_demotion_fails_what_is_held_and_shows_the_cover(pair: Pair) -> None:
    a = pair.worker("a")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    Job(lambda: (a.public / "f").write_bytes(b"before")).finish(a)
    a.send(messages.CloseGate(1))
    job = Job(lambda: (a.public / "f").write_bytes(b"never"))
    a.pump(0.5)
    a.step(lambda n: messages.Demote(n, 1))
    with pytest.raises(OSError) as failure:
        job.finish(a)
    assert failure.value.errno in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
    assert (a.public / "f").read_bytes() in (b"before", b"")
    with pytest.raises(OSError) as refused:
        (a.public / "f").write_bytes(b"unseen")
    assert refused.value.errno == errno.EROFS


def test_the_secondary_is_visible_and_read_only(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    pair_up(a, b)
    Job(lambda: (a.public / "f").write_bytes(b"seen")).finish(a, b)
    assert (b.public / "f").read_bytes() == b"seen"
    with pytest.raises(OSError) as refused:
        os.unlink(b.public / "f")
    assert refused.value.errno == errno.EROFS


def test_what_the_first_synchronisation_would_destroy_is_kept_aside(pair: Pair) -> None:
    (pair.base / "b" / "data" / "own").mkdir(parents=True)
    (pair.base / "b" / "data" / "own" / "file").write_bytes(b"precious")
    (pair.base / "b" / "data" / "both").write_bytes(b"other content")
    (pair.base / "a" / "data").mkdir(parents=True)
    (pair.base / "a" / "data" / "both").write_bytes(b"right content")
    a, b = pair.worker("a"), pair.worker("b")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    a.send(messages.AllowFollower(1, True))
    b.step(lambda n: messages.Follow(n, 1, True))
    join(a, b, 1)
    assert picture(a.public) == picture(b.public)
    kept = {
        path.name: path.read_bytes() for path in (b.folder / "kept").rglob("*") if path.is_file()
    }
    assert kept == {"file": b"precious", "both": b"other content"}
    said = b.wait(lambda r: isinstance(r, messages.Log) and "are kept in" in r.text)
    assert isinstance(said, messages.Log)


def test_another_key_gets_no_stream(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b", key="99" * 32)
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    a.wait(lambda r: isinstance(r, messages.Log) and "refused" in r.text)
    assert not any(isinstance(r, messages.CaughtUp) for r in a.reports)


def test_a_broken_synchronisation_begins_again_by_itself(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    Job(lambda: [(a.public / f"f{i}").write_bytes(os.urandom(3000)) for i in range(500)]).finish(a)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    a.pump(0.05)
    b.kill()
    b.close()
    shutil.move(b.folder, pair.base / "b-first")
    second = pair.worker("b")
    second.step(lambda n: messages.Follow(n, 1, False))
    join(a, second, 1)
    assert picture(a.public) == picture(second.public)


def test_numbers_that_no_file_system_keeps_end_no_worker(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    pair_up(a, b)

    def work() -> None:
        path = a.public / "f"
        path.write_bytes(b"x")
        fd = os.open(path, os.O_RDWR)
        for offset in (-1, -(1 << 63)):
            with pytest.raises(OSError, match="No such device or address"):
                os.lseek(fd, offset, os.SEEK_DATA)
        for time_ns in (10**23, -(10**23), (1 << 62) * 10**9):
            os.utime(path, ns=(time_ns, time_ns))
        os.close(fd)

    Job(work).finish(a, b)
    assert picture(a.public) == picture(b.public)


def writer(path: Path, *first: signal.Signals) -> subprocess.Popen[str]:
    """A program that appends a line; it counts the signals of kind SIGUSR1 that it gets."""
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
        "print('ready', flush=True)\n"
        "os.write(fd, b'line')\n"
        "os.fsync(fd)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    for number in first:
        process.send_signal(number)
        time.sleep(0.1)
    return process


def test_a_program_that_waits_for_the_gate_can_be_killed(pair: Pair) -> None:
    a = pair.worker("a")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    Job(lambda: (a.public / "f").write_bytes(b"")).finish(a)
    a.send(messages.CloseGate(1))
    time.sleep(0.1)
    killed = [writer(a.public / "f", signal.SIGUSR1, signal.SIGKILL)]
    killed += [writer(a.public / "f", number) for number in (signal.SIGKILL, signal.SIGTERM)]
    signalled = writer(a.public / "f", signal.SIGUSR1)
    for process in killed:
        assert process.wait(10) < 0
    assert signalled.poll() is None, "a signal that it wanted ended its write"
    a.open_gate("alone", 1)
    assert signalled.wait(10) == 0
    assert (a.public / "f").read_bytes() == b"line"
