"""fsync by the kernel itself: what ends, how it ends, and what is refused."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepy.storage.aio import KernelSyncs


@pytest.fixture
def syncs() -> Iterator[KernelSyncs]:
    made = KernelSyncs()
    yield made
    made.close()


def ended(syncs: KernelSyncs, count: int) -> dict[int, int]:
    found: dict[int, int] = {}
    while len(found) < count:
        assert select.select([syncs.fd], [], [], 10)[0], f"only {found}"
        found.update(syncs.ended())
    return found


def test_files_and_directories_are_synced_though_their_descriptor_is_closed(
    syncs: KernelSyncs, tmp_path: Path
) -> None:
    file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.write(file, b"x" * 100_000)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for number, (fd, data_only) in enumerate(((file, True), (file, False), (folder, False))):
        syncs.submit(fd, data_only, number)
    os.close(file)
    os.close(folder)
    assert ended(syncs, 3) == {0: 0, 1: 0, 2: 0}
    assert syncs.ended() == []


def test_what_cannot_be_synced_is_refused(syncs: KernelSyncs) -> None:
    pipe = os.pipe()  # nothing to sync
    try:
        with pytest.raises(OSError) as refused:
            syncs.submit(pipe[1], True, 7)
        assert refused.value.errno == errno.EINVAL
    finally:
        os.close(pipe[0])
        os.close(pipe[1])
    with pytest.raises(OSError) as refused:
        syncs.submit(pipe[1], True, 7)
    assert refused.value.errno == errno.EBADF


def test_many_at_once_all_end_or_are_refused(syncs: KernelSyncs, tmp_path: Path) -> None:
    file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    taken: set[int] = set()
    found: dict[int, int] = {}
    try:
        for number in range(400):
            os.pwrite(file, b"x", number * 4096)
            try:
                syncs.submit(file, True, number)
                taken.add(number)
            except OSError as error:
                assert error.errno == errno.EAGAIN
                found.update(syncs.ended())
    finally:
        os.close(file)
    assert len(taken) >= 64
    found.update(ended(syncs, len(taken - found.keys())) if taken - found.keys() else {})
    assert found == dict.fromkeys(taken, 0)
