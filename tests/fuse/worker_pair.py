"""Two real workers on loopback addresses, driven by hand in the daemon's place."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from safepy.host import mounts
from safepy.worker import messages
from safepy.worker.messages import Order, Report

KEY = "17" * 32


class HandledWorker:
    """One worker process, its doors and covers, and the daemon's end of its control socket."""

    def __init__(self, name: str, peer: str, base: Path, ports: dict[str, int], **setup: object):
        self.name = name
        self.folder = base / name
        self.public = self.folder / "data"
        self.door = self.folder / "doors" / "0"
        self.public.mkdir(parents=True, exist_ok=True)
        self.reports: list[Report] = []
        #: Its newest sign of life.
        self.alive: messages.Alive | None = None
        self.closed = False
        self._step = 0
        mounts.open_door(str(self.public), str(self.door))
        mounts.cover(str(self.public))
        # Python text that runs in the worker first: a disk that fails, for instance.
        prelude = setup.pop("prelude", "")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = ours
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os; os.dup2({fd}, 3)\n{prelude}\n"
                "from safepy.worker.main import main; main()",
            ],
            pass_fds=[fd],
            env=dict(os.environ, PYTHONPATH="src"),
        )
        theirs.close()
        address = {"a": "127.0.0.1", "b": "127.0.0.2"}
        settings: dict[str, object] = {
            "module": "demo",
            "node": name,
            "peer": peer,
            "key": KEY,
            "listen": (address[name], ports[name]),
            "dial": (address[peer], ports[peer]),
            "paths": [str(self.public)],
            "doors": [str(self.door)],
            "acknowledge_on": "receipt",
            "acl": False,
            "transfers": 3,
            "locktimeout_s": 10.0,
            "sendtimeout_s": 2.0,
            "keep_dir": str(self.folder / "kept"),
            "state_dir": str(self.folder / "state"),
        }
        settings.update(setup)
        try:
            self.step(lambda number: messages.Setup(step_id=number, **settings))  # type: ignore[arg-type]
        except BaseException:  # nobody has it yet who would close it
            self.close()
            raise

    def send(self, order: Order) -> None:
        self.sock.send(messages.encode(order))

    def step(self, make: Callable[[int], Order], limit_s: float = 20.0) -> messages.Done:
        """Send an order with a number and wait for its `Done`."""
        self._step += 1
        number = self._step
        self.send(make(number))
        done = self.wait(lambda r: isinstance(r, messages.Done) and r.step_id == number, limit_s)
        assert isinstance(done, messages.Done)
        assert done.ok, done.detail
        return done

    def wait(self, wanted: Callable[[Report], bool], limit_s: float = 20.0) -> Report:
        """The first report that is wanted; answers FirstModification by itself."""
        until_s = time.monotonic() + limit_s
        while True:
            for index, report in enumerate(self.reports):
                if wanted(report):
                    del self.reports[index]
                    return report
            left_s = until_s - time.monotonic()
            assert left_s > 0, f"{self.name}: not within {limit_s} s; had {self.reports[-8:]}"
            self.pump(left_s)

    def pump(self, limit_s: float) -> None:
        if not select.select([self.sock], [], [], limit_s)[0]:
            return
        data = self.sock.recv(1 << 16)
        assert data, f"worker {self.name} is gone"
        report = messages.REPORT.decode(data)
        if isinstance(report, messages.FirstModification):
            self.send(messages.ModifiedRecorded(report.epoch))
        if isinstance(report, messages.Alive):
            self.alive = report
        else:
            self.reports.append(report)

    def open_gate(self, mode: str, epoch: int, for_s: float = 3600.0) -> None:
        deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + for_s
        self.send(messages.OpenGate(epoch, mode, deadline_s))

    @property
    def beneath(self) -> Path:
        """The real directory, whatever is mounted over it."""
        return self.door

    def exit(self) -> None:
        """End in order; then the directory is uncovered, as it is while a module is stopped."""
        self.step(lambda number: messages.Exit(step_id=number))
        self.process.wait(10)
        self.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.sock.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        mounts.uncover(str(self.public), str(self.door))


class Pair:
    """Makes workers and ends them, whatever happened."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ports = free_ports()
        self.workers: list[HandledWorker] = []

    def worker(self, name: str, **setup: object) -> HandledWorker:
        peer = {"a": "b", "b": "a"}[name]
        worker = HandledWorker(name, peer, self.base, self.ports, **setup)
        self.workers.append(worker)
        return worker


class Job(threading.Thread):
    """File work of an "application"; `error` is what it ended with."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except OSError as error:
            self.error = error

    def finish(self, *workers: HandledWorker, limit_s: float = 20.0) -> None:
        """Wait for it while the workers are heard (they may ask something)."""
        until_s = time.monotonic() + limit_s
        while self.is_alive():
            assert time.monotonic() < until_s, "the application hangs"
            for worker in workers:
                worker.pump(0.02)
        if self.error is not None:
            raise self.error


def free_ports() -> dict[str, int]:
    ports = {}
    for name, address in (("a", "127.0.0.1"), ("b", "127.0.0.2")):
        with socket.socket() as probe:
            probe.bind((address, 0))
            ports[name] = probe.getsockname()[1]
    return ports


def pair_up(primary: HandledWorker, secondary: HandledWorker, epoch: int = 1) -> int:
    """From both idle to PRIM/SECOND in epoch + 1, which is returned."""
    primary.step(lambda n: messages.Serve(n, epoch))
    primary.open_gate("alone", epoch)
    primary.send(messages.AllowFollower(epoch, False))
    secondary.step(lambda n: messages.Follow(n, epoch, False))
    return join(primary, secondary, epoch)


def join(primary: HandledWorker, secondary: HandledWorker, epoch: int) -> int:
    primary.wait(lambda r: isinstance(r, messages.CaughtUp), 60)
    primary.send(messages.Join(epoch + 1, "g1", "", []))
    secondary.wait(lambda r: isinstance(r, messages.AdoptRequested))
    secondary.send(messages.Adopted(epoch + 1))
    secondary.wait(lambda r: isinstance(r, messages.Joined))
    primary.wait(lambda r: isinstance(r, messages.Joined))
    primary.open_gate("prim", epoch + 1)
    for worker in (primary, secondary):
        worker.reports = [r for r in worker.reports if not isinstance(r, messages.SyncChosen)]
    return epoch + 1


def release_held(primary: HandledWorker, epoch: int) -> None:
    """The secondary is durably behind: the primary goes on ALONE."""
    deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
    primary.send(messages.ReleaseHeld(epoch, deadline_s))
