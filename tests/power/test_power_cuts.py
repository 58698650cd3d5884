"""Loss of power at every point: nothing acknowledged is lost (P1, P2), both copies end equal.

`SAFEPY_POWER_SEEDS=FROM-TO` runs more of them than a normal test run does.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import power_pair
import pytest
from power_disk import Disk, PowerCut
from power_pair import Node, Pair, Stuck, lookup, tree

from safepy.core import records, syncmode
from safepy.core.replica import ops
from safepy.dataplane.keeper import Keeper
from safepy.model import Record
from safepy.worker import checkpointing, following, messages, synchronise
from safepy.worker.following import Following
from safepy.worker.knowledge import Knowledge

pytestmark = pytest.mark.kernel

SEEDS = os.environ.get("SAFEPY_POWER_SEEDS", "0-299")
#: Every run is cut at most so often, so that it comes to an end.
CUTS_MAX = 3

Content = dict[str, bytes]


def seeds() -> Iterator[int]:
    first, _, last = SEEDS.partition("-")
    yield from range(int(first), int(last or first) + 1)


def fill(root: Path) -> None:
    """What was there before the product: no ids, nothing of it ever marked."""
    for number in range(4):
        (root / f"old{number}").write_bytes(os.urandom(9000 + 3000 * number))
    (root / "same0").write_bytes(b"A" * 8192)
    (root / "same1").write_bytes(b"B" * 8192)
    for name in ("same0", "same1"):  # equal in size and time: only ids or marks tell them apart
        os.utime(root / name, ns=(5, 5))


@dataclass
class Story:
    """What the application did, and what it was told. `states[k]`: the files after k operations;
    operations are answered in order, so a copy holds the first so many of them."""

    states: list[Content]
    answered: int = 0
    #: (operations done, name) of fsyncs that were answered.
    stable: list[tuple[int, str]] = field(default_factory=list)
    #: Counts how often it began anew from what was left.
    age: int = 0
    made: int = 0

    def now(self) -> Content:
        return dict(self.states[-1])


def content_of(root: Path) -> Content:
    return {name: content for name, (_, content) in tree(root).items()}


class Application:
    """Random operations through the primary, a few at a time."""

    def __init__(self, pair: Pair, rng: random.Random, story: Story) -> None:
        self.pair = pair
        self.rng = rng
        self.story = story
        self._asked: set[object] = set()

    def forget(self) -> None:
        """A node has lost power: what was asked may never be answered."""
        self._asked.clear()

    def run(self, node: Node, count: int) -> None:
        """Raises PowerCut."""
        for _ in range(count):
            self._one(node)
            if self.rng.random() < 0.4:
                limit = self.rng.randint(0, 3)
                self.pair.until(lambda limit=limit: len(self._asked) <= limit, "no answer")
            if self.rng.random() < 0.1:
                self.pair.turn()
        self.pair.until(lambda: not self._asked, "no answer")

    def _one(self, node: Node) -> None:
        rng, files = self.rng, self.story.now()
        name = rng.choice(sorted(files)) if files else "none"
        kind = rng.choice(("write", "write", "write", "make", "rename", "unlink", "cut", "fsync"))
        if kind == "make" or not files:
            self.story.made += 1  # no name comes twice, or making it would fail
            self._make(node, f"new{self.story.made}")
        elif kind == "write":
            data = os.urandom(rng.choice((10, 3000, 4096, 10_000)))
            offset = rng.randrange(0, len(files[name]) + 2000)
            old = files[name].ljust(offset, b"\0")
            files[name] = old[:offset] + data + old[offset + len(data) :]
            self._give(node, ops.Write(lookup(node, name.encode()), offset, data), files)
        elif kind == "rename":
            target = rng.choice([*sorted(files), f"moved{len(self.story.states)}"])
            if target != name:
                files[target] = files.pop(name)
                names = (name.encode(), ops.ROOT, target.encode())
                self._give(node, ops.Rename(ops.ROOT, *names, 0), files)
        elif kind == "unlink" and len(files) > 3:
            del files[name]
            self._give(node, ops.Unlink(ops.ROOT, name.encode()), files)
        elif kind == "cut":
            size = rng.randrange(0, len(files[name]) + 1)
            files[name] = files[name][:size]
            self._give(node, ops.SetAttr(lookup(node, name.encode()), size=size), files)
        elif kind == "fsync":
            self._fsync(node, name)

    def _make(self, node: Node, name: str) -> None:
        files = self.story.now()
        handle = node.serving._trees[0].new_handle()
        files[name] = b""
        ident = node.serving._session + bytes(2) + handle.to_bytes(6, "big")
        made = ops.Make(handle, ops.ROOT, name.encode(), 0o100600, 0, 0, 0, 0, ident=ident)
        self._give(node, made, files)

    def _give(self, node: Node, op: ops.Op, after: Content) -> None:
        self.story.states.append(after)
        story, number = self.story, len(self.story.states) - 1
        age, token = story.age, object()
        self._asked.add(token)

        def answer(errno: int, _: object) -> None:
            self._asked.discard(token)
            if errno == 0 and age == story.age:
                story.answered = max(story.answered, number)

        try:
            node.serving.primary.modify(0, op, answer)
        except PowerCut:
            self.pair.notice()
        self._settle(node, op)

    def _settle(self, node: Node, op: ops.Op) -> None:
        """Names must be there before the next operation looks them up."""
        if not isinstance(op, ops.Write):
            self.pair.until(lambda: node.serving.primary.held == 0, "held for ever")

    def _fsync(self, node: Node, name: str) -> None:
        story, done = self.story, len(self.story.states) - 1
        age, token = story.age, object()
        self._asked.add(token)

        def answer(errno: int, _: object) -> None:
            self._asked.discard(token)
            if errno == 0 and age == story.age:
                story.stable.append((done, name))

        node.serving.primary.modify(0, ops.Fsync(lookup(node, name.encode()), False), answer)


def check_prefix(story: Story, root: Path) -> None:
    """P2: this copy holds the first k operations, and k covers all that was answered. The story
    goes on from there."""
    held = content_of(root)
    for number in range(len(story.states) - 1, story.answered - 1, -1):
        if story.states[number] == held:
            del story.states[number + 1 :]
            return
    raise AssertionError(f"answered {story.answered}, but no later state is held")


def check_stable(story: Story, root: Path) -> None:
    """P1: what an fsync covered is there, or something newer in its place."""
    held = content_of(root)
    for done, name in story.stable:
        later = [state.get(name) for state in story.states[done:]]
        if None in later:
            continue  # removed or renamed since: by then it may be gone
        content = held.get(name)
        assert content is not None, f"{name} was stable and is gone"
        synced = story.states[done][name]
        for start in range(0, len(synced), 512):
            piece = content[start : start + 512]
            versions = [state[start : start + 512] for state in later if state is not None]
            whole = any(version.startswith(piece) for version in versions)
            assert whole or _mixed(piece, versions), f"{name} at {start} is older than its fsync"


def _mixed(piece: bytes, versions: list[bytes]) -> bool:
    """Each byte is one of those it had since. A file that was cut off since has zeros there first:
    they may reach the disk before its new size does."""
    return all(
        any(v[at] == byte if at < len(v) else byte == 0 for v in versions)
        for at, byte in enumerate(piece)
    )


def test_what_a_cut_off_file_may_hold() -> None:
    """The check itself: zeros are nothing lost behind a new end, and something lost elsewhere."""
    assert _mixed(b"abcd\0\0", [b"abcdef", b"abcd"])
    assert not _mixed(b"abc\0\0\0", [b"abcdef", b"abcd"])
    assert not _mixed(b"\0" * 6, [b"abcdef", b"ABCDEF"])


def chapter(pair: Pair, rng: random.Random, application: Application, story: Story) -> None:
    """From the first start until all is well again, through as many losses of power as come."""
    for attempt in range(20):
        try:
            if attempt == 0:
                source = first_start(pair)
            else:
                source = go_on(pair, story)
                rearm(pair, rng)
            application.run(source, rng.randint(5, 40))
            if attempt:
                return
            while pair.cuts == 0:
                application.run(source, 10)
        except PowerCut:
            application.forget()
            with contextlib.suppress(PowerCut):
                pair.notice()  # the daemon itself may have come upon it
    raise AssertionError("never well again")


def first_start(pair: Pair) -> Node:
    a, b = pair.nodes["a"], pair.nodes["b"]
    a.serve(records.lead(a.record, "s", "boot", same=False, forced=False))
    pair.pair_up(a, b)
    return a


def go_on(pair: Pair, story: Story) -> Node:
    """A pair again, and what it holds is what it must. Returns the primary."""
    source, _ = pair.recover()
    pair.until(lambda: source.serving.primary.held == 0, "held for ever")
    root = source.root / "data"
    if source.name not in pair.rebooted:
        check_prefix(story, root)
    else:  # what was not stable may be gone; the story goes on from what is there
        check_stable(story, root)
        story.states = [content_of(root)]
        story.answered = 0
        story.stable = []
        story.age += 1
    pair.rebooted.clear()
    return source


def arm(pair: Pair, rng: random.Random) -> None:
    """Where the power goes: of one node, or of both at the same moment."""
    names = rng.choice((["a"], ["b"], ["a"], ["b"], ["a", "b"]))
    for name in names:
        disk = pair.nodes[name].disk
        disk.cut_at = disk.moment + int(2 ** rng.uniform(0, 9))


def rearm(pair: Pair, rng: random.Random) -> None:
    if pair.cuts < CUTS_MAX and rng.random() < 0.5:
        arm(pair, rng)


@pytest.mark.parametrize("seed", list(seeds()))
def test_power_cuts_lose_nothing_and_end_equal(watched: list[Disk], seed: int) -> None:
    play(watched, seed)


def play(watched: list[Disk], seed: int) -> None:
    """One story. Raises AssertionError when a promise was broken."""
    rng = random.Random(seed)
    pair = Pair(watched, rng, rng.choice(("receipt", "apply")))
    try:
        pair.begin(fill)
        story = Story([content_of(pair.nodes["a"].root / "data")])
        application = Application(pair, rng, story)
        arm(pair, rng)
        chapter(pair, rng, application, story)
        for node in pair.nodes.values():
            node.disk.cut_at = None
        finish(pair, story)
    finally:
        pair.close()


def finish(pair: Pair, story: Story) -> None:
    """Everything that was received is applied: both trees are the story's last state."""
    target = next(n for n in pair.nodes.values() if n.worker._serving is None)
    epoch = target.record.epoch
    target.step(lambda n: messages.StopFollowing(n, epoch))
    a, b = (pair.nodes[name].root / "data" for name in "ab")
    assert tree(a) == tree(b), "the copies differ"
    assert content_of(a) == story.states[-1]
    assert not any(node.faults for node in pair.nodes.values())


