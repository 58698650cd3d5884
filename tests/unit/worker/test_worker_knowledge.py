"""What a node knows of its own tree over stops, crashes and adoptions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safepy.core.replica.intent import Touched
from safepy.core.replica.suspects import ALL
from safepy.dataplane.keeper import Keeper
from safepy.host.loop import Loop
from safepy.model import SyncMode
from safepy.storage.backing import Tree
from safepy.worker import knowledge as module
from safepy.worker import messages
from safepy.worker.choosing import Offer, choose
from safepy.worker.knowledge import CRASHED, FRESH, NO_SEAL, OWN_SUSPECTS, Knowledge


class Node:
    """The runs of one node's worker, one after the other."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "tree"
        self.root.mkdir()
        (self.root / "f").write_bytes(b"content")
        self.fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        self.loop = Loop()
        self.said: list[str] = []
        self.now: Knowledge
        self.start()

    def until(self, condition: Any) -> None:
        limit_s = self.loop.now_s + 20
        while not condition():
            assert self.loop.now_s < limit_s, "not in time"
            self.loop.turn(0.01)

    def start(self) -> None:
        setup = messages.Setup(
            step_id=0,
            module="AM",
            node="n1",
            peer="n2",
            key="",
            listen=("", 1),
            dial=("", 1),
            paths=[],
            doors=[],
            acknowledge_on="receipt",
            acl=False,
            transfers=1,
            locktimeout_s=1.0,
            sendtimeout_s=1.0,
            keep_dir="",
            state_dir=str(self.base / "state"),
        )
        self.now = Knowledge(self.loop, setup, [self.fd], lambda _, text: self.said.append(text))
        done: list[str] = []
        self.now.start(done.append)
        self.until(lambda: bool(done))
        assert done == [""]
        known: list[bool] = []
        self.now.when_known(lambda: known.append(True))
        self.until(lambda: bool(known))

    def stop(self) -> None:
        """In order: a seal is left."""
        done: list[bool] = []
        self.now.seal(lambda: done.append(True))
        self.until(lambda: bool(done))
        self.now.close()

    def crash(self) -> None:
        self.now._wait()
        self.now.close()

    def serve(self) -> Keeper:
        tree = Tree(os.dup(self.fd), 0, False)
        keeper = self.now.keeper([tree], b"sessions", *[lambda *_: None] * 3)
        assert keeper.intent is not None
        intent = keeper.intent
        self.until(lambda: intent._begun and not intent._thread.busy)
        return keeper

    def offered(self) -> tuple[bool, str, list[bytes]]:
        _, offers = self.now.offer()
        assert [offer.last for offer in offers] == [False] * (len(offers) - 1) + [True]
        paths = [path for offer in offers for _, path in offer.paths]
        return offers[-1].known, offers[-1].reason, paths


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.crash()
    os.close(made.fd)


def adopt(node: Node) -> None:
    """A resynchronisation came to its end here."""
    node.now.changing()
    node.now.adopted()


def test_a_node_without_a_past_knows_nothing(node: Node) -> None:
    assert node.offered() == (False, NO_SEAL, [])
    assert node.now.offer()[0][0].everything
    assert node.serve().suspect_everything_because


def test_a_node_that_adopted_and_stopped_knows_what_changed_since(node: Node) -> None:
    adopt(node)
    node.stop()
    node.start()
    assert node.offered() == (True, "", [])
    node.stop()
    (node.root / "f").write_bytes(b"CONTENT")
    node.start()
    assert node.offered() == (True, "", [b"f"])
    inode = (node.root / "f").stat().st_ino
    assert node.now.offer()[0][0].of(inode, b"") == ALL


def test_what_was_found_is_known_until_it_is_made_good(node: Node) -> None:
    """Over further stops and crashes: nothing forgets it but an adoption (I8)."""
    adopt(node)
    node.stop()
    (node.root / "f").write_bytes(b"CONTENT")
    node.start()
    node.stop()
    node.start()
    assert node.offered() == (True, "", [b"f"])
    node.crash()
    node.start()
    assert node.offered() == (False, CRASHED, [])
    assert node.now.offer()[0][0].of((node.root / "f").stat().st_ino, b"") == ALL
    adopt(node)
    assert node.offered() == (True, "", [])
    node.stop()
    node.start()
    assert node.offered() == (True, "", [])


def test_a_crash_is_remembered_over_a_stop(node: Node) -> None:
    adopt(node)
    node.crash()
    node.start()
    assert node.offered()[1] == CRASHED
    node.stop()
    node.start()
    assert node.offered()[1] == CRASHED


