"""The mount behaves as the file system beneath: same calls of several users, same answers.

Compared are results, errors, modes, owners, links, sizes and which times each call moves.
SAFEPY_WALK_SEEDS="1-20" and SAFEPY_WALK_STEPS=3000 make a long run of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import HERE, SOURCES, Served

pytestmark = pytest.mark.kernel

STEPS = os.environ.get("SAFEPY_WALK_STEPS", "500")


def seeds() -> list[int]:
    first, _, last = os.environ.get("SAFEPY_WALK_SEEDS", "1-2").partition("-")
    return list(range(int(first), int(last or first) + 1))


def walk(seed: int, inside: Path, acl: bool) -> subprocess.Popen[str]:
    # One folder down, so that a link to "../d" stays within the tree.
    inside.joinpath("in").mkdir()
    inside.chmod(0o777)
    return subprocess.Popen(
        [sys.executable, str(HERE / "posix_walk.py"), str(seed), str(inside / "in"), STEPS],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES), "WALK_ACL": "1" if acl else ""},
    )


def compare(served: Served, seed: int, acl: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="safepy-walk-", dir="/var/tmp") as beneath:
        Path(beneath).chmod(0o755)
        walks = [walk(seed, Path(beneath), acl), walk(seed, served.directory, acl)]
        plain, mounted = (process.communicate()[0].splitlines() for process in walks)
    assert len(plain) == int(STEPS)
    for expected, seen in zip(plain, mounted, strict=True):
        assert seen == expected


@pytest.mark.parametrize("seed", seeds())
def test_users_see_what_the_file_system_beneath_shows(served: Served, seed: int) -> None:
    compare(served, seed, acl=False)


@pytest.mark.parametrize("seed", seeds())
def test_acls_are_those_of_the_file_system_beneath(served_acl: Served, seed: int) -> None:
    compare(served_acl, seed, acl=True)
