"""Several programs change names, links and attributes of one tree at the same time, on a live pair.

At the end, and at every pause in the long form, both trees are equal.
SAFEPY_FSSTRESS_MINUTES=10 makes the long form.
"""

from __future__ import annotations

import os
import time

import pytest
from test_fuse_random_pair import Scene, forget_names
from worker_pair import Pair

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(6 * 3600)]

RUN_S = float(os.environ.get("SAFEPY_FSSTRESS_MINUTES", "0")) * 60 or 14.0
PAUSE_EVERY_S = max(7.0, RUN_S / 20)


def test_parallel_changes_of_names_leave_equal_trees(pair: Pair) -> None:
    pair.base.chmod(0o755)
    scene = Scene(pair, 7, "names")
    try:
        until_s = time.monotonic() + RUN_S
        while time.monotonic() < until_s:
            scene.programs.tell("run")
            scene.run(PAUSE_EVERY_S)
            if scene.dice.random() < 0.5:
                forget_names()
            scene.pause()
            scene.compare()
    finally:
        scene.programs.end()
