"""Random operations on a few files of a live pair: no wrong byte, and two equal trees.

SAFEPY_FSX_OPS=1000000 makes the long form.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import HERE, SOURCES
from tree_picture import differences, picture
from worker_pair import Job, Pair, pair_up

from safepy.worker import messages
from safepy.worker.common import sync_path

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(6 * 3600)]

OPERATIONS = int(os.environ.get("SAFEPY_FSX_OPS", "20000"))
#: Both trees are compared after so many operations.
INTERVAL = max(2_500, OPERATIONS // 100)
#: Of the load, for a machine that has other things to do as well.
LIMIT_S = 60 + INTERVAL / 20


def test_files_hold_what_was_written_on_both_nodes(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    pair_up(a, b)
    load = subprocess.Popen(
        [sys.executable, str(HERE / "fsx.py"), "1", str(a.public), "3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    assert load.stdin and load.stdout
    try:
        for done in range(INTERVAL, OPERATIONS + 1, INTERVAL):
            print("run", INTERVAL, file=load.stdin, flush=True)
            said: list[str] = []
            Job(lambda said=said: said.append(load.stdout.readline())).finish(a, b, limit_s=LIMIT_S)
            assert said == [f"done {done}\n"], "see the standard error of fsx.py"
            Job(lambda: sync_path(str(a.public))).finish(a, b, limit_s=120)
            on_a, on_b = picture(a.door), picture(b.public)
            assert differences(on_a, on_b) == [], f"first: primary, after {done} operations"
        assert not [r for r in a.reports + b.reports if isinstance(r, messages.DiskFault)]
    finally:
        load.kill()
        load.communicate()
