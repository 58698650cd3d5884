"""Rounds of a resynchronisation, told as one."""

from safepy.dataplane.resync.source import RoundResult
from safepy.model import Progress
from safepy.worker.measuring import Measure


def test_rounds_add_up() -> None:
    measure = Measure(2, 100.0)
    measure.mode, measure.reason = "walk", "a crash"
    measure.round_began(100.0)
    told = measure.seen(Progress("round 1", 10, 50, 1000, 9000), 101.0)
    assert (told.files_done, told.files_total, told.trees_done, told.trees_total) == (10, 50, 0, 2)
    assert (told.scan_s, told.copy_s, told.mode, told.reason) == (1.0, 0.0, "walk", "a crash")
    # Two of the next three seconds something was copied.
    for second, copied in ((102.0, 500), (103.0, 800), (104.0, 800)):
        told = measure.seen(Progress("round 1", bytes_copied=copied, files_copied=1), second)
    assert (told.scan_s, told.copy_s, told.bytes_copied) == (4.0, 2.0, 800)
    measure.round_over(RoundResult(50, 3, 9000, 900, 5.0))
    measure.round_began(110.0)
    told = measure.seen(Progress("round 2", 1, 2, bytes_copied=50, files_copied=1), 110.5)
    assert (told.files_done, told.files_copied, told.bytes_copied) == (1, 4, 950)
    assert (told.scan_s, told.copy_s, told.trees_done) == (5.5, 2.5, 2)
    measure.round_over(RoundResult(2, 1, 100, 60, 0.5))
    last = measure.whole
    assert (last.files_done, last.bytes_done) == (52, 9100)
    assert (last.files_copied, last.bytes_copied) == (4, 960)
    assert (last.scan_s, last.copy_s, last.trees_done) == (5.5, 2.5, 2)
    assert (last.mode, last.reason) == ("walk", "a crash")


def test_a_round_too_short_to_be_told_of_has_a_time() -> None:
    measure = Measure(1, 0.0)
    measure.round_began(0.0)
    measure.round_over(RoundResult(5, 5, 10_000, 10_000, 0.2))
    assert measure.whole.copy_s == 0.2
    measure.round_began(1.0)
    measure.round_over(RoundResult(5, 0, 10_000, 0, 0.2))
    assert (measure.whole.copy_s, measure.whole.scan_s) == (0.2, 0.4)
