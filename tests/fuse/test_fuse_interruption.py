"""A replication connection that breaks and comes back (F26, F29, F32): nothing is lost, nothing is
done twice, nobody goes ALONE."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay import Relay
from test_fuse_worker_pair import picture
from worker_pair import HandledWorker, Job, Pair, join, pair_up, release_held

from safepy.worker import messages

pytestmark = pytest.mark.kernel


class Broken:
    """A pair whose streams go through a relay."""

    def __init__(self, pair: Pair, **setup: object) -> None:
        self.a = pair.worker("a", **setup)
        self.relay = Relay("127.0.0.1", ("127.0.0.1", pair.ports["a"]), "127.0.0.2")
        dial = ("127.0.0.1", self.relay.port)
        try:
            self.b = pair.worker("b", dial=dial, **setup)
            self.epoch = pair_up(self.a, self.b)
        except BaseException:
            self.relay.close()
            raise

    @property
    def workers(self) -> tuple[HandledWorker, HandledWorker]:
        return self.a, self.b

    def goes_on(self) -> None:
        self.a.wait(lambda r: isinstance(r, messages.Log) and "goes on" in r.text)


@pytest.fixture
def broken(pair: Pair) -> Iterator[Broken]:
    made = Broken(pair)
    try:
        yield made
    finally:
        made.relay.close()


def interrupted(report: messages.Report) -> bool:
    return isinstance(report, messages.Log) and "interrupted" in report.text


def bytes_sent(worker: HandledWorker) -> int:
    """To its peer, by its own count."""
    for _ in range(2):  # the first one may have been on its way
        worker.alive = None
        until_s = time.monotonic() + 20
        while worker.alive is None:
            assert time.monotonic() < until_s, "no sign of life"
            worker.pump(0.5)
    return worker.alive.net_out_bytes


def never_lost(worker: HandledWorker) -> None:
    assert not [r for r in worker.reports if isinstance(r, messages.ReplicaLost)]


def test_f26_the_stream_is_taken_up_again_under_load(broken: Broken) -> None:
    """Many cuts while a writer writes and syncs: each write is answered once, and both trees are
    equal byte for byte."""
    a, b = broken.workers
    ended: list[int] = []

    def work() -> None:
        fd = os.open(a.public / "log", os.O_CREAT | os.O_WRONLY)
        until_s = time.monotonic() + 4
        number = 0
        while time.monotonic() < until_s:
            os.write(fd, b"%019d\n" % number)
            number += 1
            if number % 50 == 0:
                os.fsync(fd)
            if number % 100 == 0:
                (a.public / f"f{number}").write_bytes(b"x" * number)
        os.close(fd)
        ended.append(number)

    job = Job(work)
    cuts = 0
    while job.is_alive():
        until_s = time.monotonic() + 0.3
        while time.monotonic() < until_s:
            a.pump(0.02)
            b.pump(0.02)
        broken.relay.cut()
        cuts += 1
    job.finish(a, b)
    assert cuts > 5 and ended[0] > 100
    never_lost(a)
    assert len((b.public / "log").read_bytes()) == 20 * ended[0]
    assert picture(a.public) == picture(b.public)


def test_f32_a_falsified_record_is_never_applied(broken: Broken) -> None:
    a, b = broken.workers
    for turn in range(5):
        broken.relay.falsify = True
        job = Job(lambda turn=turn: (a.public / f"f{turn}").write_bytes(b"%d" % turn * 4000))
        job.finish(a, b)
    broken.goes_on()
    never_lost(a)
    assert picture(a.public) == picture(b.public)


def test_f29_a_half_open_connection_is_replaced(pair: Pair) -> None:
    """The secondary's end is gone, the primary's is open and says nothing: the new connection is
    taken, long before the old one could end by itself, and the old one is closed."""
    made = Broken(pair, sendtimeout_s=3600.0)
    a, b = made.workers
    try:
        made.relay.cut_near()
        job = Job(lambda: (a.public / "late").write_bytes(b"late"))
        job.finish(a, b)
        made.goes_on()
        assert (b.public / "late").read_bytes() == b"late"
        assert made.relay.far_end_is_closed(5.0)
        never_lost(a)
    finally:
        made.relay.close()


def test_f26_after_sendtimeout_the_secondary_is_lost(pair: Pair) -> None:
    made = Broken(pair, sendtimeout_s=1.0)
    a, b = made.workers
    try:
        made.relay.refuse = True
        made.relay.cut()
        a.wait(interrupted)
        job = Job(lambda: (a.public / "held").write_bytes(b"held"))
        lost = a.wait(lambda r: isinstance(r, messages.ReplicaLost), 10)
        assert isinstance(lost, messages.ReplicaLost) and "sendtimeout" in lost.reason
        assert job.is_alive(), "answered without the secondary"
        release_held(a, made.epoch + 1)
        job.finish(a, b)
        # The stream of before the release is over, whoever offers it (I13).
        made.relay.refuse = False
        b.wait(lambda r: isinstance(r, messages.Log) and "given the stream up" in r.text)
        assert not (b.public / "held").exists()
    finally:
        made.relay.close()


def test_an_fsync_whose_answer_was_lost_is_answered(broken: Broken) -> None:
    """The secondary has the fsync, its completion is lost with the connection."""
    a, b = broken.workers

    def work() -> None:
        with open(a.public / "stable", "wb") as file:
            for turn in range(60):
                file.write(b"%d" % turn * 1000)
                file.flush()
                os.fsync(file.fileno())

    job = Job(work)
    while job.is_alive():
        time.sleep(0.05)
        broken.relay.cut()
        for worker in broken.workers:
            worker.pump(0.05)
    job.finish(a, b)
    never_lost(a)
    assert picture(a.public) == picture(b.public)


def test_a_secondary_that_leaves_is_not_waited_for(broken: Broken) -> None:
    a, b = broken.workers
    b.step(lambda n: messages.StopFollowing(n, broken.epoch))
    lost = a.wait(lambda r: isinstance(r, messages.ReplicaLost), 5)
    assert isinstance(lost, messages.ReplicaLost) and "stops following" in lost.reason


def test_what_was_not_received_is_sent_once(pair: Pair) -> None:
    """Appends (O_APPEND by several writers) would show an operation that was done twice."""
    made = Broken(pair)
    a, b = made.workers
    try:

        def work() -> None:
            fds = [os.open(a.public / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)] * 3
            for turn in range(300):
                os.write(fds[turn % 3], b"%04d\n" % turn)
            os.close(fds[0])

        job = Job(work)
        while job.is_alive():
            time.sleep(0.03)
            made.relay.cut()
            for worker in made.workers:
                worker.pump(0.05)
        job.finish(a, b)
        lines = (b.public / "log").read_bytes().splitlines()
        assert lines == [b"%04d" % turn for turn in range(300)]
    finally:
        made.relay.close()


def loaded(a: HandledWorker, b: HandledWorker, files: int, size: int) -> None:
    """The source serves alone, with this much to send."""
    for number in range(files):
        (a.beneath / f"f{number}").write_bytes(os.urandom(size))
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    a.wait(lambda r: isinstance(r, messages.SyncChosen))


@pytest.mark.parametrize("limit_s", [1.0, 60.0])
def test_a_target_that_does_not_answer_for_reitimeout(pair: Pair, limit_s: float) -> None:
    """It is given up, and the synchronisation begins again; within the limit nobody is hasty."""
    rate = {"reiallowedbw_bytes_s": 8 << 20}
    a, b = pair.worker("a", reitimeout_s=limit_s, **rate), pair.worker("b", reitimeout_s=60.0)
    loaded(a, b, 4, 4 << 20)
    b.process.send_signal(signal.SIGSTOP)
    until_s = time.monotonic() + 3.0
    while time.monotonic() < until_s:
        a.pump(0.1)
    b.process.send_signal(signal.SIGCONT)
    join(a, b, 1)
    said = [r.reason for r in a.reports if isinstance(r, messages.ResyncFailed)]
    assert said == (["no answer from the other node in 1 s"] if limit_s == 1.0 else [])
    assert picture(a.public) == picture(b.public)


@pytest.mark.parametrize(("files", "size"), [(3, 2 << 20), (6000, 100)])
def test_reiallowedbw_bounds_what_all_transfers_send(pair: Pair, files: int, size: int) -> None:
    """Ten percent more than the rate at most, of few large files and of many small ones."""
    bytes_s = 2 << 20 if files < 10 else 512 << 10
    a, b = pair.worker("a", reiallowedbw_bytes_s=bytes_s), pair.worker("b")
    sent = bytes_sent(a)
    began_s = time.monotonic()
    loaded(a, b, files, size)
    join(a, b, 1)
    took_s = time.monotonic() - began_s
    sent = bytes_sent(a) - sent
    assert sent > files * size
    assert sent / took_s < 1.1 * bytes_s


def connections_to(port: int) -> int:
    """How many are established, as the listening end counts them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for each in lines if each[3] == "01" and int(each[1].split(":")[1], 16) == port)


