"""The mounts of the replicated directories are asked; one that hangs is found."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from safepy.checkers.mount import MountChecker
from safepy.host import mounts


@asynccontextmanager
async def running(checker: MountChecker) -> AsyncIterator[None]:
    task = asyncio.create_task(checker.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], object], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - what holds has no event
            await asyncio.sleep(0.01)


async def test_one_that_hangs_is_told_again_and_again_with_one_thread(tmp_path: Path) -> None:
    release, asked, hung = threading.Event(), [], []

    def question(directory: str) -> None:
        asked.append(directory)
        if directory == "/bad":
            release.wait(60)

    checker = MountChecker(["/good", "/bad"], 0.05, 0.01, lambda: True, hung.append, question)
    async with running(checker):
        await until(lambda: len(hung) >= 3)
        assert set(hung) == {"/bad"}
        assert asked.count("/bad") == 1
        assert asked.count("/good") >= 3
        release.set()
        await until(lambda: asked.count("/bad") > 1)


async def test_nobody_is_asked_while_nothing_is_served() -> None:
    asked: list[str] = []
    serving = False
    checker = MountChecker(["/a"], 1.0, 0.01, lambda: serving, asked.append, asked.append)
    async with running(checker):
        await asyncio.sleep(0.2)
        assert asked == []
        serving = True
        await until(lambda: asked)


async def test_an_error_is_an_answer(tmp_path: Path) -> None:
    hung: list[str] = []
    missing = str(tmp_path / "missing")
    async with running(MountChecker([missing], 5.0, 0.001, lambda: True, hung.append)):
        await asyncio.sleep(0.2)
    assert hung == []


@pytest.mark.kernel
@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and /dev/fuse"
)
async def test_a_real_mount_that_nobody_serves(tmp_path: Path) -> None:
    directory = tmp_path / "mount"
    directory.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    hung: list[str] = []
    mounts.mount_fuse(device, str(directory), 131072)
    try:
        async with running(MountChecker([str(directory)], 0.05, 0.01, lambda: True, hung.append)):
            await until(lambda: hung)
            before = {thread.name for thread in threading.enumerate()}
            assert f"ask {directory}" in before
            # What a stop of the module does: the mount is aborted, and the thread comes back.
            mounts.unmount_fuse(str(directory))
            hung.clear()
    finally:
        while mounts.stack(str(directory)):
            mounts.unmount_fuse(str(directory))
        os.close(device)
    await until(lambda: f"ask {directory}" not in {thread.name for thread in threading.enumerate()})
