"""When a loop looks again instead of sleeping (`host/spinning.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from safepy.host.loop import Loop
from safepy.host.spinning import LONGEST_S, Crowd, Spinning

SHORT_S = 0.000_05


def alone() -> bool:
    return False


def busy() -> Spinning:
    spinning = Spinning(alone)
    for _ in range(8):
        spinning.slept(SHORT_S)
    return spinning


def test_a_loop_that_sleeps_long_goes_on_sleeping() -> None:
    spinning = Spinning(alone)
    assert spinning.limit_s(1.0) == 0.0
    spinning.slept(0.01)
    assert spinning.limit_s(1.0) == 0.0


def test_short_sleeps_teach_it_to_look() -> None:
    assert busy().limit_s(1.0) == LONGEST_S


def test_looking_in_vain_teaches_it_to_sleep() -> None:
    spinning = busy()
    for _ in range(8):
        spinning.looked_in_vain()
    assert spinning.limit_s(1.0) == 0.0


def test_whoever_needs_the_processor_gets_it_for_longer_each_time() -> None:
    spinning = busy()
    assert not spinning.is_crowded(SHORT_S, 1.0)
    now_s, rests_s = 1.0, []
    for _ in range(8):
        assert spinning.is_crowded(0.003, now_s)
        until_s = now_s
        while not spinning.limit_s(until_s):
            until_s += 0.01
        rests_s.append(until_s - now_s)
        now_s = until_s
    assert rests_s == sorted(rests_s)
    assert 0.04 < rests_s[0] < 0.1
    assert 0.9 < rests_s[-1] < 1.1
    assert spinning.is_crowded(0.003, now_s + 60)
    assert spinning.limit_s(now_s + 60.1) == LONGEST_S  # a new crowd begins anew


def test_nobody_looks_while_more_want_to_run_than_can() -> None:
    crowded = True
    spinning = Spinning(lambda: crowded)
    spinning.slept(SHORT_S)
    assert spinning.limit_s(1.0) == 0.0
    crowded = False
    assert spinning.limit_s(1.001) == 0.0
    assert spinning.limit_s(1.02) > 0.0


def test_a_crowd_is_counted() -> None:
    crowd = Crowd()
    ended = threading.Event()
    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(len(os.sched_getaffinity(0)) + 3)
    ]
    try:
        until_s = time.monotonic() + 10
        while not crowd():
            assert time.monotonic() < until_s
            ended.wait(0.01)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
        crowd.close()


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
