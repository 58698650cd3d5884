"""Several programs do random things on a live pair, and the secondary is lost and comes back.

Whenever they pause, both trees are equal in everything, and the mount shows what is beneath it.
SAFEPY_RANDOM_SEEDS="1-20" and SAFEPY_RANDOM_ROUNDS=10 make a long run of it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tree_picture import differences, picture
from worker_pair import HandledWorker, Job, Pair, join, pair_up, release_held

from safepy.worker import messages
from safepy.worker.common import sync_path

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
PROGRAMS = 4
#: For one operation of each program, or a look at all, on a machine with other things to do.
PAUSE_LIMIT_S = 90


def seeds() -> list[int]:
    first, _, last = os.environ.get("SAFEPY_RANDOM_SEEDS", "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


ROUNDS = int(os.environ.get("SAFEPY_RANDOM_ROUNDS", "2"))


class Programs:
    """The random programs on one tree."""

    def __init__(self, root: Path, seed: int, *profile: str) -> None:
        load = [sys.executable, str(HERE / "random_load.py")]
        self.processes = [
            subprocess.Popen(
                [*load, str(seed * 100 + n), str(root), *profile],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(HERE.parent.parent / "src")},
            )
            for n in range(PROGRAMS)
        ]

    def tell(self, order: str) -> None:
        for process in self.processes:
            assert process.stdin
            print(order, file=process.stdin, flush=True)

    def wait_paused(self) -> None:
        for process in self.processes:
            assert process.stdout
            said = process.stdout.readline()
            assert said.startswith("paused"), said

    def say_where(self) -> None:
        """Each writes to its standard error what it is doing."""
        for process in self.processes:
            process.send_signal(signal.SIGUSR1)
        time.sleep(1)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def wide_pair(pair: Pair) -> Iterator[Pair]:
    pair.base.chmod(0o755)
    yield pair


class Scene:
    """A pair under load. The main thread stands in for both daemons."""

    def __init__(self, pair: Pair, seed: int, *profile: str, **setup: object) -> None:
        self.pair = pair
        self.setup = setup
        self.dice = random.Random(seed)
        self.a = pair.worker("a", **setup)
        self.b: HandledWorker | None = pair.worker("b", **setup)
        self.epoch = pair_up(self.a, self.b)
        self.resynchronised = False
        self.programs = Programs(self.a.public, seed, *profile)

    def run(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            self.a.pump(0.02)
            if self.b is not None:
                self.b.pump(0.001)
            for process in self.programs.processes:
                assert process.poll() is None

    def lose_secondary(self) -> None:
        assert self.b is not None
        self.b.kill()
        self.b.close()
        self.b = None
        self.a.wait(lambda r: isinstance(r, messages.ReplicaLost))
        self.run(self.dice.choice([0, 0.1]))
        self.epoch += 1
        release_held(self.a, self.epoch)

    def regain_secondary(self) -> None:
        self.b = self.pair.worker("b", **self.setup)
        self.a.open_gate("alone", self.epoch)
        self.a.send(messages.AllowFollower(self.epoch, False))
        self.b.step(lambda n: messages.Follow(n, self.epoch, False))
        self.epoch = join(self.a, self.b, self.epoch)
        self.resynchronised = True

    def pause(self) -> None:
        self.programs.tell("pause")
        try:
            workers = [self.a, *([self.b] if self.b else [])]
            Job(self.programs.wait_paused).finish(*workers, limit_s=PAUSE_LIMIT_S)
        except AssertionError:
            self.programs.say_where()
            raise

    def compare(self) -> None:
        assert self.b is not None
        # A resynchronisation compares contents: holes within a zone may be zeros after it.
        ignore = {"data"} if self.resynchronised else set()
        # Pages that were written through a mapping, then everything on both nodes.
        Job(lambda: sync_path(str(self.a.public))).finish(self.a, self.b, limit_s=PAUSE_LIMIT_S)
        on_a, on_b = picture(self.a.door), picture(self.b.public)
        assert differences(on_a, on_b, ignore)[:20] == [], "first: primary, second: secondary"
        seen: list[dict[bytes, dict[str, object]]] = []
        Job(lambda: seen.append(picture(self.a.public))).finish(
            self.a, self.b, limit_s=PAUSE_LIMIT_S
        )
        assert differences(on_a, seen[0])[:20] == [], "first: beneath, second: the mount"
        assert not [r for r in self.a.reports + self.b.reports if isinstance(r, messages.DiskFault)]


def forget_names() -> None:
    """The kernel gives lookups back; files still in use stay."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


@pytest.mark.parametrize("seed", seeds())
def test_trees_stay_equal_whatever_programs_do(wide_pair: Pair, seed: int) -> None:
    scene = Scene(wide_pair, seed)
    try:
        play(scene)
    finally:
        scene.programs.end()


@pytest.mark.parametrize("seed", seeds())
def test_trees_stay_equal_with_acls_and_a_slow_answer(wide_pair: Pair, seed: int) -> None:
    scene = Scene(wide_pair, seed + 1000, acl=True, acknowledge_on="apply")
    try:
        play(scene)
    finally:
        scene.programs.end()


def play(scene: Scene) -> None:
    dice = scene.dice
    scene.programs.tell("run")
    for _ in range(ROUNDS):
        scene.run(dice.uniform(1, 4))
        if dice.random() < 0.5:
            forget_names()
        scene.pause()
        scene.compare()
        scene.programs.tell("run")
        scene.run(dice.uniform(0.2, 1))
        scene.lose_secondary()
        scene.run(dice.uniform(0, 1.5))
        if dice.random() < 0.5:
            forget_names()
        scene.regain_secondary()
        if dice.random() < 0.5:
            scene.run(dice.uniform(0, 1))
        scene.pause()
        scene.compare()
        scene.programs.tell("run")
