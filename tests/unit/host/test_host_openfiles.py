"""Who holds files open, with real processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.host import mounts, openfiles
from safepy.host.openfiles import OpenFile

ROOT = os.geteuid() == 0


@contextlib.contextmanager
def holding(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[int]:
    """A process that has run `code` and waits; its pid."""
    text = f"import sys, os, mmap, time\n{code}\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", text, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(b"x" * 8192)
    (tmp_path / "database").write_bytes(b"beside it, with a name that begins alike")
    return directory


def found_in(directory: Path, shown: str = "/shown") -> list[OpenFile]:
    return openfiles.find([(shown, str(directory))])


WRITER = "f = open(sys.argv[1], 'r+b')"
READER = "f = open(sys.argv[1], 'rb')"
MAPPED = """
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 4096)
os.closerange(3, 100)  # also the one that the mmap module keeps
"""


def test_a_writer_is_named_with_program_pid_and_file(place: Path) -> None:
    with holding(WRITER, str(place / "sub" / "file")) as pid:
        (one,) = found_in(place)
    assert (one.pid, one.path, one.writes) == (pid, "/shown/sub/file", True)
    assert one.describe().endswith(f"(pid {pid}) has /shown/sub/file open for writing")
    assert one.describe().startswith("python")


def test_a_reader_is_told_apart(place: Path) -> None:
    with holding(READER, str(place / "sub" / "file")) as pid:
        assert [(one.pid, one.writes) for one in found_in(place)] == [(pid, False)]


def test_a_shared_writable_mapping_counts_when_the_file_is_closed(place: Path) -> None:
    with holding(MAPPED, str(place / "sub" / "file")) as pid:
        (one,) = found_in(place)
    assert (one.pid, one.path, one.writes, one.how) == (pid, "/shown/sub/file", True, "mapped")


def test_a_private_mapping_and_an_unlinked_file_change_nothing_there(place: Path) -> None:
    private = "f = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE)\n"
    private += "os.closerange(3, 100)\ng = open(sys.argv[2], 'w')\nos.unlink(sys.argv[2])"
    with holding(private, str(place / "sub" / "file"), str(place / "gone")):
        assert found_in(place) == []


def test_a_working_directory_is_told(place: Path) -> None:
    with holding("os.chdir(sys.argv[1])", str(place / "sub")) as pid:
        (one,) = found_in(place)
    assert one.describe().endswith(f"(pid {pid}) works in /shown/sub")
    assert not one.writes


def test_a_program_that_runs_from_there_is_told(place: Path) -> None:
    shutil.copy(shutil.which("sleep") or "", place / "sub" / "napper")
    with subprocess.Popen([place / "sub" / "napper", "600"]) as process:
        try:
            (one,) = found_in(place)
        finally:
            process.kill()
    assert (one.pid, one.writes) == (process.pid, False)
    assert one.describe() == f"napper (pid {process.pid}) runs /shown/sub/napper"


@pytest.mark.skipif(not ROOT, reason="chroot needs root")
def test_a_root_directory_is_told(place: Path) -> None:
    """What it opens later goes past a mount that hides its root."""
    with holding("os.chroot(sys.argv[1])", str(place / "sub")) as pid:
        (one,) = found_in(place)
    assert one.describe().endswith(f"(pid {pid}) has /shown/sub as its root directory")
    assert not one.writes


@pytest.mark.parametrize("mapped", [False, True])
def test_a_writer_by_another_name_of_the_file_is_found(place: Path, mapped: bool) -> None:
    """A hard link beside the directory, and a name that is gone, lead to the same file."""
    os.link(place / "sub" / "file", place.parent / "beside")
    os.link(place / "sub" / "file", place / "gone")
    gone = WRITER + "\nos.unlink(sys.argv[1])"
    with (
        holding(MAPPED if mapped else WRITER, str(place.parent / "beside")) as beside,
        holding(gone, str(place / "gone")) as former,
        holding(READER, str(place.parent / "beside")),
    ):
        found = found_in(place)
    assert {(one.pid, one.path, one.writes) for one in found} == {
        (pid, "/shown/sub/file", True) for pid in (beside, former)
    }


def test_a_name_that_looks_like_one_that_is_gone(place: Path) -> None:
    (place / "file (deleted)").write_bytes(b"")
    with holding(WRITER, str(place / "file (deleted)")) as pid:
        assert [(one.pid, one.path) for one in found_in(place)] == [(pid, "/shown/file (deleted)")]


def test_what_lies_beside_is_not_meant(place: Path) -> None:
    """Not even if it has several names."""
    os.link(place.parent / "database", place.parent / "database2")
    with holding(WRITER, str(place.parent / "database")):
        assert found_in(place) == []


def test_a_name_longer_than_the_kernel_can_tell_keeps_nobody_from_looking(place: Path) -> None:
    deep = """
