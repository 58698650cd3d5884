"""A file system that is full or turns read-only on one node alone (protocol F41, F42, F43, F46).

Each test puts a small file system of its own beneath one of the two copies.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tree_picture import differences, picture
from worker_pair import HandledWorker, Job, Pair, pair_up, release_held

from safepy.worker import messages

pytestmark = pytest.mark.kernel

MEGABYTE = 1 << 20


class Disks:
    """Small ext4 file systems that are unmounted at the end."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.mounted: list[Path] = []

    def put_beneath(self, node: str) -> None:
        """Before the worker of this node is made."""
        image, data = self.base / f"{node}.img", self.base / node / "data"
        data.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(24 * MEGABYTE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop,errors=remount-ro", str(image), str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        self.mounted.append(data)
        data.joinpath("lost+found").rmdir()

    def turn_read_only(self) -> None:
        """As the kernel does by itself when it meets an error of the file system."""
        device = subprocess.check_output(["findmnt", "-no", "SOURCE", str(self.mounted[0])])
        name = os.path.basename(device.decode().split()[0])
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")

    def clean(self) -> None:
        for data in self.mounted:
            subprocess.run(["umount", "--lazy", str(data)], check=True)


@pytest.fixture
def disks(pair: Pair) -> Iterator[Disks]:
    made = Disks(pair.base)
    yield made
    for worker in pair.workers:
        worker.close()
    pair.workers.clear()
    made.clean()


def fill(directory: Path) -> list[str]:
    """Write until nothing fits any more, in several ways; the errors."""
    errors: list[str] = []

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            errors.append(errno.errorcode[error.errno or 0])

    with (directory / "big").open("wb", buffering=0) as file:
        attempt(lambda: [file.write(os.urandom(MEGABYTE)) for _ in range(40)])
        attempt(lambda: os.posix_fallocate(file.fileno(), 0, 80 * MEGABYTE))
        os.fsync(file.fileno())
    attempt(lambda: (directory / "small").write_bytes(b"x" * 3000))
    attempt(lambda: os.mkdir(directory / "folder"))
    os.unlink(directory / "big")
    (directory / "after").write_bytes(b"room again")
    return errors


@pytest.mark.parametrize("acknowledge_on", ["receipt", "apply"])
def test_f41_a_full_primary_alone_fails_its_programs_and_stays_equal(
    pair: Pair, disks: Disks, acknowledge_on: str
) -> None:
    """F41"""
    disks.put_beneath("a")
    a, b = (pair.worker(name, acknowledge_on=acknowledge_on) for name in "ab")
    pair_up(a, b)
    errors: list[str] = []
    Job(lambda: errors.extend(fill(a.public))).finish(a, b, limit_s=60)
    assert errors == ["ENOSPC"] * 4
    Job(os.sync).finish(a, b)
    assert differences(picture(a.door), picture(b.public), {"data"}) == []
    assert not faults(a, b)


@pytest.mark.parametrize("acknowledge_on", ["receipt", "apply"])
def test_f42_a_full_secondary_is_left_behind_and_programs_go_on(
    pair: Pair, disks: Disks, acknowledge_on: str
) -> None:
    """F42"""
    disks.put_beneath("b")
    a, b = (pair.worker(name, acknowledge_on=acknowledge_on) for name in "ab")
    epoch = pair_up(a, b)
    errors: list[str] = []
    job = Job(lambda: errors.extend(fill(a.public)))
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    b.wait(lambda r: isinstance(r, messages.DiskFault) and r.disk == "OUTDATED")
    release_held(a, epoch + 1)
    job.finish(a, limit_s=60)
    assert errors == []
    assert (a.public / "after").read_bytes() == b"room again"


def test_f43_f46_a_read_only_primary_says_so_and_acknowledges_nothing(
    pair: Pair, disks: Disks
) -> None:
    """F43, F46"""
    disks.put_beneath("a")
    a, b = pair.worker("a"), pair.worker("b")
    pair_up(a, b)
    Job(lambda: (a.public / "f").write_bytes(b"before")).finish(a, b)
    disks.turn_read_only()
    for work in (
        lambda: (a.public / "f").write_bytes(b"after"),
        lambda: (a.public / "g").write_bytes(b"after"),
        lambda: os.unlink(a.public / "f"),
    ):
        with pytest.raises(OSError) as refused:
            Job(work).finish(a, b)
        assert refused.value.errno in (errno.EROFS, errno.EIO)
    a.wait(lambda r: isinstance(r, messages.DiskFault))
    assert (b.public / "f").read_bytes() == b"before"
    assert os.listdir(b.public) == ["f"]


def test_f46_a_read_only_secondary_is_left_behind(pair: Pair, disks: Disks) -> None:
    """F46"""
    disks.put_beneath("b")
    a, b = pair.worker("a"), pair.worker("b")
    epoch = pair_up(a, b)
    disks.turn_read_only()
    job = Job(lambda: (a.public / "f").write_bytes(b"after"))
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    b.wait(lambda r: isinstance(r, messages.DiskFault) and r.disk == "OUTDATED")
    release_held(a, epoch + 1)
    job.finish(a)
    assert (a.public / "f").read_bytes() == b"after"


def faults(*workers: HandledWorker) -> list[messages.Report]:
    return [r for worker in workers for r in worker.reports if isinstance(r, messages.DiskFault)]
