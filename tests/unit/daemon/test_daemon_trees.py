"""What has to hold before a module takes its directories over, with real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from safepy.daemon.trees import Tree, Trees
from safepy.errors import LocalFault
from safepy.host import mounts

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root"),
]


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_bytes(b"content")
    tree = Tree(str(directory), str(tmp_path / "doors" / "0"), ("sub/file", "PG_VERSION"))
    found = Trees("web", [tree], str(tmp_path / "id"))
    yield found
    found.uncover()


def real(trees: Trees) -> Path:
    return Path(trees.trees[0].directory)


@contextmanager
def writer(path: Path, then: str = "time.sleep(600)") -> Iterator["subprocess.Popen[str]"]:
    code = f"import sys, time\nf = open(sys.argv[1], 'r+b')\nprint('', flush=True)\n{then}"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_what_tocheck_names_must_be_there(trees: Trees) -> None:
    with pytest.raises(LocalFault) as caught:
        trees.cover(marked=False)
    directory = real(trees)
    assert caught.value.message == (
        f"PG_VERSION is not in the replicated directory {directory} (tocheck)"
    )
    assert "is its file system mounted?" in caught.value.hint
    assert mounts.stack(str(directory)) == []
    (directory / "PG_VERSION").write_text("16\n")
    trees.cover(marked=False)
    assert len(mounts.stack(str(directory))) == 1
    # Covered already, and looked at again: at a restart of the module.
    (Path(trees.trees[0].door) / "PG_VERSION").unlink()
    with pytest.raises(LocalFault, match="PG_VERSION"):
        trees.cover(marked=False)


def test_who_can_write_behind_our_back_is_named(trees: Trees) -> None:
    (real(trees) / "PG_VERSION").touch()
    with writer(real(trees) / "sub" / "file") as process:
        trees.cover(marked=False)
        with pytest.raises(LocalFault) as caught:
            trees.check_open_files(limit_s=0.0)
    name = f"(pid {process.pid}) has {real(trees)}/sub/file open for writing"
    assert name in caught.value.message
    assert "would not be replicated" in caught.value.message
    assert trees.check_open_files(limit_s=5.0) == []


def test_who_is_just_ending_is_waited_for(trees: Trees) -> None:
    (real(trees) / "PG_VERSION").touch()
    with writer(real(trees) / "sub" / "file", then="time.sleep(1)"):
        trees.cover(marked=False)
        assert trees.check_open_files(limit_s=60.0) == []


def test_who_only_reads_is_told(trees: Trees) -> None:
    (real(trees) / "PG_VERSION").touch()
    with subprocess.Popen(["sleep", "600"], cwd=real(trees) / "sub") as process:
        try:
            trees.cover(marked=False)
            (text,) = trees.check_open_files()
        finally:
            process.kill()
    assert f"sleep (pid {process.pid}) works in {real(trees)}/sub" in text


def test_whether_directories_were_closed_since_the_last_worker_is_known(trees: Trees) -> None:
    """Also over several tries to start, and for the daemon that comes after this one."""
    (real(trees) / "PG_VERSION").write_text("16\n")
    trees.cover(marked=False)
    trees.cover(marked=False)
    assert not trees.kept_closed
    trees.taken_over()
    trees.cover(marked=False)
    assert trees.kept_closed
    next_one = Trees("web", trees.trees, trees._id_path)
    next_one.cover(marked=False)
    assert next_one.kept_closed
    trees.uncover()
    next_one.cover(marked=False)
    assert not next_one.kept_closed
