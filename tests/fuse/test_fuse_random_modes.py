"""Random programs on a node whose peer is away: what is marked is all that differs.

The programs rest while the peer is brought up to date, so nothing is made equal by chance in a
later round. SAFEPY_RANDOM_SEEDS and SAFEPY_RANDOM_ROUNDS as in test_fuse_random_pair.
"""

from __future__ import annotations

import random

import pytest
from test_fuse_random_pair import ROUNDS, Scene, forget_names, seeds, wide_pair
from worker_pair import Pair, join, release_held

from safepy.worker import messages

__all__ = ["wide_pair"]  # a fixture

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(3600)]


class Reunions(Scene):
    """`crash`: the secondary is killed; else it is stopped in order."""

    def __init__(self, pair: Pair, seed: int, crash: bool, *profile: str) -> None:
        # Often, so that windows end while operations are in flight.
        super().__init__(pair, seed, *profile, checkpoint_interval_s=0.3)
        self.crash = crash
        self.checkpoint = 0

    def run(self, for_s: float) -> None:
        """The daemons count checkpoints."""
        left_s = for_s
        while left_s > 0:
            super().run(min(0.1, left_s))
            left_s -= 0.1
            self._count(self.a)
            if self.b is not None:
                self._count(self.b)

    def _count(self, worker: object) -> None:
        handled = self.a if worker is self.a else self.b
        assert handled is not None
        for report in list(handled.reports):
            if isinstance(report, messages.CheckpointWanted):
                self.checkpoint += 1
                handled.send(messages.CheckpointBegun(report.epoch, self.checkpoint))
            elif isinstance(report, messages.CheckpointReached):
                handled.send(messages.CheckpointRecorded(report.epoch, report.number))
            else:
                continue
            handled.reports.remove(report)

    def lose_secondary(self) -> None:
        b = self.b
        assert b is not None
        if self.crash:
            super().lose_secondary()
            return
        b.step(lambda n: messages.StopFollowing(n, self.epoch), 60)
        b.exit()
        self.b = None
        self.a.wait(lambda r: isinstance(r, messages.ReplicaLost))
        self.epoch += 1
        release_held(self.a, self.epoch)

    def regain_secondary(self) -> None:
        self.b = self.pair.worker("b", kept_closed=True, **self.setup)
        self.a.open_gate("alone", self.epoch)
        self.a.send(messages.AllowFollower(self.epoch, False, "zones", ""))
        self.b.step(lambda n: messages.Follow(n, self.epoch, False))
        chosen = self.a.wait(lambda r: isinstance(r, messages.SyncChosen), 60)
        assert isinstance(chosen, messages.SyncChosen)
        assert chosen.mode == "zones", chosen.reason
        self.epoch = join(self.a, self.b, self.epoch)
        self.resynchronised = True


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("profile", [(), ("names",)], ids=["mixed", "names"])
@pytest.mark.parametrize("seed", seeds())
def test_what_is_marked_is_all_that_differs(
    wide_pair: Pair,
    seed: int,
    profile: tuple[str, ...],
    crash: bool,
) -> None:
    scene = Reunions(wide_pair, seed + 2000, crash, *profile)
    dice = random.Random(seed)
    try:
        scene.programs.tell("run")
        for _ in range(ROUNDS):
            scene.run(dice.uniform(0.5, 2))
            scene.lose_secondary()
            scene.run(dice.uniform(0.3, 2))
            if dice.random() < 0.5:
                forget_names()
            scene.pause()
            scene.regain_secondary()
            scene.compare()
            scene.programs.tell("run")
    finally:
        scene.programs.end()
