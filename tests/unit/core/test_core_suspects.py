"""What a log says of one file: never less than it was told."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from safepy.core.replica.intent import (
    ALL_TREES,
    EXTENT_BYTES,
    WHOLE,
    Everything,
    NewSince,
    Touched,
)
from safepy.core.replica.suspects import ALL, Suspects, counter_of, ident_of, suspects_of

SESSION = b"\x01" * 8


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 6))))
def test_every_extent_told_is_suspect_and_no_other(told: list[tuple[int, int, int]]) -> None:
    entries = [Touched(0, inode, first, count) for inode, first, count in told]
    suspects = suspects_of(entries, 1, False)[0]
    for inode in range(4):
        wanted = {
            at for i, first, count in told if i == inode for at in range(first, first + count)
        }
        found = suspects.of(inode, b"")
        assert wanted == {
            at for s, e in found for at in range(s // EXTENT_BYTES, e // EXTENT_BYTES)
        }
        assert list(found) == sorted(found)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


def test_new_objects_of_the_session_are_suspect_whole() -> None:
    suspects = Suspects()
    suspects.add_new_since(SESSION, 100)
    assert suspects.of(5, ident_of(SESSION, 0, 100)) == ALL
    assert suspects.of(5, ident_of(SESSION, 3, 2**40)) == ALL
    assert suspects.of(5, ident_of(SESSION, 0, 99)) == ()
    assert suspects.of(5, ident_of(b"\x02" * 8, 0, 100)) == ()
    assert suspects.of(5, b"") == ()
    suspects.add_new_since(SESSION, 200)  # a later window takes nothing back
    assert suspects.of(5, ident_of(SESSION, 0, 100)) == ALL


def test_entries_go_to_their_trees() -> None:
    entries = [Touched(1, 7, 0, WHOLE), NewSince(0, SESSION, 1), Everything(9)]
    first, second = suspects_of(entries, 2, False)
    assert first.of(7, b"") == ()
    assert second.of(7, b"") == ALL
    assert first and second
    assert not Suspects()
    assert all(each.everything for each in suspects_of([Everything(ALL_TREES)], 3, False))
    assert suspects_of([], 1, True)[0].of(1, b"") == ALL


def test_an_id_is_sixteen_bytes_and_keeps_its_counter() -> None:
    ident = ident_of(SESSION, 2, 2**47)
    assert len(ident) == 16
    assert counter_of(ident) == 2**47
