"""What the peer's tree may differ in, by path, in memory: complete while this node serves.

While there is a peer that follows, the marks lie in two windows: what was touched since the last
checkpoint began (`current`), and before it (`previous`), which goes when the checkpoint is
recorded on both nodes (I6). A peer that is lost leaves both behind: those are then the zones to
compare (protocol 8), and more are added until it has been brought up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safepy.core.replica.marks import FULL, WALK, Mark, Marks

#: (path, full, walk, extents): a mark as it is saved.
Saved = tuple[bytes, bool, bool, tuple[tuple[int, int], ...]]


class PathMarks:
    """The marks of all directories of a module; one thread owns them.

    `incomplete`: why something may differ without a mark; "" if nothing can.
    """

    def __init__(self, trees: int, incomplete: str = "") -> None:
        self.incomplete = incomplete
        self._current = [Marks() for _ in range(trees)]
        self._previous = [Marks() for _ in range(trees)]
        #: What an attempt to bring the peer up to date took and has not made good for ever.
        self._taken = [Marks() for _ in range(trees)]

    def __bool__(self) -> bool:
        return any(map(bool, self._current))

    @property
    def overflowed(self) -> bool:
        """A bound was reached: names are walked, and content is known to the intent log alone."""
        every = (*self._current, *self._previous, *self._taken)
        return any(marks.overflowed for marks in every)

    def add(self, tree: int, kind: str, path: bytes, offset: int = 0, length: int = 0) -> None:
        """`kind` as in `touched.Mark`."""
        marks = self._current[tree]
        if kind == "extents":
            marks.add_extent(path, offset, length)
        elif kind == "full":
            marks.add_full(path)
        elif kind == "walk":
            marks.add_walk(path)
        else:
            marks.add_attributes(path)

    def add_found(self, tree: int, path: bytes) -> None:
        """What changed without a note (`storage.seal`): a directory's attributes alone, if the
        path ends in "/"; else all from there down is walked."""
        if path.endswith(b"/"):
            self._current[tree].add_attributes(path[:-1])
        else:
            self._current[tree].add_walk(path)

    def moved(
        self, tree: int, old: bytes, new: bytes, directory: bool, exchanged: bool = False
    ) -> None:
        """After a rename. What a running attempt has taken below these names is not found there
        any more, so it is marked anew."""
        current, taken = self._current[tree], self._taken[tree]
        again = taken.lifted(old, directory)
        back = taken.lifted(new, directory) if exchanged else {}
        for marks in (current, self._previous[tree]):
            if marks is current or marks:
                marks.moved(old, new, directory, exchanged)
        for marks in (current, taken):
            marks.put_back({new + rest: mark for rest, mark in again.items()})
            marks.put_back({old + rest: mark for rest, mark in back.items()})

    def has_content(self, tree: int, path: bytes) -> bool:
        """Whether content of the file at `path` is marked there, whole or in part."""
        windows = (self._current[tree], self._previous[tree], self._taken[tree])
        return any(marks.has_content(path) for marks in windows)

    # -- windows ------------------------------------------------------------------------------

    def rotate(self) -> None:
        """A checkpoint begins."""
        for index, marks in enumerate(self._previous):
            if not marks:  # as it should be; then a large window costs nothing here
                self._previous[index] = self._current[index]
                self._current[index] = marks
            else:
                marks.absorb(self._current[index])

    def drop_previous(self) -> None:
        """The checkpoint is recorded: both nodes have what was marked before it (I6)."""
        for marks in self._previous:
            marks.clear()

    def go_alone(self) -> None:
        """The peer was left behind: no checkpoint ends a window any more."""
        for index, marks in enumerate(self._previous):
            self._current[index].absorb(marks)

    def reset(self) -> None:
        """The peer has adopted and both flushed (I8, I11, I12): nothing differs."""
        for marks in (*self._current, *self._previous, *self._taken):
            marks.clear()
        self.incomplete = ""

    # -- an attempt to bring the peer up to date ----------------------------------------------

    def take(self) -> list[dict[bytes, Mark]]:
        """What is marked now, for a round; kept until `reset`, in case the attempt fails."""
        taken = [marks.marks() for marks in self._current]
        for index, marks in enumerate(self._current):
            self._taken[index].absorb(marks)
        return taken

    def put_back(self) -> None:
        """The attempt failed: everything it took is to be compared again."""
        for index, marks in enumerate(self._taken):
            self._current[index].absorb(marks)

    def demand(self, mark: Mark) -> None:
        """`FULL` or `WALK` for every directory as a whole."""
        assert mark in (FULL, WALK)
        for marks in self._current:
            marks.put_back({b"": mark})

    def left(self) -> tuple[int, int, int]:
        """(marks, paths that are whole or walked, bytes of extents) of the next round."""
        marks = self._current
        return (
            sum(map(len, marks)),
            sum(each.full_paths for each in marks),
            sum(each.extent_bytes for each in marks),
        )

    # -- over a clean stop --------------------------------------------------------------------

    def saved(self) -> list[list[Saved]]:
        """Everything, to be written down. Nothing may be in an attempt."""
        return [
            [(path, m.full, m.walk, m.extents) for path, m in marks.marks().items()]
            for marks in self._all()
        ]

    def load(self, saved: Sequence[Iterable[Saved]]) -> None:
        for index, marks in enumerate(saved):
            back = {path: Mark(full, extents, walk) for path, full, walk, extents in marks}
            self._current[index].put_back(back)

    def _all(self) -> list[Marks]:
        joined = []
        for windows in zip(self._current, self._previous, self._taken, strict=True):
            marks = Marks()
            for window in windows:
                marks.put_back(window.marks())
            joined.append(marks)
        return joined
