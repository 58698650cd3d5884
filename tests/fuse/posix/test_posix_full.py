"""A file system without room, without inodes, or with a quota beneath: the errno is its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cases import Sides, compare, tried
from conftest import Served
from labkit import need

from safepy.host import mounts

pytestmark = pytest.mark.kernel

MIB = 1 << 20


def small_disk(base: Path, kind: str, undo: ExitStack) -> Path:
    """A small file system at base/data, which is returned."""
    image, data = base / "image", base / "data"
    data.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate((200 if kind == "quota" else 24) * MIB)
    make = {
        "room": ["mkfs.ext4", "-q", "-m", "0"],
        "inodes": ["mkfs.ext4", "-q", "-N", "64"],
        "quota": ["mkfs.btrfs", "-q"],
    }[kind]
    need.commands(make[0])
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    mount(image, data, "loop", undo)
    if kind == "quota":  # a subvolume that may have 8 MiB
        subprocess.run(["btrfs", "quota", "enable", str(data)], check=True)
        subprocess.run(["btrfs", "-q", "subvolume", "create", str(data / "sub")], check=True)
        subprocess.run(["btrfs", "qgroup", "limit", "8M", str(data / "sub")], check=True)
        undo.close()
        mount(image, data, "loop,subvol=sub", undo)
    else:
        data.joinpath("lost+found").rmdir()
    return data


def mount(image: Path, data: Path, options: str, undo: ExitStack) -> None:
    subprocess.run(["mount", "-o", options, str(image), str(data)], check=True)
    undo.callback(subprocess.run, ["umount", "--lazy", str(data)], check=True)


@pytest.fixture(params=["room", "inodes", "quota"])
def small(request: pytest.FixtureRequest) -> Iterator[tuple[str, Sides]]:
    """A small file system beneath a mount, and one that is used directly."""
    bases = [Path(tempfile.mkdtemp(prefix="safepy-full-", dir="/var/tmp")) for _ in range(2)]
    with ExitStack() as undo:
        for base in bases:
            base.chmod(0o755)
            undo.callback(shutil.rmtree, base)
        served = Served(bases[0], acl=True)
        disks = [undo.enter_context(ExitStack()) for _ in bases]
        mount_at, beneath = (
            small_disk(base, request.param, disk) for base, disk in zip(bases, disks, strict=True)
        )
        undo.callback(mounts.uncover, str(served.directory), str(served.door))
        served.cover()
        served.start()
        undo.callback(served.end)
        yield request.param, Sides(beneath, mount_at)


def nothing_fits() -> object:
    """What each call says when nothing fits any more, and that it goes on once there is room."""
    os.mkdir("dir")
    with open("big", "wb", buffering=0) as big:
        results = [tried(lambda: [big.write(os.urandom(MIB)) for _ in range(40)])]
        results.append(tried(os.fsync, big.fileno()))
        while tried(big.write, b"x" * 4096) == 4096:
            os.fsync(big.fileno())
        results += [
            tried(big.write, b"x" * 4096),
            tried(os.posix_fallocate, big.fileno(), 0, 80 * MIB),
        ]
    results += [tried(os.truncate, "big", 1 << 30), os.stat("big").st_size]
    os.unlink("big")
    os.sync()
    with open("after", "wb") as after:
        results.append(after.write(b"room again"))
    os.unlink("after")
    return results


def no_name_fits() -> object:
    """Names and their kinds, when there are no inodes left."""
    made = 0
    while tried(os.mkdir, f"d{made}") is None:
        made += 1
    results = [
        tried(os.mkdir, "dir"),
        tried(os.mknod, "file"),
        tried(os.mkfifo, "pipe"),
        tried(os.symlink, "x" * 100, "link"),
        tried(os.open, ".", os.O_TMPFILE | os.O_RDWR),
        tried(os.link, "d0", "hard"),
    ]
    os.rmdir("d0")
    # The mount gives an inode back when the kernel has told it that nobody uses it: right after.
    until_s = time.monotonic() + 5
    while tried(os.mkdir, "again") == "ENOSPC" and time.monotonic() < until_s:
        time.sleep(0.01)
    return results, sorted(os.listdir("."))


def test_errors_of_a_file_system_without_room(small: tuple[str, Sides]) -> None:
    kind, sides = small
    case = no_name_fits if kind == "inodes" else nothing_fits
    observed = compare(kind, case, sides)
    wanted = {"room": "ENOSPC", "inodes": "ENOSPC", "quota": "EDQUOT"}[kind]
    assert wanted in str(observed)
