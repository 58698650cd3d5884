"""One transfer of the source: names, directory by directory, with what follows from the answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.marks import FULL, WALK, Extents, Mark
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.content import Batch
from safepy.dataplane.resync.contents import SMALL_BYTES, Contents
from safepy.dataplane.resync.messages import (
    ABSENT,
    MAX_SUMMARIES,
    Answer,
    Attributes,
    Entry,
    Group,
    Listing,
    Rule,
    Summaries,
    Summarise,
    Want,
    Wanted,
)
from safepy.dataplane.resync.moves import worth
from safepy.dataplane.resync.parts import (
    PART_BYTES,
    PART_NAMES,
    Part,
    by_size,
    entry_bytes,
    weight,
)
from safepy.dataplane.resync.shared import (
    AttributesItem,
    Directories,
    Ending,
    Fresh,
    GroupItem,
    Item,
    Large,
    Names,
)
from safepy.dataplane.resync.summary import Seen, Segments, differing, entry_of, look
from safepy.dataplane.resync.survey import Survey
from safepy.dataplane.resync.tree import Path
from safepy.errors import PeerError

#: Directories of which the content is summarised in one message.
FULL_SUMMARIES = 8
#: Files that are sent at once are counted so many at a time.
COUNT_FILES = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Names of a directory, from `first` up to but not `last`, to be listed."""

    tree: int
    path: Path
    names: list[bytes]
    first: int
    last: int
    full: bool


