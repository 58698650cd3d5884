"""Marks: whatever was added stays covered, and nothing is listed twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.core.replica.marks import FULL, TO_THE_END, ZONE_BYTES, Mark, Marks

COMPONENT = st.sampled_from([b"a", b"b", b"ab", b"\xff", b"\n"])
PATH = st.lists(COMPONENT, max_size=4).map(b"/".join)
OFFSET = st.integers(0, 40 * ZONE_BYTES)
LENGTH = st.one_of(st.integers(1, 5 * ZONE_BYTES), st.just(TO_THE_END))
ADDITION = st.one_of(
    st.tuples(st.just("full"), PATH),
    st.tuples(st.just("extent"), PATH, OFFSET, LENGTH),
    st.tuples(st.just("attributes"), PATH),
)


def ancestors(path: bytes) -> list[bytes]:
    parts = path.split(b"/") if path else []
    return [b"/".join(parts[:n]) for n in range(len(parts))]


def covers(taken: dict[bytes, Mark], path: bytes, start: int = 0, end: int = 0) -> bool:
    if any(taken.get(a) == FULL for a in [*ancestors(path), path]):
        return True
    mark = taken.get(path)
    if mark is None:
        return False
    return end == 0 or any(s <= start and min(end, TO_THE_END) <= e for s, e in mark.extents)


@settings(max_examples=300, deadline=None)
@given(st.lists(ADDITION, max_size=40), st.sampled_from([3, 8, 1000]), st.sampled_from([2, 1000]))
def test_nothing_added_is_ever_lost(additions, max_paths, max_extents):
    marks = Marks(max_paths=max_paths, max_extents=max_extents)
    for addition in additions:
        getattr(marks, f"add_{addition[0]}")(*addition[1:])
        assert len(marks) <= max_paths
    assert bool(marks) == bool(additions)
    full_paths, extent_bytes, size = marks.full_paths, marks.extent_bytes, len(marks)
    taken = marks.take()
    assert not marks and marks.take() == {}

    for kind, path, *extent in additions:
        if kind == "full":
            assert any(taken.get(a) == FULL for a in [*ancestors(path), path])
        elif kind == "attributes":
            assert covers(taken, path)
        else:
            assert covers(taken, path, extent[0], extent[0] + extent[1])
    for path, mark in taken.items():
        assert not any(taken.get(a) == FULL for a in ancestors(path))
        assert len(mark.extents) <= max_extents
        flat = [edge for extent in mark.extents for edge in extent]
        assert flat == sorted(set(flat)), "extents overlap or touch"
        assert all(edge % ZONE_BYTES == 0 for edge in flat)
    assert size == len(taken)
    assert full_paths == sum(mark.full for mark in taken.values())
    assert (extent_bytes > 0) == any(mark.extents for mark in taken.values())


@given(st.lists(ADDITION, max_size=20))
def test_putting_back_restores(additions):
    marks = Marks()
    for addition in additions:
        getattr(marks, f"add_{addition[0]}")(*addition[1:])
    taken = marks.take()
    marks.put_back(taken)
    assert marks.take() == taken


def test_extents_are_exact_zones():
    marks = Marks()
    marks.add_extent(b"f", ZONE_BYTES + 5, 1)
    marks.add_extent(b"f", 5 * ZONE_BYTES, ZONE_BYTES)
    assert marks.extent_bytes == 2 * ZONE_BYTES
    marks.add_attributes(b"g")
    assert marks.take() == {
        b"f": Mark(
            extents=((ZONE_BYTES, 2 * ZONE_BYTES), (5 * ZONE_BYTES, 6 * ZONE_BYTES)),
        ),
        b"g": Mark(),
    }


def test_a_name_that_only_begins_alike_is_not_below():
    marks = Marks()
    marks.add_full(b"a")
    marks.add_attributes(b"ab")
    marks.add_attributes(b"a/b")
    assert marks.take() == {b"a": FULL, b"ab": Mark()}