# -- each rule taken out: the promise is seen to break ------------------------------------------

#: A rule that is missing shows itself within so many stories.
STORIES_MAX = 300


def breaks(watched: list[Disk], first: int = 0) -> bool:
    """From a story on that is known to show it (threads make each telling a little different)."""
    for seed in range(first, first + STORIES_MAX):
        try:
            play(watched, seed)
        except Stuck:
            continue  # without its rule it may well stand still, which breaks no promise
        except AssertionError:
            return True
        finally:
            watched.clear()
    return False


def test_without_i5_marks_that_are_not_durable_k1_k2(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations begin before their marks are on the disk."""
    monkeypatch.setattr(Keeper, "may_begin", lambda self, index, op: True)
    assert breaks(watched, 402)


def test_without_i12_nobody_flushes_k8(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A synchronisation or a checkpoint ends with its data in memory only."""
    for module in (synchronise, following, checkpointing):
        monkeypatch.setattr(module, "sync_all", lambda fds: None)
    assert breaks(watched, 403)


def test_without_fsync_on_the_secondary_p1(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stable acknowledgement that does not wait for the disks."""
    monkeypatch.setattr("safepy.dataplane.syncing.run_sync", lambda op, fd: os.close(fd))
    assert breaks(watched, 55)


# -- how much is looked at ------------------------------------------------------------------------


@contextlib.contextmanager
def secondary(watched: list[Disk], seed: int = 7) -> Iterator[tuple[Pair, Application, Story]]:
    """A pair at work; what the secondary's first start had found is made good."""
    rng = random.Random(seed)
    pair = Pair(watched, rng, "receipt")
    try:
        pair.begin(fill)
        story = Story([content_of(pair.nodes["a"].root / "data")])
        application = Application(pair, rng, story)
        application.run(first_start(pair), 20)
        found = pair.nodes["b"].root / "state" / "findings"
        pair.until(lambda: not found.exists(), "found for ever")
        yield pair, application, story
    finally:
        pair.close()


def cut(pair: Pair, application: Application, name: str = "b", calls: int = 5) -> None:
    """A node loses power after so many calls, while the primary works."""
    disk = pair.nodes[name].disk
    disk.cut_at = disk.moment + calls
    with contextlib.suppress(PowerCut):
        while True:
            application.run(pair.nodes["a"], 30)
    with contextlib.suppress(PowerCut):
        pair.notice()
    application.forget()


@pytest.mark.parametrize("rule", [True, False])
def test_i6_marks_stay_until_both_nodes_have_flushed(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """The secondary loses power when it is told to flush for a checkpoint. Taken out: a checkpoint
    that begins drops the marks before it."""
    rotate, checkpoint = Keeper.rotate, Following._checkpoint

    def hasty(self: Keeper) -> None:
        rotate(self)
        self.drop_previous()

    if not rule:
        monkeypatch.setattr(Keeper, "rotate", hasty)
        monkeypatch.setattr(power_pair, "LIMIT_S", 3.0)
    for seed in range(4 if rule else STORIES_MAX):
        with secondary(watched, seed) as (pair, application, story):

            def dies(self: Following, number: int, pair: Pair = pair) -> None:
                disk = pair.nodes["b"].disk
                disk.cut_at = disk.moment
                checkpoint(self, number)

            with monkeypatch.context() as patch, contextlib.suppress(PowerCut):
                patch.setattr(Following, "_checkpoint", dies)
                while True:
                    application.run(pair.nodes["a"], 10)
            application.forget()
            try:
                application.run(go_on(pair, story), 5)
                finish(pair, story)
            except Stuck:
                assert not rule  # it may well stand still, which breaks no promise
            except AssertionError:
                assert not rule
                return
    assert rule, "nothing differs without it"


@pytest.mark.parametrize("rule", [True, False])
def test_a_node_that_served_is_no_secondary_that_crashed(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch, rule: bool
) -> None:
    """The primary loses power, the other node takes over. Taken out: what the returning node did by
    itself keeps nobody from looking at the other one's marks alone."""
    if not rule:
        monkeypatch.setattr(power_pair, "LIMIT_S", 3.0)
        monkeypatch.setattr(Knowledge, "_logged", lambda self: [])
        monkeypatch.setattr(syncmode, "crashed_as_primary", lambda record: False)
    for seed in range(4 if rule else STORIES_MAX):
        with secondary(watched, seed) as (pair, application, story):
            cut(pair, application, "a", 3 + seed % 40)
            try:
                application.run(go_on(pair, story), 5)
                assert (pair.modes[-1][0] == "walk") is rule
                finish(pair, story)
            except Stuck:
                assert not rule  # it may well stand still, which breaks no promise
            except AssertionError:
                assert not rule
                return
    assert rule, "nothing differs without it"


def test_a_secondary_that_lost_power_gets_the_marked_zones(watched: list[Disk]) -> None:
    with secondary(watched) as (pair, application, story):
        for _ in range(3):
            cut(pair, application)
            application.run(go_on(pair, story), 10)
            assert pair.modes[-1][0] == "zones"
        finish(pair, story)


@pytest.mark.parametrize("rule", [True, False])
@pytest.mark.parametrize("adopted", [True, False])
def test_a_join_that_failed_costs_what_was_marked(
    watched: list[Disk], monkeypatch: pytest.MonkeyPatch, adopted: bool, rule: bool
) -> None:
    """The secondary loses power before it has adopted, or after, before it said so. Without the
    rule everything is compared in the first case."""
    claim, adopt = records.claim, records.adopt
    if not rule:
        monkeypatch.setattr(records, "claim", lambda record, session, _: claim(record, session))
    with secondary(watched) as (pair, application, story):

        def dies(*args: object) -> Record:
            disk = pair.nodes["b"].disk
            disk.cut_at = disk.moment + (2 if adopted else 0)
            return adopt(*args)  # type: ignore[arg-type]

        cut(pair, application)
        with monkeypatch.context() as patch, contextlib.suppress(PowerCut):
            patch.setattr(records, "adopt", dies)
            go_on(pair, story)
            pair.until(lambda: False, "the power stays")
        with contextlib.suppress(PowerCut):
            pair.notice()
        assert not pair.nodes["b"].up
        source = go_on(pair, story)
        application.run(source, 10)
        wanted = "zones" if rule or adopted else "everything"
        assert pair.modes[-1][0] == wanted, pair.modes
        finish(pair, story)
