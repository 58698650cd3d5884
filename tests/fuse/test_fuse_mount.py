"""The life of a mount: over its cover, aborted, dead, detached."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Served
from test_fuse_files import errno_of

from safepy.fuse import protocol
from safepy.fuse.session import Session
from safepy.host import mounts

pytestmark = pytest.mark.kernel


def until(holds: object, at_most_s: float = 5.0) -> None:
    end_s = time.monotonic() + at_most_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.01)


def test_the_cover_shows_before_and_after(covered: Served) -> None:
    (covered.door / "file").write_bytes(b"real")
    file = covered.directory / "file"
    assert file.read_bytes() == b"real"
    assert errno_of(lambda: file.write_bytes(b"x")) == errno.EROFS
    covered.start()
    file.write_bytes(b"served")
    assert (covered.door / "file").read_bytes() == b"served"
    covered.end()
    assert errno_of(lambda: file.write_bytes(b"x")) == errno.EROFS
    assert file.read_bytes() == b"served"
    assert len(mounts.stack(str(covered.directory))) == 1


def test_it_says_that_nobody_notes_when_a_file_was_read(served: Served) -> None:
    assert os.statvfs(served.directory).f_flag & os.ST_NOATIME


def test_a_dead_server_protects_the_files_until_it_is_detached(served: Served) -> None:
    (served.directory / "file").write_bytes(b"x")
    assert served.process
    served.process.kill()
    served.process.wait()
    assert errno_of(lambda: os.listdir(served.directory)) == errno.ENOTCONN
    # What a daemon does that was started anew:
    mounts.open_door(str(served.directory), str(served.door))
    mounts.cover(str(served.directory))
    assert errno_of(lambda: os.listdir(served.directory)) == errno.ENOTCONN
    for _ in range(2):
        mounts.detach_dead(str(served.directory))
    assert os.listdir(served.directory) == ["file"]
    assert errno_of(lambda: (served.directory / "new").mkdir()) == errno.EROFS


def test_uncover_removes_a_dead_mount_with_open_files(served: Served) -> None:
    fd = os.open(served.directory / "file", os.O_WRONLY | os.O_CREAT)
    assert served.process
    served.process.kill()
    served.process.wait()
    for _ in range(2):
        mounts.uncover(str(served.directory), str(served.door))
    (served.directory / "free").write_bytes(b"")
    assert not mounts.stack(str(served.door))
    close_quietly(fd)


def test_an_aborted_mount_fails_what_waits(served: Served) -> None:
    fd = os.open(served.directory / "file", os.O_WRONLY | os.O_CREAT)
    failed: list[int] = []

    def write() -> None:
        try:
            os.write(fd, b"never answered")
        except OSError as error:
            failed.append(error.errno or 0)

    writer = threading.Thread(target=write)
    assert served.process
    served.process.send_signal(signal.SIGSTOP)
    try:
        writer.start()
        time.sleep(0.1)
        assert not failed
        mounts.detach_dead(str(served.directory))
        writer.join(5)
        assert failed in ([errno.ECONNABORTED], [errno.ENOTCONN], [errno.EIO])
    finally:
        served.process.send_signal(signal.SIGKILL)
        writer.join(5)
        close_quietly(fd)
    assert os.listdir(served.directory) == ["file"]  # the cover


def close_quietly(fd: int) -> None:
    """Closing may tell that the mount is dead."""
    try:
        os.close(fd)
    except OSError as error:
        assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def test_a_detached_mount_is_served_to_its_last_file(served: Served) -> None:
    import mmap

    file = served.directory / "file"
    file.write_bytes(bytes(4096))
    opened = file.open("r+b")
    mapped = mmap.mmap(opened.fileno(), 0)
    mapped[:5] = b"dirty"
    assert served.process and served.process.stdin and served.process.stdout
    served.process.stdin.write("detach\n")
    served.process.stdin.flush()
    until(lambda: len(mounts.stack(str(served.directory))) == 1)
    assert errno_of(lambda: file.write_bytes(b"x")) == errno.EROFS
    opened.seek(100)
    opened.write(b"still served")
    mapped.close()
    opened.close()
    assert served.process.stdout.readline() == "ended, 1 mounts left\n"
    assert (served.door / "file").read_bytes()[:5] == b"dirty"
    assert (served.door / "file").read_bytes()[100:112] == b"still served"


def test_many_writers_at_once(served: Served) -> None:
    def write(number: int) -> None:
        fd = os.open(served.directory / str(number), os.O_WRONLY | os.O_CREAT)
        for block in range(100):
            os.pwrite(fd, bytes([number]) * 4096, block * 4096)
        os.close(fd)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    for number in range(16):
        assert Path(served.door, str(number)).read_bytes() == bytes([number]) * 409_600


def test_a_mount_that_stands_has_been_agreed_on(tmp_path: Path) -> None:
    """Before INIT is answered an ACL cannot be set on the root: nobody may see such a mount."""
    session = Session(str(tmp_path), acl=True)
    session.mount()
    try:
        assert session.flags & protocol.POSIX_ACL
    finally:
        session.unmount(abort=True)