class Transfer(Contents):
    """Works through items over one stream; used by one thread at a time."""

    def _perform(self, item: Item) -> None:
        match item:
            case Directories():
                self._directories(item)
            case Fresh():
                self._fresh(item)
            case Names():
                self._names(item)
            case Large():
                self._large(item)
            case Ending():
                self._ending(item)
            case GroupItem():
                self._group(item)
            case AttributesItem():
                self._attributes(item)

    # --- names

    def _directories(self, item: Directories) -> None:
        """Have the target say what it has there, then look at what differs."""
        self.ask(
            Summarise(item.tree, item.paths, item.full),
            lambda answer: self._summarised(item, answer),
        )

    def _summarised(self, item: Directories, answer: Answer) -> None:
        if not isinstance(answer, Summaries) or len(answer.directories) != len(item.paths):
            raise PeerError("unexpected answer")
        for path, theirs in zip(item.paths, answer.directories, strict=True):
            if theirs is None:
                self._shared.add_missing([(item.tree, path)])
            else:
                self._compare_directory(item.tree, path, item.full, theirs)

    def _compare_directory(self, tree: int, path: Path, full: bool, theirs: Segments) -> None:
        shared = self._shared
        dir_fd = self._open(tree, path)
        if dir_fd is None:
            return
        try:
            names = shared.scope.names(tree, path, dir_fd)
            if not names or not theirs:
                ranges = [(0, len(names), True)] if names or theirs else []
                survey = None
            else:
                survey = Survey(shared, tree, full, names)
                ranges = list(differing(names, survey.segments(dir_fd), theirs))
        finally:
            os.close(dir_fd)
        if survey is not None:
            self._skip_equal(tree, path, survey, ranges)
        if any(differs for _, _, differs in ranges):
            shared.finish_directory(tree, path)
        for first, last, differs in ranges:
            if differs:
                self._part(Span(tree, path, names, first, last, full))

    def _skip_equal(
        self, tree: int, path: Path, survey: Survey, ranges: Sequence[tuple[int, int, bool]]
    ) -> None:
        """What is equal by its digest is done, but for what lies below it or has other names."""
        found = survey.equal(ranges)
        if found.linked:
            self._shared.touch(tree, path, found.linked)
        self._recurse(tree, path, dict.fromkeys(found.directories, survey.full))
        if found.large:
            pairs = tuple((name, FULL) for name in found.large)
            self._add(
                [
                    Names(tree, path, pairs[at : at + PART_NAMES])
                    for at in range(0, len(pairs), PART_NAMES)
                ]
            )
        self._shared.count(files=found.files, compared=found.weight)

    def _recurse(self, tree: int, path: Path, directories: Mapping[bytes, bool]) -> None:
        """Go on with these directories, many in one message."""
        for full in (False, True):
            paths = [(*path, name) for name, whole in directories.items() if whole is full]
            self._add(
                [
                    Directories(tree, part, full)
                    for part in by_size(paths, MAX_SUMMARIES if full is False else FULL_SUMMARIES)
                ]
            )

    def _part(self, span: Span) -> None:
        """Send the names from the first on, as many as fit; the rest follows."""
        dir_fd = self._open(span.tree, span.path)
        if dir_fd is None:
            return
        part = Part()
        names, at = span.names, span.first
        mark = FULL if span.full else WALK
        try:
            while at < span.last and not part.is_full:
                self._look(span.tree, dir_fd, names[at], mark, part)
                at += 1
        finally:
            os.close(dir_fd)
        listing = Listing(
            span.tree,
            span.path,
            tuple(part.entries),
            whole=True,
            after=names[span.first - 1] if span.first else None,
            before=names[at] if at < len(names) else None,
        )
        self._list(part, listing)
        if at < span.last:
            self._next.append(lambda: self._part(replace(span, first=at)))

    def _fresh(self, item: Fresh) -> None:
        """Small files go at once, without asking for them."""
        shared = self._shared
        tree, path = item.tree, item.path
        dir_fd = self._open(tree, path)
        if dir_fd is None:
            return
        shared.finish_directory(tree, path)
        batch = Batch(self, shared.memory, tree, path)
        part = Part()
        files = copied_files = copied = 0
        try:
            for seen in look(dir_fd, shared.scope.names(tree, path, dir_fd), shared.acl):
                entry = self._entry(tree, dir_fd, seen, FULL)
                small = S_ISREG(entry.mode) and entry.size <= SMALL_BYTES and not entry.linked
                if not small or (entry.ident and worth(entry.mode, entry.size)):
                    part.add(entry, seen.status.st_ino, FULL)
                    if part.is_full:
                        self._list(part, Listing(tree, path, tuple(part.entries)))
                        part = Part()
                    continue
                copied += self._send_fresh(dir_fd, seen, entry, batch)
                files += 1
                if entry.size:
                    copied_files += 1
                if files == COUNT_FILES:
                    shared.count(files, copied_files, copied, copied)
                    files = copied_files = copied = 0
        finally:
            os.close(dir_fd)
        batch.send()
        shared.count(files, copied_files, copied, copied)
        if part.entries:
            self._list(part, Listing(tree, path, tuple(part.entries)))

    def _names(self, item: Names) -> None:
        tree, path, shared = item.tree, item.path, self._shared
        dir_fd = self._open(tree, path)
        if dir_fd is None:
            return
        part = Part()
        gone: list[bytes] = []
        rest: list[tuple[bytes, Mark]] = []
        try:
            for name, mark in item.names:
                if part.is_full:
                    rest.append((name, mark))
                elif shared.scope.selective and self._left_out(tree, path, dir_fd, name):
                    continue
                elif not self._look(tree, dir_fd, name, mark, part):
                    gone.append(name)
        finally:
            os.close(dir_fd)
        if rest:
            self._add([Names(tree, path, tuple(rest))])
        shared.finish_directory(tree, path)
        self._list(part, Listing(tree, path, tuple(part.entries), tuple(gone)))

    def _look(self, tree: int, dir_fd: int, name: bytes, mark: Mark, part: Part) -> bool:
        """Add a name to the part; False when there is no such name."""
        for seen in look(dir_fd, (name,), self._shared.acl):
            part.add(self._entry(tree, dir_fd, seen, mark), seen.status.st_ino, mark)
            return True
        return False

    def _left_out(self, tree: int, path: Path, dir_fd: int, name: bytes) -> bool:
        """What vanished may have been a directory, and then counted: the target looks."""
        found = trees.status(dir_fd, name)
        is_directory = found is None or S_ISDIR(found.st_mode)
        return self._shared.scope.excludes(tree, (*path, name), is_directory)

    def _entry(self, tree: int, dir_fd: int, seen: Seen, mark: Mark) -> Entry:
        policy, found = self._shared.policy, seen.status
        ident = seen.ident
        if mark.full and not ident:
            ident = policy.identified(tree, dir_fd, seen.name, found, ident)
        extents: Extents | None = None
        rule: int = Rule.TIME if mark.walk else Rule.IDENT
        if S_ISREG(found.st_mode):
            extents, rule = policy.wanted(tree, found, ident, mark)
        return entry_of(seen, ident, extents, rule)

    def _list(self, part: Part, listing: Listing) -> None:
        shared = self._shared
        tree, path = listing.tree, listing.path
        if part.linked:
            shared.touch(tree, path, part.linked)
        for name in part.attributes:
            shared.finish_directory(tree, (*path, name))

        def answered(answer: Answer) -> None:
            if not isinstance(answer, Wanted):
                raise PeerError("unexpected answer")
            if answer.missing:
                return  # Noted by the target; the barrier brings it.
            self._wanted(part, listing, answer.wants)

        self.ask(listing, answered)

    def _wanted(self, part: Part, listing: Listing, wants: Sequence[Want]) -> None:
        shared = self._shared
        tree, path, entries = listing.tree, listing.path, listing.entries
        recurse = dict(part.recurse)
        content: list[Want] = []
        moved: list[tuple[Entry, Path | None]] = []
        for want in wants:
            if want.index >= len(entries):
                raise PeerError("wants what was not offered")
            entry = entries[want.index]
            if want.holder is not None:
                if listing.holders:
                    raise PeerError("asks twice for the same")
                recurse.pop(entry.name, None)
                holder = self._free(tree, entry, want.holder)
                if holder is None and self._may_wait(tree, entry, want.holder):
                    shared.defer(tree, path, entry.name, _mark_of(part, entry))
                else:
                    moved.append((entry, holder))
            elif not S_ISDIR(entry.mode):
                content.append(want)
            elif want.size == ABSENT:
                recurse.pop(entry.name, None)
                self._add([Fresh(tree, (*path, entry.name))])
            else:
                recurse[entry.name] = True
        self._recurse(tree, path, recurse)
        self._send_wanted(tree, path, entries, content)
        if moved:
            self._move(part, listing, moved)
        # What is wanted counts when it is sent, what is linked with its group.
        sent = [*content, *(want for want in wants if want.holder is not None)]
        files = [entries[want.index] for want in sent]
        files = [entry for entry in files if S_ISREG(entry.mode) and not entry.linked]
        shared.count(files=part.files - len(files), compared=part.weight - sum(map(weight, files)))

    def _free(self, tree: int, entry: Entry, holder: Path) -> Path | None:
        """The path, if nothing of ours stands there: then nobody else works on it."""
        return holder if self._shared.look(tree, holder) is None else None

    def _may_wait(self, tree: int, entry: Entry, holder: Path) -> bool:
        """Whether another object of ours stands at the path: what the target has there may
        have been taken out of its place when all names were looked at."""
        if not self._shared.may_defer:
            return False
        fd = self._open(tree, holder[:-1])
        if fd is None:
            return True
        try:
            return trees.ident_of(fd, holder[-1]) != entry.ident
        finally:
            os.close(fd)

    def _move(
        self, part: Part, listing: Listing, moved: Sequence[tuple[Entry, Path | None]]
    ) -> None:
        """Offer these once more, and where the target may take them from."""
        again = Part()
        for entry, holder in moved:
            again.entries.append(entry)
            if S_ISDIR(entry.mode):
                again.recurse[entry.name] = part.recurse.get(entry.name, False)
            else:
                again.files += 1
                again.weight += weight(entry)
            if holder is not None:
                self._shared.finish_directory(listing.tree, holder[:-1])
        holders = tuple(holder for _, holder in moved)
        entries = tuple(again.entries)
        self._list(again, Listing(listing.tree, listing.path, entries, holders=holders))

    # --- hard links

    def _group(self, item: GroupItem) -> None:
        shared = self._shared
        first = item.paths[0]
        dir_fd = self._open(item.tree, first[:-1])
        if dir_fd is None:
            return
        try:
            found = trees.status(dir_fd, first[-1])
            if found is None or found.st_ino != item.inode:
                return
            extents = item.extents if S_ISREG(found.st_mode) else None
            entry = trees.entry_of(dir_fd, first[-1], found, shared.acl, extents, item.rule)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise
            return
        finally:
            os.close(dir_fd)
        shared.finish_parents(item.tree, item.paths)

        def answered(answer: Answer) -> None:
            if not isinstance(answer, Wanted):
                raise PeerError("unexpected answer")
            if any(want.index for want in answer.wants):
                raise PeerError("wants what was not offered")
            if not answer.missing:
                self._send_wanted(item.tree, first[:-1], (entry,), answer.wants)
                equal = not answer.wants
                shared.count(len(item.paths) - (not equal), compared=weight(entry) if equal else 0)

        parts = by_size(item.paths)
        self.ask(Group(item.tree, parts[0], entry), answered)
        for part in parts[1:]:
            self.ask(Group(item.tree, (first, *part), entry, grow=True), answered)

    # --- directories

    def _attributes(self, item: AttributesItem) -> None:
        root_fd = self._shared.root_fds[item.tree]
        part: list[tuple[Path, Entry]] = []
        size = 0
        for path, entry in trees.directory_entries(root_fd, item.paths, self._shared.acl):
            part.append((path, entry))
            size += entry_bytes(entry) + sum(map(len, path)) + 2 * len(path)
            if size > PART_BYTES:
                self.say(Attributes(item.tree, tuple(part)))
                part, size = [], 0
        if part:
            self.say(Attributes(item.tree, tuple(part)))


def _mark_of(part: Part, entry: Entry) -> Mark:
    """By which mark an entry was offered."""
    if S_ISDIR(entry.mode):
        full = part.recurse.get(entry.name)
        return Mark() if full is None else FULL if full else WALK
    if entry.extents is None:
        return FULL
    return Mark(extents=entry.extents, walk=entry.rule != Rule.IDENT)
