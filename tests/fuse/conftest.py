"""A directory that is served through FUSE over its cover, by a child process.

`root` runs a test twice: on the file system beneath directly, and through the mount. What holds
on the one must hold on the other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "posix"))
sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from cases import Sides
from worker_pair import Pair

from safepy.host import mounts

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "src"


class Served:
    """`directory` is what applications see, `door` the real files."""

    def __init__(self, base: Path, acl: bool) -> None:
        self.base = base
        self.directory = base / "data"
        self.door = base / "doors" / "0"
        self.acl = acl
        self.process: subprocess.Popen[str] | None = None
        self.directory.mkdir()

    def cover(self) -> None:
        mounts.open_door(str(self.directory), str(self.door))
        mounts.cover(str(self.directory))

    def start(self) -> None:
        command = [sys.executable, str(HERE / "serve_tree.py"), str(self.directory), str(self.door)]
        self.process = subprocess.Popen(
            command + (["acl"] if self.acl else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{SOURCES}:{HERE}"},
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "serving\n"

    def end(self) -> None:
        """The server ends; says what it said last and raises if it failed."""
        if self.process is None:
            return
        process, self.process = self.process, None
        try:
            _, _ = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
        assert process.returncode in (0, -9), "the server failed, see its output"

    def clean(self) -> None:
        try:
            self.end()
        finally:
            mounts.uncover(str(self.directory), str(self.door))
            shutil.rmtree(self.base)


def _base() -> Path:
    base = Path(tempfile.mkdtemp(prefix="safepy-fuse-", dir="/var/tmp"))
    base.chmod(0o755)  # other users go through it
    return base


@pytest.fixture
def covered() -> Iterator[Served]:
    """The door is open and the cover is there, but nobody serves."""
    served = Served(_base(), acl=False)
    try:
        served.cover()
        yield served
    finally:
        served.clean()


def _served(acl: bool) -> Iterator[Served]:
    served = Served(_base(), acl)
    try:
        served.cover()
        served.start()
        yield served
    finally:
        served.clean()


@pytest.fixture
def served() -> Iterator[Served]:
    yield from _served(acl=False)


@pytest.fixture
def served_acl() -> Iterator[Served]:
    yield from _served(acl=True)


@pytest.fixture(params=["beneath", "mount"])
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    if request.param == "mount":
        served: Served = request.getfixturevalue("served")
        yield served.directory
        return
    base = _base()
    try:
        yield base
    finally:
        shutil.rmtree(base)


@pytest.fixture(scope="session")
def sides() -> Iterator[Sides]:
    """A mount and a plain directory for `posix/`, the same ones for all of its cases."""
    served = Served(_base(), acl=True)
    beneath = _base()
    try:
        served.cover()
        served.start()
        yield Sides(beneath, served.directory)
    finally:
        served.clean()
        shutil.rmtree(beneath)


@pytest.fixture
def pair() -> Iterator[Pair]:
    base = Path(tempfile.mkdtemp(prefix="safepy-pair-", dir="/tmp"))
    made = Pair(base)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.close()
        shutil.rmtree(base)
