"""The follower's patience: it dials again at once, and ever later while its own disk fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from safepy.errors import LocalFault, PeerError
from safepy.worker import following, messages
from safepy.worker.common import Context
from safepy.worker.following import REDIAL_DOUBLINGS, REDIAL_S, Following
from safepy.worker.knowledge import Knowledge


class Loop:
    """Remembers what shall happen later."""

    now_s = 0.0

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, work: Callable[[], None]) -> Any:
        self.later.append((delay_s, work))
        return Timer()


class Timer:
    def cancel(self) -> None:
        pass


class Stream:
    def close(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        pass


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> tuple[Following, Loop, list[object]]:
    monkeypatch.setattr(following, "dial", lambda *_, **__: None)
    loop, told = Loop(), []
    setup = messages.Setup(
        step_id=0,
        module="AM",
        node="n2",
        peer="n1",
        key="00" * 32,
        listen=("127.0.0.1", 1),
        dial=("127.0.0.1", 2),
        paths=[],
        doors=[],
        acknowledge_on="receipt",
        acl=False,
        transfers=1,
        locktimeout_s=1.0,
        sendtimeout_s=1.0,
        keep_dir="/nowhere",
    )
    knowledge = Knowledge(loop, setup, [], lambda *_: None)
    context = Context(loop, setup, [], told.append, knowledge)  # type: ignore[arg-type]
    return Following(context, messages.Follow(1, 3, False)), loop, told


def attempt(node: Following, loop: Loop, error: Exception) -> float:
    """One try that ends with `error` in a transfer; the seconds until the next one."""
    node._live = Stream()  # type: ignore[assignment]
    node._transfer_failed(error)  # type: ignore[arg-type]
    node._drop("closed by the other node")
    return loop.later[-1][0]


def test_a_source_that_leaves_is_dialled_again_at_once(
    follower: tuple[Following, Loop, list[object]],
) -> None:
    node, loop, _ = follower
    for _ in range(5):
        assert attempt(node, loop, PeerError("connection reset")) == REDIAL_S


def test_a_disk_that_stays_full_is_tried_ever_later(
    follower: tuple[Following, Loop, list[object]],
) -> None:
    node, loop, told = follower
    waits = [attempt(node, loop, LocalFault("no space")) for _ in range(7)]
    assert waits == sorted(waits)
    assert waits[0] > REDIAL_S
    assert waits[-1] == REDIAL_S * 2**REDIAL_DOUBLINGS
    assert messages.ResyncFailed(3, "no space", False) in told
