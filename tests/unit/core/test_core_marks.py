"""Marks: whatever was added stays covered, and nothing is listed twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.core.replica.marks import FULL, TO_THE_END, WALK, ZONE_BYTES, Mark, Marks

COMPONENT = st.sampled_from([b"a", b"b", b"ab", b"\xff", b"\n"])
PATH = st.lists(COMPONENT, max_size=4).map(b"/".join)
OFFSET = st.integers(0, 40 * ZONE_BYTES)
LENGTH = st.one_of(st.integers(1, 5 * ZONE_BYTES), st.just(TO_THE_END))
ADDITION = st.one_of(
    st.tuples(st.just("full"), PATH),
    st.tuples(st.just("extent"), PATH, OFFSET, LENGTH),
    st.tuples(st.just("attributes"), PATH),
    st.tuples(st.just("walk"), PATH),
)


def ancestors(path: bytes) -> list[bytes]:
    parts = path.split(b"/") if path else []
    return [b"/".join(parts[:n]) for n in range(len(parts))]


def covers(taken: dict[bytes, Mark], path: bytes, start: int = 0, end: int = 0) -> bool:
    if any(taken.get(a) == FULL for a in [*ancestors(path), path]):
        return True
    if end == 0 and walked(taken, path):
        return True
    mark = taken.get(path)
    if mark is None:
        return False
    return end == 0 or any(s <= start and min(end, TO_THE_END) <= e for s, e in mark.extents)


def walked(taken: dict[bytes, Mark], path: bytes) -> bool:
    return any(taken.get(a, Mark()).walk for a in [*ancestors(path), path])


@settings(max_examples=300, deadline=None)
@given(st.lists(ADDITION, max_size=40), st.sampled_from([3, 8, 1000]), st.sampled_from([2, 1000]))
def test_nothing_added_is_ever_lost(additions, max_paths, max_extents):
    marks = Marks(max_paths=max_paths, max_extents=max_extents)
    for addition in additions:
        getattr(marks, f"add_{addition[0]}")(*addition[1:])
        assert len(marks) <= max_paths
    assert bool(marks) == bool(additions)
    full_paths, extent_bytes, size = marks.full_paths, marks.extent_bytes, len(marks)
    overflowed = marks.overflowed
    taken = marks.take()
    assert not marks and not marks.overflowed and marks.take() == {}
    if overflowed:
        assert covers(taken, b"")

    for kind, path, *extent in additions:
        if overflowed:
            assert covers(taken, path)
        elif kind == "full":
            assert any(taken.get(a) == FULL for a in [*ancestors(path), path])
        elif kind == "walk" or kind == "attributes":
            assert covers(taken, path)
        else:
            assert covers(taken, path, extent[0], extent[0] + extent[1])
    for path, mark in taken.items():
        assert not any(taken.get(a) == FULL for a in ancestors(path))
        assert len(mark.extents) <= max_extents
        flat = [edge for extent in mark.extents for edge in extent]
        assert flat == sorted(set(flat)), "extents overlap or touch"
        assert all(edge % ZONE_BYTES == 0 for edge in flat)
    assert len(taken) <= size  # a path may be walked and have extents
    assert full_paths <= sum(mark.full or mark.walk for mark in taken.values())
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


STEP = st.one_of(
    st.tuples(st.just("extent"), PATH, OFFSET, st.integers(1, ZONE_BYTES)),
    st.tuples(st.just("full"), PATH),
    st.tuples(st.just("walk"), PATH),
    st.tuples(st.just("move"), PATH, PATH),
    st.tuples(st.just("exchange"), PATH, PATH),
)


def within(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/") or top == b""


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_marks_follow_what_is_renamed(steps):
    """What was written is marked at the name it has now; both names of a rename are marked."""
    marks = Marks()
    written: list[tuple[bytes, int, int]] = []
    named: list[bytes] = []
    for what, path, *rest in steps:
        if what == "extent":
            marks.add_extent(path, *rest)
            written.append((path, rest[0], rest[0] + rest[1]))
        elif what in ("full", "walk"):
            getattr(marks, f"add_{what}")(path)
        else:
            new = rest[0]
            if within(path, new) or within(new, path):
                continue
            marks.moved(path, new, exchanged=what == "exchange")
            there = [w for w in written if within(w[0], path)]
            here = [w for w in written if within(w[0], new)]
            written = [w for w in written if w not in there and w not in here]
            written += [(new + at[len(path) :], *extent) for at, *extent in there]
            if what == "exchange":
                written += [(path + at[len(new) :], *extent) for at, *extent in here]
            named += [path, new]
    taken = marks.take()
    for path, start, end in written:
        assert covers(taken, path, start, end), path
    for path in named:
        assert covers(taken, path), path


def test_a_walk_hides_attributes_but_no_extents_and_nothing_whole():
    marks = Marks()
    marks.add_extent(b"d/f", 0, 1)
    marks.add_attributes(b"d/g")
    marks.add_full(b"d/n")
    marks.add_walk(b"d")
    assert marks.take() == {b"d": WALK, b"d/f": Mark(extents=((0, ZONE_BYTES),)), b"d/n": FULL}


def test_a_new_file_that_is_renamed_is_still_compared_whole():
    marks = Marks()
    marks.add_full(b"tmp")
    marks.moved(b"tmp", b"real", directory=False)
    assert marks.take() == {b"tmp": FULL, b"real": FULL}
    marks.add_full(b"new")
    marks.moved(b"new/file", b"old/file", directory=False)
    assert marks.take() == {b"new": FULL, b"old/file": FULL}


def test_too_many_marks_become_a_walk_and_say_so():
    marks = Marks(max_paths=10)
    for number in range(11):
        marks.add_extent(b"f%d" % number, 0, 1)
    assert marks.overflowed
    assert marks.take() == {b"": WALK}
    assert not marks.overflowed
