"""Doors and covers, with real mounts in a private folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.host import mounts

LINES = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 8:1 /srv/a\040b /srv/a\040b ro,relatime - ext4 /dev/vda rw
31 30 0:50 / /srv/a\040b rw,nosuid - fuse.safekit safekit rw,user_id=0
32 22 8:17 / /mnt rw - xfs /dev/vdb rw
33 32 8:17 / /mnt ro - xfs /dev/vdb rw
34 22 8:17 /other /srv/c ro - xfs /dev/vdb rw
35 22 8:1 /srv/d /srv/d rw - ext4 /dev/vda rw
"""


def test_mountinfo_is_read_with_its_escapes() -> None:
    table = mounts.parse_mountinfo(LINES)
    assert table[1].point == table[1].root == "/srv/a b"
    assert table[0].optional == ("shared:1",) and table[1].optional == ()
    assert [mount.number for mount in mounts.stack("/srv/a b", table)] == [30, 31]
    # The lines of one place may come in any order.
    assert [mount.number for mount in mounts.stack("/srv/a b", table[::-1])] == [30, 31]


def test_our_mounts_are_told_from_others() -> None:
    table = {mount.number: mount for mount in mounts.parse_mountinfo(LINES)}
    everything = list(table.values())
    ours = [number for number, mount in table.items() if mounts.is_ours(mount, everything)]
    assert ours == [30, 31, 33]  # not: another tree (34), a writable bind (35), the disk (32)


class Place:
    def __init__(self, folder: Path) -> None:
        self.directory = str(folder / "da ta")
        self.door = str(folder / "doors" / "0")
        Path(self.directory).mkdir()
        Path(self.directory, "file").write_text("real")

    def write(self, where: str) -> None:
        Path(where, "file").write_text("changed")


@pytest.fixture
def folder() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="safepy-mounts-"))
    try:
        yield base
    finally:
        for _ in range(20):
            left = [mount for mount in mounts.mounts() if f"{mount.point}/".startswith(f"{base}/")]
            if not left:
                break
            for mount in reversed(left):
                subprocess.run(["umount", "-l", mount.point], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--one-file-system", str(base)], check=True)


@pytest.fixture
def place(folder: Path) -> Place:
    return Place(folder)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.mark.kernel
def test_cover_forbids_writing_and_the_door_allows_it(place: Place) -> None:
    for _ in range(2):  # every step may be done twice
        mounts.open_door(place.directory, place.door)
        mounts.cover(place.directory)
    assert len(mounts.stack(place.directory)) == 1 and len(mounts.stack(place.door)) == 1
    with pytest.raises(OSError, match="Read-only"):
        place.write(place.directory)
    place.write(place.door)
    assert Path(place.directory, "file").read_text() == "changed"
    assert os.stat(os.path.dirname(place.door)).st_mode & 0o777 == 0o700


@pytest.mark.kernel
def test_uncover_leaves_nothing_also_twice_and_when_busy(place: Place) -> None:
    mounts.open_door(place.directory, place.door)
    mounts.cover(place.directory)
    with (
        open(Path(place.directory, "file"), encoding="ascii"),
        open(Path(place.door, "file"), encoding="ascii"),
    ):
        mounts.uncover(place.directory, place.door)
    mounts.uncover(place.directory, place.door)
    assert not mounts.stack(place.directory) and not mounts.stack(place.door)
    place.write(place.directory)


@pytest.mark.kernel
def test_a_lost_door_is_opened_again_under_the_cover(place: Place) -> None:
    mounts.open_door(place.directory, place.door)
    mounts.cover(place.directory)
    mounts.close_door(place.door)
    mounts.open_door(place.directory, place.door)
    place.write(place.door)
    with pytest.raises(OSError, match="Read-only"):
        place.write(place.directory)


@pytest.mark.kernel
def test_mounts_over_the_directory_do_not_reach_the_door(folder: Path) -> None:
    # A shared mount repeats what is mounted in it wherever it is bound.
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "--make-shared", str(folder)], check=True)
    place = Place(folder)
    mounts.open_door(place.directory, place.door)
    mounts.cover(place.directory)
    subprocess.run(["mount", "-t", "tmpfs", "none", place.directory], check=True)
    assert os.listdir(place.directory) == [] and os.listdir(place.door) == ["file"]
    assert len(mounts.stack(place.directory)) == 2
    subprocess.run(["umount", place.directory], check=True)
    assert os.listdir(place.directory) == ["file"]
    mounts.uncover(place.directory, place.door)
    assert not mounts.stack(place.directory) and not mounts.stack(place.door)


