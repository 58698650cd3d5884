"""Freed large buffers are used again."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from safepy.host.memory import keep_large_buffers
if {keep}:
    keep_large_buffers()
bytes(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    bytearray(1 << 20)[:] = b"x" * (1 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_large_buffers_cost_no_page_faults_again_and_again() -> None:
    assert faults(keep=True) * 10 < faults(keep=False)
