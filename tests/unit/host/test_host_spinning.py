"""When a loop looks again instead of sleeping (`host/spinning.py`)."""

from __future__ import annotations

import threading
import time

from safepy.host.loop import Loop
from safepy.host.spinning import LOOK_S, RESTS, TRUST, Spinning

SHORT_S = 0.000_05
LONG_S = 0.01


def busy() -> Spinning:
    spinning = Spinning()
    for _ in range(TRUST):
        spinning.slept(SHORT_S)
    return spinning


def test_a_loop_that_sleeps_long_goes_on_sleeping() -> None:
    spinning = Spinning()
    assert spinning.limit_s(1.0) == 0.0
    spinning.slept(LONG_S)
    assert spinning.limit_s(1.0) == 0.0


def test_short_sleeps_teach_it_to_look() -> None:
    assert busy().limit_s(1.0) == LOOK_S


def test_looking_in_vain_teaches_it_to_sleep() -> None:
    spinning = busy()
    for _ in range(TRUST):
        assert spinning.limit_s(1.0) == LOOK_S
        spinning.looked_in_vain()
    assert spinning.limit_s(1.0) == 0.0
    spinning.slept(LONG_S)
    assert spinning.limit_s(1.0) == 0.0


def test_looking_goes_on_while_it_pays_every_other_time() -> None:
    spinning = busy()
    for _ in range(100):
        spinning.looked_in_vain()
        assert spinning.limit_s(1.0) == LOOK_S
        spinning.found()


def test_a_long_time_of_success_is_not_saved_up() -> None:
    spinning = busy()
    for _ in range(1000):
        spinning.found()
    for _ in range(TRUST):
        spinning.looked_in_vain()
    assert spinning.limit_s(1.0) == 0.0


def test_whoever_needs_the_processor_gets_it_for_many_times_as_long_as_it_took() -> None:
    spinning = busy()
    assert not spinning.is_crowded(SHORT_S, 1.0)
    assert spinning.limit_s(1.0) == LOOK_S
    for yielded_s in (0.003, 0.000_5):
        assert spinning.is_crowded(yielded_s, 1.0)
        assert spinning.limit_s(1.0 + 0.99 * RESTS * yielded_s) == 0.0
        assert spinning.limit_s(1.0 + 1.01 * RESTS * yielded_s) == LOOK_S


def test_a_loop_without_work_uses_no_processor() -> None:
    loop = Loop()
    try:
        for _ in range(8):  # soon woken: it learns to look
            loop.call_later(SHORT_S, lambda: None)
            loop.turn()
        begun_s = time.thread_time()
        loop.turn(0.3)
        assert time.thread_time() - begun_s < 0.05
    finally:
        loop.close()


def test_a_looking_loop_hears_timers_and_other_threads() -> None:
    loop = Loop()
    try:
        loop._spinning = busy()
        heard: list[int] = []
        loop.call_later(0.02, lambda: heard.append(1))
        until_s = time.monotonic() + 5
        while not heard:
            assert time.monotonic() < until_s
            loop.turn()
        threading.Timer(0.02, lambda: loop.post(lambda: heard.append(2))).start()
        while heard != [1, 2]:
            assert time.monotonic() < until_s
            loop.turn(0.1)
    finally:
        loop.close()
