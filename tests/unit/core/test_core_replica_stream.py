"""The window: cumulative acknowledgements, completions in any order, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.core.replica.stream import Window
from safepy.errors import PeerError


def test_acknowledgement_ends_everything_up_to_it_in_order() -> None:
    window: Window[str] = Window()
    assert [window.add(name, 1, 0.0) for name in "abc"] == [1, 2, 3]
    assert window.acknowledge(2) == ["a", "b"]
    assert window.acknowledge(2) == []  # repeated
    assert window.acknowledge(1) == []  # late
    assert window.acknowledge(3) == ["c"]
    assert len(window) == 0


def test_operations_without_an_item_take_a_number_and_room() -> None:
    window: Window[str] = Window(max_ops=1)
    assert window.add(None, 7, 0.0) == 1
    assert window.full
    assert window.bytes_in_flight == 7
    assert window.acknowledge(1) == []
    assert not window.full
    assert window.bytes_in_flight == 0


@pytest.mark.parametrize("acknowledged_first", [True, False])
def test_completing_operation_needs_both(acknowledged_first: bool) -> None:
    window: Window[str] = Window()
    seq = window.add_completing("sync", 1, 0.0)
    if acknowledged_first:
        assert window.acknowledge(seq) == []
        assert len(window) == 1
        assert window.complete(seq) == "sync"
    else:
        assert window.complete(seq) == "sync"
        assert len(window) == 1
        assert window.acknowledge(seq) == []
    assert len(window) == 0


def test_answers_to_what_was_never_sent_are_the_peers_fault() -> None:
    window: Window[str] = Window()
    window.add("a", 1, 0.0)
    with pytest.raises(PeerError):
        window.acknowledge(2)
    with pytest.raises(PeerError):
        window.complete(1)
    seq = window.add_completing("s", 1, 0.0)
    window.complete(seq)
    with pytest.raises(PeerError):
        window.complete(seq)


def test_bounds_in_operations_and_bytes() -> None:
    window: Window[str] = Window(max_ops=2, max_bytes=100)
    window.add("a", 99, 0.0)
    assert not window.full
    window.add("b", 0, 0.0)
    assert window.full
    window.acknowledge(2)
    window.add("c", 100, 0.0)
    assert window.full


def test_oldest_is_the_longest_unanswered() -> None:
    window: Window[str] = Window()
    assert window.oldest_sent_s() is None
    sync = window.add_completing("s", 1, 1.0)
    window.add("b", 1, 2.0)
    window.acknowledge(1)
    assert window.oldest_sent_s() == 1.0
    window.complete(sync)
    assert window.oldest_sent_s() == 2.0
    window.acknowledge(2)
    assert window.oldest_sent_s() is None


def test_giving_the_stream_up_hands_everything_back() -> None:
    window: Window[str] = Window()
    window.add("a", 1, 0.0)
    window.add_completing("s", 1, 0.0)
    window.add(None, 1, 0.0)
    assert window.take_all() == ["a", "s"]
    assert len(window) == 0
    assert window.bytes_in_flight == 0
    assert window.add("b", 1, 0.0) == 4  # numbers are never used twice


@given(st.lists(st.tuples(st.sampled_from("aascCe"), st.integers(0, 12))))
def test_every_item_comes_back_exactly_once(script: list[tuple[str, int]]) -> None:
    """a: send, s: send an fsync, c: acknowledge, C: complete, e: give up."""
    window: Window[int] = Window(max_ops=8)
    sent: list[int] = []
    back: list[int] = []
    last_acknowledged = 0
    completing: list[int] = []
    for action, number in script:
        if action == "a":
            sent.append(window.add(window.last_seq + 1, number, float(len(sent))))
        elif action == "s":
            seq = window.add_completing(window.last_seq + 1, number, float(len(sent)))
            sent.append(seq)
            completing.append(seq)
        elif action == "c":
            seq = min(last_acknowledged + number, window.last_seq)
            ended = window.acknowledge(seq)
            assert ended == sorted(ended)
            assert all(last_acknowledged < item <= seq for item in ended)
            back += ended
            last_acknowledged = max(last_acknowledged, seq)
        elif action == "C" and completing:
            back.append(window.complete(completing.pop(number % len(completing))))
        elif action == "e":
            back += window.take_all()
            last_acknowledged = window.last_seq
            completing = []
        assert len(back) == len(set(back))
        assert len(window) == window.last_seq - last_acknowledged + len(completing)
        assert (window.oldest_sent_s() is None) == (len(window) == 0)
    back += window.take_all()
    assert sorted(back) == sent
