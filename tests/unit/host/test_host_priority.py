"""The daemon is preferred, and nothing that it starts inherits that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from safepy.host.priority import PREFERRED_NICE

PROGRAM = """
import os, subprocess, sys, threading
from safepy.host.priority import prefer_this_process
prefer_this_process()
print(os.getpriority(os.PRIO_PROCESS, 0))
thread = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0)))
thread.start(); thread.join()
sys.stdout.flush()
subprocess.run(["nice"], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_only_the_process_itself_is_preferred() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    mine, thread, child = map(int, done.stdout.split())
    ordinary = os.getpriority(os.PRIO_PROCESS, 0)
    assert mine == PREFERRED_NICE
    assert (thread, child) == (max(ordinary, 0), max(ordinary, 0))
