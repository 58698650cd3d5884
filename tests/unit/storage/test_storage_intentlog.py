"""The intent log: what was durable is found again, whatever a crash did to the rest (I5, 2.2)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.core.replica import intent
from safepy.core.replica.intent import (
    ALL_TREES,
    BLOCK_BYTES,
    ENTRIES_A_BLOCK,
    WHOLE,
    Block,
    Entry,
    Everything,
    NewSince,
    Touched,
)
from safepy.errors import LocalFault
from safepy.storage.intentlog import IntentLog

BLOCKS = 32


class PowerCut(Exception):
    pass


class CutLog(IntentLog):
    """Writes reach the "disk" at fdatasync; a power cut leaves any of the others, torn or not."""

    def __init__(self, path: str, rng: random.Random) -> None:
        super().__init__(path, BLOCKS)
        self.rng = rng
        self.cut_in = -1
        self.pending: list[tuple[int, bytes]] = []

    def _put(self, block: Block) -> None:
        place = block.sequence % BLOCKS
        self.pending.append((place, intent.encode(block)))

    def _settle(self) -> None:
        if self.cut_in == 0:
            for place, data in self.pending:
                fate = self.rng.randrange(3)
                if fate == 0:
                    continue
                torn = data if fate == 1 else data[: self.rng.randrange(1, BLOCK_BYTES)]
                os.pwrite(self._fd, torn, place * BLOCK_BYTES)
            self.pending.clear()
            raise PowerCut
        self.cut_in -= 1
        for place, data in self.pending:
            os.pwrite(self._fd, data, place * BLOCK_BYTES)
        self.pending.clear()
        super()._settle()


def entries_in(log: IntentLog) -> set[Entry]:
    recovered = log.open()
    assert not recovered.damaged
    return {entry for _, entry in recovered.entries}


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[str, int, int]]]:
    """(seed, steps); a step is (what, how many entries, cut at which settling or -1)."""
    kinds = st.sampled_from(["write", "write", "write", "rotate", "drop", "reset", "rewrite"])
    cuts = st.sampled_from([-1, -1, -1, -1, -1, 0, 1])
    steps = st.tuples(kinds, st.integers(0, 2 * ENTRIES_A_BLOCK), cuts)
    return draw(st.integers(0, 1 << 30)), draw(st.lists(steps, max_size=60))


@settings(max_examples=60, deadline=None)
@given(histories())
def test_no_durable_mark_is_ever_lost(history: tuple[int, list[tuple[str, int, int]]]) -> None:
    seed, steps = history
    rng = random.Random(seed)
    path = f"/dev/shm/intent-{os.getpid()}"
    Path(path).unlink(missing_ok=True)
    try:
        log = CutLog(path, rng)
        assert entries_in(log) == {Everything(ALL_TREES)}
        live: dict[int, set[Entry]] = {0: {Everything(ALL_TREES)}}
        window, inode = 1, 0
        log.rewrite([(w, sorted(e, key=repr)) for w, e in live.items()])
        for what, count, cut in steps:
            fresh: list[Entry] = [Touched(0, inode + at, at, 1) for at in range(count)]
            inode += count
            log.cut_in = cut
            after = {w: set(e) for w, e in live.items()}
            try:
                if log.room < 2 + len(intent.in_blocks(fresh)) or what == "rewrite":
                    log.rewrite([(w, list(e)) for w, e in live.items()])
                elif what == "write":
                    after.setdefault(window, set()).update(fresh)
                    log.write(window, fresh)
                elif what == "rotate":
                    window += 1
                    after[window] = {NewSince(0, b"sessions", inode)}
                    log.write(window, list(after[window]))
                elif what == "drop":
                    log.forget_before(window)
                    if window in after:
                        after = {window: after[window]}
                elif what == "reset":
                    after = {window: set(fresh[:ENTRIES_A_BLOCK])}
                    log.reset(window, fresh[:ENTRIES_A_BLOCK])
                live = after
            except PowerCut:
                log.cut_in = -1
                found = entries_in(log)
                before_cut = set().union(*live.values())
                after_cut = set().union(*after.values())
                # Neither half of a change: all that counted before, or all that counts after.
                assert before_cut <= found or (what == "reset" and after_cut <= found)
                assert found <= before_cut | after_cut | found
                live = {0: found}
                window += 1
                if rng.random() < 0.5 or log.large:  # else what follows lies behind the gap
                    log.rewrite([(0, sorted(found, key=repr))])
            log.cut_in = -1
            sizes = sum(map(len, live.values()))
            if sizes > ENTRIES_A_BLOCK * (BLOCKS // 4):
                live = {window: set()}
                log.reset(window, [])
        expected = set().union(*live.values())
        assert expected <= entries_in(IntentLog(path, BLOCKS))
    finally:
        Path(path).unlink(missing_ok=True)


@given(
    st.lists(
        st.one_of(
            st.builds(
                Touched,
                st.integers(0, 65535),
                st.integers(0, 2**64 - 1),
                st.integers(0, 2**43),
                st.integers(1, WHOLE),
            ),
            st.builds(
                NewSince,
                st.integers(0, 65535),
                st.binary(min_size=8, max_size=8),
                st.integers(0, 2**48 - 1),
            ),
            st.builds(Everything, st.integers(0, 65535)),
        ),
        max_size=ENTRIES_A_BLOCK,
    ),
    st.integers(0, 2**63),
)
def test_a_block_is_read_as_it_was_written(entries: list[Entry], sequence: int) -> None:
    block = Block(b"i" * 16, intent.CLEAN, sequence, 3, 2, 7, tuple(entries))
    data = intent.encode(block)
    assert len(data) == BLOCK_BYTES
    assert intent.decode(data) == block
    assert intent.decode(data[:-1]) is None
    for at in (0, 9, 30, 60, 100, BLOCK_BYTES - 1):
        assert intent.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None


def test_a_block_that_had_been_durable_and_is_gone_makes_everything_suspect(
    tmp_path: Path,
) -> None:
    path = tmp_path / "intent.log"
    log = IntentLog(str(path), BLOCKS)
    log.open()
    log.reset(1, [])
    for inode in range(4):
        log.write(1, [Touched(0, inode, 0, 1)])
    place = (log.next_sequence - 2) % BLOCKS
    with path.open("r+b") as file:
        file.seek(place * BLOCK_BYTES + 50)
        file.write(b"rotten")
    found = IntentLog(str(path), BLOCKS).open()
    assert [entry for _, entry in found.entries] == [Everything(ALL_TREES)]


def test_what_is_written_behind_a_torn_block_counts(tmp_path: Path) -> None:
    """A power cut tore the first block of a moment and left the second one: no later mark, which
    was durable, may be lost for that."""
    path = tmp_path / "intent.log"
    log = IntentLog(str(path), BLOCKS)
    log.open()
    log.reset(1, [Touched(0, 1, 0, 1)])
    torn = log.next_sequence % BLOCKS
    log.write(1, [Touched(0, inode, 0, 1) for inode in range(2, 2 + ENTRIES_A_BLOCK + 1)])
    with path.open("r+b") as file:
        file.seek(torn * BLOCK_BYTES + 50)
        file.write(b"torn!!")
    again = IntentLog(str(path), BLOCKS)
    again.open()
    again.write(1, [Touched(0, 999, 0, 1)])
    assert {Touched(0, 1, 0, 1), Touched(0, 999, 0, 1)} <= entries_in(again)


@pytest.mark.parametrize("spoil", ["absent", "short", "zeros"])
def test_a_log_that_is_gone_suspects_everything(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "state" / "intent.log"
    log = IntentLog(str(path), BLOCKS)
    log.open()
    log.reset(1, [])
    assert entries_in(log) == set()
    if spoil == "absent":
        path.unlink()
    elif spoil == "short":
        os.truncate(path, BLOCK_BYTES)
    else:
        path.write_bytes(bytes(BLOCKS * BLOCK_BYTES))
    assert entries_in(log) == {Everything(ALL_TREES)}
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_the_newest_block_can_say_that_the_run_ended_in_order(tmp_path: Path) -> None:
    log = IntentLog(str(tmp_path / "intent.log"), BLOCKS)
    log.open()
    log.write(1, [Touched(0, 5, 0, 1)])
    number = log.next_sequence
    log.end(1)
    again = log.open()
    assert again.clean_sequence == number
    assert (1, Touched(0, 5, 0, 1)) in again.entries
    log.write(2, [])
    assert log.open().clean_sequence == 0


def test_the_size_never_changes_and_a_full_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "intent.log"
    log = IntentLog(str(path), BLOCKS)
    log.open()

    def fill(write: Callable[[int], None]) -> None:
        for number in range(10 * BLOCKS):
            write(number)

    with pytest.raises(LocalFault, match="no room"):
        fill(lambda number: log.write(1, [Touched(0, number, 0, 1)]))
    assert path.stat().st_size == BLOCKS * BLOCK_BYTES
    assert Everything(ALL_TREES) in entries_in(log)
    log.reset(1, [])

    def rewriting(number: int) -> None:
        if log.large:
            log.rewrite([(1, [Touched(0, 1, 0, number)])])
        log.write(1, [Touched(0, 2, number, 1)])

    fill(rewriting)
    assert path.stat().st_size == BLOCKS * BLOCK_BYTES


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "intent.log"
    log = IntentLog(str(path), BLOCKS)
    log.open()
    os.close(log._fd)
    log._fd = os.open(path, os.O_RDONLY)
    with pytest.raises(LocalFault, match="cannot be written"):
        log.write(1, [])
