"""The sending end of a resynchronisation: rounds over what is marked (reference 19.7).

Like the live migration of a virtual machine: a round makes equal what was marked before it, while
the application goes on and marks again; the last round runs with writes held. So whatever
vanishes or changes under our hands within a round is left alone: it is marked.

A round has three phases with a barrier after each: names and content, directory by directory;
hard links, group by group; the attributes of directories, when nothing is made in them any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.marks import Mark, Marks
from safepy.core.replica.suspects import Suspects
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.memory import Memories, Memory
from safepy.dataplane.resync.messages import ResyncFailed
from safepy.dataplane.resync.pacing import Pace
from safepy.dataplane.resync.policy import Policy
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.shared import (
    AttributesItem,
    Directories,
    GroupItem,
    Item,
    Names,
    Shared,
    Work,
    may_grow,
)
from safepy.dataplane.resync.transfer import Transfer
from safepy.dataplane.resync.tree import Path
from safepy.errors import PeerError
from safepy.model import Progress
from safepy.net.blocking import BlockingStream

#: How often what turned out to be missing on the target is tried again, one level higher.
MAX_PASSES = 64
#: A round of few items is not worth a thread for each stream.
_FEW_ITEMS = 4
_NAMES_A_MESSAGE = 500
#: How often moves to what is in the way of one another are tried, before they are copied.
_DEFERRALS = 8

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round did. `files` counts names looked at, `files_copied` files of which content
    travelled; sizes in bytes, `bytes_compared` of the files looked at, `bytes_copied` of what
    travelled."""

    files: int
    files_copied: int
    bytes_compared: int
    bytes_copied: int
    seconds: float