def test_a_stop_without_a_seal_leaves_everything_unknown(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(node)
    with monkeypatch.context() as patch:
        patch.setattr(module.seal, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        node.stop()
    assert any("No seal" in text for text in node.said)
    node.start()
    assert node.offered() == (False, NO_SEAL, [])


def test_more_changes_than_can_be_told_are_walked(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(node)
    node.stop()
    monkeypatch.setattr(module, "PATHS_MAX", 5)
    for number in range(9):
        (node.root / f"n{number}").write_bytes(b"x")
    node.start()
    known, _, _ = node.offered()
    assert not known
    suspects = node.now.offer()[0][0]
    assert not suspects.everything
    for number in range(9):
        assert suspects.of((node.root / f"n{number}").stat().st_ino, b"") == ALL
    monkeypatch.setattr(module, "FILES_MAX", 5)
    node.stop()
    (node.root / "f").chmod(0o600)
    node.start()
    assert node.now.offer()[0][0].everything


def test_paths_are_told_in_messages_of_a_bounded_size(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(node)
    node.stop()
    monkeypatch.setattr(module, "PATHS_A_MESSAGE", 2)
    for number in range(5):
        (node.root / f"n{number}").write_bytes(b"x")
    node.start()
    _, offers = node.now.offer()
    assert max(len(offer.paths) for offer in offers) == 2
    assert {b"n%d" % n for n in range(5)} <= set(node.offered()[2])


def test_a_node_that_takes_over_knows_all_it_changes(node: Node) -> None:
    adopt(node)
    keeper = node.serve()
    assert keeper.incomplete == keeper.suspect_everything_because == ""
    keeper.intent.stop()  # type: ignore[union-attr]
    node.now.in_sync = True
    node.now.changing()  # a synchronisation that did not come to its end
    assert node.serve().incomplete == FRESH


def test_marks_outlive_a_clean_stop_and_nothing_else(node: Node) -> None:
    adopt(node)
    keeper = node.serve()
    keeper.paths.add(0, "extents", b"f", 0, 1)
    node.now.end_serving(keeper, clean=True, equal=False)
    node.stop()
    node.start()
    keeper = node.serve()
    assert keeper.incomplete == ""
    assert set(keeper.take()[0]) == {b"f"}
    # That run ends without a word: the file is still there, but it is of the run before.
    node.crash()
    node.start()
    keeper = node.serve()
    assert keeper.incomplete
    assert keeper.take() == [{}]


def test_what_is_in_the_log_after_a_crash_is_asked_for(node: Node) -> None:
    adopt(node)
    keeper = node.serve()
    inode = (node.root / "f").stat().st_ino
    written: list[bool] = []
    keeper.intent.suspect([Touched(0, inode, 0, 1)], lambda: written.append(True))  # type: ignore[union-attr]
    node.until(lambda: bool(written))
    node.now.end_serving(keeper, clean=False, equal=False)
    assert node.offered() == (False, OWN_SUSPECTS, [])
    assert node.now.offer()[0][0].of(inode, b"") == ((0, 1 << 20),)


def test_a_primary_that_handed_over_has_nothing_to_be_asked_for(node: Node) -> None:
    adopt(node)
    keeper = node.serve()
    keeper.reset()
    node.now.joined()
    keeper.paths.add(0, "extents", b"f", 0, 1)
    node.until(lambda: not keeper.intent._thread.busy)  # type: ignore[union-attr]
    node.now.end_serving(keeper, clean=True, equal=True)
    assert node.offered() == (True, "", [])


def test_changes_of_a_stop_are_marked_when_the_node_serves(node: Node) -> None:
    adopt(node)
    node.stop()
    (node.root / "f").write_bytes(b"CONTENT")
    node.start()
    node.now.in_sync = True
    keeper = node.serve()
    assert keeper.take()[0][b"f"].walk
    assert keeper.suspects(True)[0].of((node.root / "f").stat().st_ino, b"") == ALL


LEAST = list(SyncMode)


@pytest.mark.parametrize("least", LEAST)
@pytest.mark.parametrize("suspect", ["", "lost"])
@pytest.mark.parametrize("incomplete", ["", "crashed"])
@pytest.mark.parametrize("known", [True, False])
def test_the_most_that_anybody_asks_for_is_looked_at(
    least: SyncMode, suspect: str, incomplete: str, known: bool
) -> None:
    offer = Offer(known=known, reason="" if known else "who knows", complete=True)
    mode, reason = choose(least, "records", suspect, incomplete, offer)
    asked = [least]
    asked += [SyncMode.EVERYTHING] if suspect else []
    asked += [SyncMode.WALK] if incomplete or not known else []
    assert mode is max(asked, key=LEAST.index)
    assert reason in ("records", suspect, incomplete, offer.reason) and reason
