"""The worker's event loop: the door for other threads."""

from __future__ import annotations

import os
import threading

import pytest

from safepy.host.loop import Loop


def test_the_loop_is_not_closed_in_the_middle_of_being_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its descriptor would be gone (EBADF), or somebody else's by then."""
    waking, go_on = threading.Event(), threading.Event()
    failed: list[OSError] = []
    write = os.eventfd_write

    def slow(fd: int, value: int) -> None:
        waking.set()
        assert go_on.wait(10)
        try:
            write(fd, value)
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(os, "eventfd_write", slow)
    loop = Loop()
    poster = threading.Thread(target=lambda: loop.post(lambda: None))
    closer = threading.Thread(target=loop.close)
    poster.start()
    assert waking.wait(10)
    closer.start()
    closer.join(0.2)  # long enough to close what nobody holds
    go_on.set()
    poster.join(10)
    closer.join(10)
    assert not failed


def test_a_thread_that_ends_later_finds_nobody_to_wake() -> None:
    loop = Loop()
    loop.close()
    failed: list[BaseException] = []

    def late() -> None:
        try:
            loop.post(lambda: None)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(10)
    assert not failed