os.chdir(sys.argv[1])
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
f = open("file", "w")
g = open(sys.argv[2], "r+b")
"""
    with holding(deep, str(place.parent), str(place / "sub" / "file")) as pid:
        assert [(one.pid, one.path) for one in found_in(place)] == [(pid, "/shown/sub/file")]
    subprocess.run(["rm", "-rf", str(place.parent / ("d" * 250))], check=True)


def test_own_files_do_not_count(place: Path) -> None:
    with (place / "sub" / "file").open("r+b"):
        assert found_in(place) == []


@pytest.mark.kernel
@pytest.mark.skipif(not ROOT, reason="mounts need root")
def test_opened_before_the_cover_and_through_another_mount(place: Path, tmp_path: Path) -> None:
    door, other = tmp_path / "doors" / "0", tmp_path / "other"
    other.mkdir()
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(holding(WRITER, str(place / "sub" / "file")))
        mounts.open_door(str(place), str(door))
        stack.callback(mounts.uncover, str(place), str(door))
        mounts.cover(str(place))
        subprocess.run(["mount", "--bind", str(place / ".." / "data"), str(other)], check=True)
        stack.callback(subprocess.run, ["umount", str(other)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,rw", str(other)], check=True)
        bound = stack.enter_context(holding(WRITER, str(other / "sub" / "file")))
        found = openfiles.find([(str(place), str(door))])
    named = {(one.pid, one.path, one.writes) for one in found}
    assert named == {(pid, f"{place}/sub/file", True) for pid in (before, bound)}


@pytest.mark.kernel
@pytest.mark.skipif(not ROOT, reason="mounts need root")
def test_a_process_of_a_container_that_sees_it_under_another_name(
    place: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    script = f'mount --bind {place}/sub {inside} && exec "$@"'
    with holding(
        WRITER, str(inside / "file"), prefix=("unshare", "--mount", "sh", "-c", script, "sh")
    ) as pid:
        assert [(one.pid, one.path) for one in found_in(place)] == [(pid, "/shown/sub/file")]


@pytest.mark.kernel
@pytest.mark.skipif(not ROOT, reason="mounts need root")
def test_of_a_container_whose_first_process_sees_little(place: Path, tmp_path: Path) -> None:
    """One that has changed its root knows only the mounts below that."""
    jail = tmp_path / "jail"
    jail.mkdir()
    code = """
told, tells = os.pipe()
child = os.fork()
if child == 0:
    f = open(sys.argv[1], 'r+b')
    os.write(tells, b'.')
    time.sleep(600)
os.read(told, 1)
os.chroot(sys.argv[2])
print(child)
"""
    file = str(place / "sub" / "file")
    with holding(code, file, str(jail), prefix=("unshare", "--mount")) as child:
        try:
            pids = {one.pid for one in found_in(place)}
        finally:
            os.kill(child, signal.SIGKILL)
    assert pids == {child}


@pytest.mark.kernel
@pytest.mark.skipif(not ROOT, reason="mounts need root")
def test_another_file_system_mounted_over_it_is_not_it(place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place / "sub")], check=True)
    try:
        (place / "sub" / "file").write_bytes(b"")
        with holding(
            WRITER + "\nos.chdir(sys.argv[2])", str(place / "sub/file"), str(place / "sub")
        ):
            assert found_in(place) == []
    finally:
        subprocess.run(["umount", str(place / "sub")], check=True)


def test_many_descriptors_are_looked_through_quickly(place: Path) -> None:
    many = "fs = [open(sys.argv[1], 'rb') for _ in range(900)]\nf = open(sys.argv[2], 'r+b')"
    with holding(many, str(place.parent / "database"), str(place / "sub" / "file")) as pid:
        began = time.process_time()
        assert [one.pid for one in found_in(place)] == [pid]
        # Only against a look that grows with the square of something.
        assert time.process_time() - began < 30
