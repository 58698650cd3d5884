"""A window of the intent log: what was added is named, however coarse it became."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safepy.core.replica.intent import WHOLE
from safepy.core.replica.touches import WHOLE_FROM, Touches

ADDED = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 400), st.sampled_from([0, 0, 1, 7, WHOLE_FROM])),
    max_size=40,
)


def filled(added: list[tuple[int, int, int]]) -> Touches:
    touches = Touches()
    for inode, first, more in added:
        touches.add((0, inode), first, first + more)
    return touches


@given(ADDED, ADDED, st.sampled_from([3, 1000]), st.sampled_from([5, 1000]))
def test_nothing_is_lost_by_joining_and_coarsening(added, others, files, extents):
    touches = filled(added)
    touches.absorb(filled(others))
    fine = touches.coarsen(files, extents)
    assert fine == (touches.files <= files)
    named = {(entry.inode, entry.first, entry.count) for entry in touches.entries()}
    for inode, first, more in [*added, *others]:
        assert touches.has((0, inode), first, first + more)
        assert any(
            i == inode and (count == WHOLE or (at <= first and first + more < at + count))
            for i, at, count in named
        )
    if fine:
        assert sum(count for _, _, count in named if count != WHOLE) <= extents
    whole = sum(count == WHOLE for _, _, count in named)
    assert touches.weight == whole * WHOLE_FROM + sum(c for _, _, c in named if c != WHOLE)
    assert bool(touches) == bool(added or others)


def test_what_was_not_added_is_not_there():
    touches = filled([(1, 3, 1)])
    assert not touches.has((0, 1), 2, 3)
    assert not touches.has((0, 1), 4, 5)
    assert not touches.has((1, 1), 3, 3)
    assert [*touches.entries()] != []