@pytest.mark.kernel
def test_other_namespaces_see_cover_and_mount_come_and_go(folder: Path) -> None:
    # A service with a mount namespace of its own (PrivateTmp) must not write past the mount.
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "--make-shared", str(folder)], check=True)
    place = Place(folder)
    service = subprocess.Popen(
        ["unshare", "-m", "--propagation", "slave", "sh", "-c", "echo; exec sleep 60"],
        stdout=subprocess.PIPE,
    )

    def seen() -> list[mounts.Mount]:
        table = Path(f"/proc/{service.pid}/mountinfo").read_bytes()
        return mounts.stack(place.directory, mounts.parse_mountinfo(table))

    try:
        assert service.stdout and service.stdout.readline()
        mounts.open_door(place.directory, place.door)
        mounts.cover(place.directory)
        assert [mount.read_only for mount in seen()] == [True]
        subprocess.run(["mount", "-t", "tmpfs", "none", place.directory], check=True)
        assert [mount.kind == "tmpfs" for mount in seen()] == [False, True]
        subprocess.run(["umount", place.directory], check=True)
        mounts.uncover(place.directory, place.door)
        assert seen() == []
    finally:
        service.kill()
        service.communicate()


@pytest.mark.kernel
def test_a_mount_point_can_be_replicated(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid", "none", str(disk)], check=True)
    (disk / "file").write_text("real")
    door = str(folder / "doors" / "0")
    mounts.open_door(str(disk), door)
    mounts.cover(str(disk))
    with pytest.raises(OSError, match="Read-only"):
        (disk / "file").write_text("x")
    assert "nosuid" in mounts.stack(str(disk))[-1].options
    mounts.open_door(str(disk), door)
    Path(door, "file").write_text("through the door")
    mounts.uncover(str(disk), door)
    # The administrator's own mount stays.
    assert len(mounts.stack(str(disk))) == 1
    assert (disk / "file").read_text() == "through the door"


@pytest.mark.kernel
def test_what_cannot_be_covered_is_refused(folder: Path, place: Place) -> None:
    with pytest.raises(LocalFault, match="No such file"):
        mounts.open_door(str(folder / "absent"), place.door)
    with pytest.raises(LocalFault, match="not a directory"):
        mounts.cover(f"{place.directory}/file")
    (folder / "link").symlink_to(place.directory)
    with pytest.raises(LocalFault, match="is a link"):
        mounts.cover(str(folder / "link"))
    inner = Path(place.directory, "inner")
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)
    with pytest.raises(LocalFault, match="inside the replicated directory"):
        mounts.cover(place.directory)
    assert not mounts.stack(place.directory)


@pytest.mark.kernel
def test_a_read_only_file_system_has_no_door(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(disk)], check=True)
    door = str(folder / "doors" / "0")
    with pytest.raises(LocalFault, match="read-only"):
        mounts.open_door(str(disk), door)
    assert not mounts.stack(door)


@pytest.mark.kernel
def test_a_door_to_something_else_is_refused(folder: Path, place: Place) -> None:
    other = folder / "other"
    other.mkdir()
    mounts.open_door(str(other), place.door)
    with pytest.raises(LocalFault, match="something else"):
        mounts.open_door(place.directory, place.door)
