"""The gate: mode, epoch, deadline."""

from __future__ import annotations

import time

from safepy.dataplane.gate import GateKeeper, boottime_s
from safepy.model import Gate


def test_closed_until_opened_and_after_the_deadline() -> None:
    now_s = 100.0
    gate = GateKeeper(lambda: now_s)
    assert not gate.may_answer()
    assert gate.open(Gate.ALONE, 1, 110.0)
    assert gate.may_answer()
    now_s = 110.0
    assert not gate.may_answer()
    assert gate.may_answer(109.9)
    gate.open(Gate.ALONE, 1, 120.0)
    assert gate.may_answer()
    gate.close()
    assert not gate.may_answer()


def test_an_order_of_a_lower_epoch_changes_nothing() -> None:
    gate = GateKeeper(lambda: 0.0)
    gate.open(Gate.PRIM, 5, 10.0)
    assert not gate.open(Gate.ALONE, 4, 99.0)
    assert (gate.mode, gate.epoch, gate.deadline_s) == (Gate.PRIM, 5, 10.0)
    gate.change_mode(Gate.ALONE, 4)
    assert gate.mode is Gate.PRIM
    gate.change_mode(Gate.ALONE, 6)
    assert (gate.mode, gate.epoch, gate.deadline_s) == (Gate.ALONE, 6, 10.0)


def test_change_of_mode_does_not_open() -> None:
    gate = GateKeeper(lambda: 0.0)
    gate.change_mode(Gate.PRIM, 3)
    assert not gate.may_answer()


def test_closed_to_new_survives_a_renewal_but_not_the_next_epoch() -> None:
    gate = GateKeeper(lambda: 0.0)
    gate.open(Gate.PRIM, 5, 10.0)
    gate.close_to_new()
    gate.open(Gate.PRIM, 5, 20.0)
    assert gate.may_answer()
    assert not gate.may_begin()
    gate.open(Gate.ALONE, 6, 20.0)
    assert gate.may_begin()


def test_clock_counts_suspended_time() -> None:
    assert boottime_s() >= time.clock_gettime(time.CLOCK_MONOTONIC) - 0.001