def test_a_secondary_that_ends_in_the_middle_goes_on_where_it_was(pair: Pair) -> None:
    """As after a reboot: nothing is left of the process that received, and its directory holds a
    part. What is there is compared and not sent again; `nbrei` transfers run each time."""
    files, size, transfers = 12, 1 << 20, 5
    whole = files * size
    a = pair.worker("a", transfers=transfers, reiallowedbw_bytes_s=4 << 20)
    b = pair.worker("b", transfers=transfers)
    sent = bytes_sent(a)
    loaded(a, b, files, size)

    def received() -> int:
        return sum(path.stat().st_blocks * 512 for path in b.beneath.glob("f*"))

    until_s = time.monotonic() + 20
    most = 0
    while received() < whole // 2:
        assert time.monotonic() < until_s, f"{received()} bytes received"
        most = max(most, connections_to(pair.ports["a"]))
        a.pump(0.02)
        b.pump(0.02)
    assert most == transfers + 1, "one stream for what is live, and the transfers"
    b.kill()
    b.close()
    first = bytes_sent(a) - sent
    assert whole // 3 < first < whole
    again = pair.worker("b", transfers=transfers)
    again.step(lambda n: messages.Follow(n, 1, False))
    join(a, again, 1)
    assert bytes_sent(a) - sent - first < whole * 2 // 3
    assert picture(a.public) == picture(again.public)