class Source:
    """Makes the target's trees equal to ours, over `streams` in parallel.

    `root_fds` in the order of the trees. `on_progress` is called from the transfer threads, a few
    times a second. `acl`: POSIX ACLs are replicated too. `suspects`: one for each tree, or none:
    content that is to be compared wherever a file is found. `scope`: what is left out.
    `bytes_s`: the bandwidth (0: no limit). `newer_than_ns`: below WALK marks, files modified later
    are compared whole and all others taken as equal, by an operator's word. `memory`: what is known
    of the content of files from former attempts.
    """

    def __init__(
        self,
        root_fds: Sequence[int],
        streams: Sequence[BlockingStream],
        on_progress: OnProgress | None = None,
        acl: bool = False,
        suspects: Sequence[Suspects] = (),
        scope: Scope | None = None,
        bytes_s: int = 0,
        newer_than_ns: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._shared = Shared(
            root_fds,
            on_progress,
            acl,
            Policy(suspects, newer_than_ns),
            scope or Scope(),
            Pace(bytes_s),
            memory or Memories().attempt(),
        )
        self._transfers = [Transfer(self._shared, stream) for stream in streams]
        self._streams = list(streams)
        self._rounds = 0

    def tell_copied(self, on_copied: Callable[[int, Path], None]) -> None:
        """`on_copied(tree, path)` for each file of which content travelled, from the transfer
        threads."""
        self._shared.on_copied = on_copied

    def run_round(self, marks_by_tree: Sequence[Mapping[bytes, Mark]]) -> RoundResult:
        """Make equal what is marked (`Marks.take` of each tree). Blocks; not for the loop.

        Raises PeerError when the target went away, ResyncFailed when it or this node cannot go
        on, OSError when reading here fails. The streams are then cut.
        """
        shared = self._shared
        self._rounds += 1
        shared.begin(f"round {self._rounds}")
        counting: threading.Thread | None = None
        if self._rounds == 1:
            counting = threading.Thread(
                target=self._count, args=(marks_by_tree,), name="resync-count", daemon=True
            )
            counting.start()
        started_s = time.monotonic()
        todo = [dict(marks) for marks in marks_by_tree]
        try:
            for _ in range(MAX_PASSES):
                self._pass(todo)
                missing = shared.take_missing()
                if not missing:
                    break
                again = [Marks() for _ in marks_by_tree]
                for tree, path in missing:
                    again[tree].add_full(b"/".join(path))
                todo = [marks.take() for marks in again]
            else:
                raise ResyncFailed("directories vanish on the other node as fast as they are made")
        except BaseException:
            self.abort()
            raise
        finally:
            shared.stop_counting = True
            if counting is not None:
                counting.join()
        shared.report(final=True)
        total = shared.total
        return RoundResult(
            total.files,
            total.files_copied,
            total.bytes_compared,
            total.bytes_copied,
            time.monotonic() - started_s,
        )

    def finish(self) -> None:
        """After the last round: have the target flush (I12), then end all streams."""
        try:
            self._transfers[0].barrier(flush=True)
            for transfer in self._transfers:
                transfer.end()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Cut all streams, from any thread: a running round ends with PeerError."""
        self._shared.pace.stop()
        for stream in self._streams:
            stream.shutdown()

    # --- one pass: three phases

    def _pass(self, todo: Sequence[Mapping[bytes, Mark]]) -> None:
        shared = self._shared
        # Names that are walked come first: what was moved is found before its old place is
        # looked at, and two transfers never work on one path.
        for walked in (True, False):
            items: list[Item] = []
            for tree, marks in enumerate(todo):
                items += self._items(tree, marks, walked)
            self._phase(items)
        for again in range(_DEFERRALS):
            shared.may_defer = again + 1 < _DEFERRALS
            self._phase(shared.take_deferred())
        shared.may_defer = True
        self._phase(self._groups())
        self._phase(shared.take_endings())
        if shared.holding:
            self._transfers[0].barrier(settled=True)
        finishing = shared.take_directories()
        attributes: list[Item] = []
        for tree, paths in finishing.items():
            ordered = sorted(paths)
            attributes += [
                AttributesItem(tree, tuple(ordered[at : at + _NAMES_A_MESSAGE]))
                for at in range(0, len(ordered), _NAMES_A_MESSAGE)
            ]
        self._phase(attributes)

    def _phase(self, items: list[Item]) -> None:
        if not items:
            return
        few = len(items) <= _FEW_ITEMS and not any(map(may_grow, items))
        transfers = self._transfers[:1] if few else self._transfers
        work = Work(items, len(transfers))
        if len(transfers) == 1:
            transfers[0].run(work)
        else:
            threads = [
                threading.Thread(target=self._run, args=(transfer, work), name=f"resync-{number}")
                for number, transfer in enumerate(transfers)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if work.error is not None:
            raise work.error

    def _run(self, transfer: Transfer, work: Work) -> None:
        try:
            transfer.run(work)
        except (PeerError, ResyncFailed, OSError) as error:
            work.fail(error)
            self.abort()
        except BaseException as error:
            # A bug: the caller raises it too, after the others have ended.
            work.fail(error)
            self.abort()
            raise

    def _items(self, tree: int, marks: Mapping[bytes, Mark], walked: bool) -> list[Item]:
        """Work for the marks of one tree; names of one directory go together."""
        shared = self._shared
        items: list[Item] = []
        by_directory: dict[Path, dict[bytes, Mark]] = {}
        for joined, mark in marks.items():
            if mark.walk is not walked:
                continue
            path = trees.split(joined)
            if shared.scope.leaves_out(tree, path):
                continue
            if mark.full:
                shared.touch_below(tree, path)
            if path:
                by_directory.setdefault(path[:-1], {})[path[-1]] = mark
                continue
            shared.finish_directory(tree, ())
            if mark.full or mark.walk:
                items.append(Directories(tree, ((),), mark.full))
        for path, names in by_directory.items():
            pairs = sorted(names.items())
            for at in range(0, len(pairs), _NAMES_A_MESSAGE):
                items.append(Names(tree, path, tuple(pairs[at : at + _NAMES_A_MESSAGE])))
        return items

    # --- hard links

    def _groups(self) -> list[Item]:
        """The inodes with several names that this pass came across, with all their names."""
        shared = self._shared
        touched = shared.take_touched()
        found: dict[tuple[int, int], list[Path]] = {}
        incomplete: dict[int, dict[int, int]] = {}
        for key in touched:
            tree, inode = key
            found[key], status = self._verified(tree, inode)
            if (
                status is not None
                and len(found[key]) < status.st_nlink
                and shared.outside.get(key) != status.st_ctime_ns
            ):
                incomplete.setdefault(tree, {})[inode] = status.st_ctime_ns
        # Names that no mark told of: rare, so a walk over the tree may find them. What it does
        # not find is outside of the tree, as long as the inode's change time stays.
        for tree, inodes in incomplete.items():
            shared.add_links(tree, self._walk_for(tree, inodes))
            for inode, changed_ns in inodes.items():
                found[tree, inode], _ = self._verified(tree, inode)
                shared.outside[tree, inode] = changed_ns
        return [
            GroupItem(tree, inode, tuple(names), *touched[tree, inode])
            for (tree, inode), names in found.items()
            if names
        ]

    def _verified(self, tree: int, inode: int) -> tuple[list[Path], os.stat_result | None]:
        """The known names that still are this inode, and its status."""
        known = self._shared.links[tree]
        names: list[Path] = []
        status: os.stat_result | None = None
        for path in known.names(inode):
            found = self._shared.look(tree, path)
            if found is not None and found.st_ino == inode and not S_ISDIR(found.st_mode):
                names.append(path)
                status = found
            else:
                known.discard(inode, path)
        return names, status

    def _walk_for(self, tree: int, inodes: Container[int]) -> Iterator[tuple[int, Path]]:
        for path, name, found in self._walk(tree, ()):
            if found.st_ino in inodes and not S_ISDIR(found.st_mode):
                yield found.st_ino, (*path, name)

    # --- counting

    def _count(self, marks_by_tree: Sequence[Mapping[bytes, Mark]]) -> None:
        """How much there is to do, for the display: names and sizes only."""
        files = size = 0
        try:
            for tree, marks in enumerate(marks_by_tree):
                for joined, mark in marks.items():
                    if not (mark.full or mark.walk):
                        files += 1
                        size += sum(end - start for start, end in mark.extents)
                        continue
                    for _, _, found in self._walk(tree, trees.split(joined)):
                        if self._shared.stop_counting:
                            return
                        if not S_ISDIR(found.st_mode):
                            files += 1
                            size += found.st_size if S_ISREG(found.st_mode) else 0
        except OSError:
            # Without totals there is no time left to show; reading again will tell the error.
            return
        self._shared.set_totals(files, size)

    def _walk(self, tree: int, top: Path) -> Iterator[tuple[Path, bytes, os.stat_result]]:
        """(directory, name, lstat) of everything below; what vanishes is skipped."""
        pending = [top]
        while pending:
            path = pending.pop()
            try:
                fd = trees.open_directory(self._shared.root_fds[tree], path)
            except OSError as error:
                if error.errno not in trees.GONE:
                    raise
                continue
            try:
                for name in self._shared.scope.names(tree, path, fd):
                    found = trees.status(fd, name)
                    if found is None:
                        continue
                    if S_ISDIR(found.st_mode):
                        pending.append((*path, name))
                    yield path, name, found
            finally:
                os.close(fd)
