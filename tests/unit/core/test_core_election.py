"""The reunion table and the permissions (protocol 6 and 7), row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safepy.core.election import Decision, Situation, Verdict, decide
from safepy.core.reunion import behind, must_keep_aside, reunion, wins_split
from safepy.model import Active, Disk, PeerView, Record, State, Status

UP, OUT, BAD, NEW = Disk.UPTODATE, Disk.OUTDATED, Disk.INCONSISTENT, Disk.UNCONFIGURED


def record(node: str, disk: Disk = UP, gen: str = "g", base: str = "", **fields: object) -> Record:
    peer = "b" if node == "a" else "a"
    made = Record(cluster_id="c", module="m", node=node, peer=peer, disk=disk, gen=gen, base=base)
    return replace(made, **fields)  # type: ignore[arg-type]


def view(
    of: Record, state: State = State.WAIT, lost: bool = False, ready: bool | None = None
) -> PeerView:
    return PeerView(
        node=of.node,
        state=state,
        status=Status.TRANSIENT,
        record=of,
        serving=state in (State.ALONE, State.PRIM),
        lost_volatile=lost,
        ready_to_follow=state is State.WAIT if ready is None else ready,
    )


A, B = record("a"), record("b")


@pytest.mark.parametrize(
    ("mine", "theirs", "row", "source"),
    [
        (record("a", NEW, ""), record("b", NEW, ""), "D1", None),
        (record("a", UP), record("b", NEW, ""), "D2", True),
        (record("a", OUT), record("b", OUT), "D3", None),
        (record("a", OUT), record("b", BAD), "D3", None),
        (record("a", UP), record("b", OUT), "D4", True),
        (record("a", UP), record("b", BAD), "D4", True),
        # The good one was put back to an older state: an ancestor of the other's generation.
        (record("a", UP, "g"), record("b", OUT, "h", "g"), "D4", None),
        (A, B, "D5", True),
        (replace(A, last_role="S"), replace(B, last_role="P"), "D5", False),
        (record("a", active=Active.SECONDARY), record("b", active=Active.PRIMARY), "D6", False),
        (record("a", active=Active.PRIMARY), record("b", active=Active.SECONDARY), "D6", True),
        (record("a", UP, "h", "g"), record("b", UP, "g"), "D7", True),
        (record("a", UP, "k", "h", history=((2, "h"), (1, "g"))), record("b", UP, "g"), "D8", True),
        (record("a", UP, "x", "g", modified=True), record("b", UP, "y", "g"), "D9", True),
        (
            record("a", UP, "x2", "x", history=((3, "x"), (1, "g"))),
            record("b", UP, "y", "g"),
            "D10",
            None,
        ),
        (record("a", UP, "x"), record("b", UP, "y"), "D11", None),
    ],
)
def test_reunion_rows_seen_from_both_sides(
    mine: Record, theirs: Record, row: str, source: bool | None
) -> None:
    here = reunion(mine, False, view(theirs))
    there = reunion(theirs, False, view(mine))
    assert (here.row, here.source) == (row, source)
    assert there.row == row
    assert there.source is (None if source is None else not source), "both compute one answer"


def test_a_survivor_that_kept_its_memory_is_preferred_to_the_primary_that_crashed() -> None:
    prim, second = record("a", active=Active.PRIMARY), record("b", active=Active.SECONDARY)
    assert reunion(second, False, view(prim, lost=True)).source is True
    assert reunion(prim, True, view(second)).source is False


@pytest.mark.parametrize(
    ("mine", "theirs", "stays"),
    [
        (record("b", forced=True), record("a", modified=True, solo_role="P"), True),
        (record("b", modified=True), record("a", solo_role="P"), True),
        (record("b", solo_role="P"), record("a", solo_role="S"), True),
        (record("b", modified=True, solo_role="S"), record("a", modified=True), False),
        (record("a"), record("b"), True),
    ],
)
def test_who_stays_after_a_split_brain(mine: Record, theirs: Record, stays: bool) -> None:
    assert wins_split(mine, theirs) is stays
    assert wins_split(theirs, mine) is not stays, "exactly one stays"


def situation(mine: Record, peer: PeerView | None = None, **fields: object) -> Situation:
    made = Situation(mine, lost_volatile=False, peer=peer, absent=peer is None, listened=True)
    return replace(made, **fields)  # type: ignore[arg-type]


def verdict(decision: Decision) -> tuple[Verdict, str]:
    return decision.verdict, decision.row


ALONE_BEFORE = record("a", UP, "h", "g", peer_behind=True)


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        # E0: known to be the newest; four pulses of listening are enough (F6).
        (situation(ALONE_BEFORE, absent=False), (Verdict.LEAD, "E0")),
        (situation(ALONE_BEFORE, absent=False, listened=False), (Verdict.WAIT, "")),
        # The other may have more: wait, as long as nobody is there (F3, F4, K12c).
        (situation(A), (Verdict.WAIT, "E6")),
        (situation(record("a", OUT)), (Verdict.WAIT, "E6")),
        # I20: nothing is decided by silence before a whole start window.
        (situation(A, absent=False), (Verdict.WAIT, "")),
        # E1: the other one says itself that it is behind.
        (situation(A, view(record("b", OUT), State.STOP)), (Verdict.LEAD, "E1")),
        (situation(A, view(record("b", BAD), State.STOP)), (Verdict.LEAD, "E1")),
        (situation(A, view(B, State.STOP)), (Verdict.WAIT, "D5")),
        # Two that wait: the target steps back durably first, then the source leads.
        (situation(A, view(B)), (Verdict.WAIT, "D5")),
        (situation(B, view(A)), (Verdict.YIELD, "D5")),
        (situation(B, view(A, ready=False)), (Verdict.WAIT, "D5")),
        (situation(A, view(record("b", OUT))), (Verdict.LEAD, "E1")),
        # Both went alone, both stopped, both start: one steps back.
        (
            situation(
                record("a", UP, "x", "g", peer_behind=True),
                view(record("b", UP, "y", "g", peer_behind=True, modified=True)),
            ),
            (Verdict.YIELD, "D9"),
        ),
        # The other leads.
        (situation(record("a", OUT), view(B, State.ALONE)), (Verdict.FOLLOW, "D4")),
        (situation(record("a", NEW, ""), view(B, State.PRIM)), (Verdict.FOLLOW, "D2")),
        (
            situation(record("a", UP, "x"), view(record("b", UP, "y"), State.ALONE)),
            (Verdict.WAIT, "D11"),
        ),
        # A secondary in sync takes over by itself.
        (situation(A, view(B, State.SECOND)), (Verdict.WAIT, "")),
        # Another cluster, another node of the same name.
        (situation(A, view(replace(B, cluster_id="other"))), (Verdict.WAIT, "D0")),
        (situation(A, view(record("a"))), (Verdict.WAIT, "D0")),
        (situation(A, view(replace(B, module="n"))), (Verdict.WAIT, "D0")),
        (situation(A, view(replace(B, node="c"))), (Verdict.WAIT, "D0")),
        # Nobody leads or follows against it, whatever is wished.
        (situation(A, view(record("a"), State.PRIM), wish="prim"), (Verdict.WAIT, "D0")),
        (situation(ALONE_BEFORE, view(record("a"))), (Verdict.WAIT, "D0")),
        (situation(record("a", NEW, ""), view(record("a"), State.PRIM)), (Verdict.WAIT, "D0")),
        # What is believed of the peer may be from its former life.
        (situation(B, view(A), uncertain=True), (Verdict.WAIT, "")),
    ],
)
def test_decisions_in_wait(s: Situation, expected: tuple[Verdict, str]) -> None:
    assert verdict(decide(s)) == expected


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        (situation(record("a", NEW, ""), wish="prim"), (Verdict.LEAD, False)),
        (situation(A, wish="prim"), (Verdict.LEAD, False)),
        (situation(record("a", OUT), wish="prim"), (Verdict.LEAD, True)),
        (situation(record("a", BAD), wish="prim"), (Verdict.ABORT, False)),
        (situation(A, view(B, State.ALONE), wish="prim"), (Verdict.ABORT, False)),
        (situation(A, wish="prim", listened=False, absent=False), (Verdict.WAIT, False)),
        (situation(A, wish="second"), (Verdict.ABORT, False)),
        (situation(A, view(B), wish="second"), (Verdict.ABORT, False)),
        (situation(A, view(B, State.PRIM), wish="second"), (Verdict.FOLLOW, False)),
    ],
)
def test_prim_and_second(s: Situation, expected: tuple[Verdict, bool]) -> None:
    decision = decide(s)
    assert (decision.verdict, decision.forced) == expected


def test_an_operator_makes_a_node_with_unrelated_data_follow_and_keeps_it_aside() -> None:
    theirs = record("b", UP, "y")
    decision = decide(situation(record("a", UP, "x"), view(theirs, State.ALONE), wish="second"))
    assert (decision.verdict, decision.keep_aside) == (Verdict.FOLLOW, True)


@pytest.mark.parametrize(
    ("target", "source", "keep"),
    [
        (record("a", NEW, ""), B, True),
        (record("a", OUT, "g"), record("b", UP, "h", "g"), False),
        (record("a", UP, "x", "g"), record("b", UP, "y", "g"), True),
        (record("a", BAD, "x", "g"), record("b", UP, "y", "g"), True),
        (record("a", UP, "h", "g", history=((1, "g"),)), record("b", UP, "g"), True),
        (A, B, False),
    ],
)
def test_what_exists_nowhere_else_is_kept_aside(target: Record, source: Record, keep: bool) -> None:
    assert must_keep_aside(target, source) is keep


def test_behind_is_told_by_generations_alone() -> None:
    assert behind(record("a", UP, "g"), view(record("b", UP, "h", "g"), State.PRIM))
    assert not behind(record("a", UP, "g"), view(record("b", UP, "g", peer_behind=True)))
    assert not behind(record("a", UP, "x", "g"), view(record("b", UP, "y", "g")))
    assert not behind(record("a", UP, "g"), view(record("b", OUT, "h", "g")))


def test_waiting_names_the_way_out() -> None:
    decision = decide(situation(record("a", OUT)))
    assert decision.blocked and decision.remedy == "prim"
    assert decide(situation(record("a", BAD))).remedy == "", "prim would be refused"


def test_without_replicated_directories_one_of_two_leads_and_an_absent_peer_does_not_count() -> (
    None
):
    def no_data(s: Situation) -> Verdict:
        return decide(replace(s, has_data=False)).verdict

    assert no_data(situation(record("a", NEW, ""))) is Verdict.LEAD
    pair = (situation(A, view(B)), situation(B, view(A)))
    assert [no_data(s) for s in pair] == [Verdict.LEAD, Verdict.WAIT]
    assert no_data(situation(A, view(B, State.PRIM))) is Verdict.FOLLOW
