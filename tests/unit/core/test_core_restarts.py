from __future__ import annotations

from safepy.core.restarts import LoopCount, detected, reset

DAY_S = 24 * 3600.0


def test_the_fourth_detection_within_the_interval_is_one_too_many() -> None:
    loop = LoopCount()
    answers = []
    for now in (10.0, 20.0, 30.0, 40.0):
        loop, over = detected(loop, now, maxloop=3, interval_s=DAY_S)
        answers.append(over)
    assert answers == [False, False, False, True]
    assert loop.since == 10.0


def test_the_interval_counts_from_the_first_detection() -> None:
    loop = LoopCount()
    for now in (0.0, 1.0, 2.0):
        loop, _ = detected(loop, now, 3, DAY_S)
    loop, over = detected(loop, DAY_S, 3, DAY_S)
    assert not over and loop == LoopCount(DAY_S, 1)


def test_an_interval_of_zero_disables_the_counter() -> None:
    loop, over = detected(LoopCount(0.0, 99), 1.0, 3, 0.0)
    assert not over and loop.count == 99


def test_an_administrator_resets_it() -> None:
    assert reset(7.0) == LoopCount(7.0, 0)
