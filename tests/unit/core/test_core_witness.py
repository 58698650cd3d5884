"""The witness register (protocol 7.1) and what is configured of arbiters (protocol 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.core import arbitration, permission
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.machine import initial
from safepy.core.state import Inquiry, Lane, ModuleState, Params
from safepy.core.turn import Turn
from safepy.core.witness import LOST, Register, claim, register_anew
from safepy.model import Disk, PeerView, Record, State, Status

WITNESS, PING, WATCHDOG, FENCE = Arbiter.WITNESS, Arbiter.PING, Arbiter.WATCHDOG, Arbiter.FENCE
CLAIMS = st.lists(st.tuples(st.sampled_from(["n1", "n2"]), st.integers(0, 6)), max_size=30)


@given(CLAIMS)
def test_one_owner_for_each_epoch_and_never_back(claims: list[tuple[str, int]]) -> None:
    """I3, whatever is claimed, repeated or arrives late."""
    register: Register | None = register_anew(2)
    owners: dict[int, str] = {}
    for node, want in claims:
        before = register
        register, answer = claim(register, node, want)
        assert register is not None and before is not None
        assert register.epoch >= before.epoch
        assert (answer.epoch, answer.owner) == (register.epoch, register.owner)
        if not answer.granted:
            assert register == before and answer.refusal
            continue
        assert owners.setdefault(want, node) == node
        assert want > 2 and register == Register(want, node)


def test_a_retry_is_harmless_and_the_other_one_is_refused() -> None:
    register, first = claim(Register(4), "n1", 5)
    register, again = claim(register, "n1", 5)
    assert first.granted and again.granted
    _, other = claim(register, "n2", 5)
    assert not other.granted
    assert other.refusal == "the witness gave the right to serve to n1 (epoch 5)"


def test_a_witness_that_lost_its_state_grants_nothing() -> None:
    register, answer = claim(None, "n1", 10**9)
    assert register is None and not answer.granted and answer.refusal == LOST


def test_registered_anew_while_the_pair_is_in_sync() -> None:
    """Claims of earlier periods stay refused, that of the next one is open."""
    register = register_anew(7)
    assert not claim(register, "n1", 7)[1].granted
    assert claim(register, "n2", 8)[1].granted


# -- what is configured ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "required", [(WITNESS, WITNESS), (WITNESS, FENCE, PING), (WATCHDOG,)], ids=str
)
def test_what_cannot_be_required(required: tuple[Arbiter, ...]) -> None:
    with pytest.raises(ValueError, match=r"arbiters|watchdog"):
        Arbitration(required)


def test_switching_off_comes_last() -> None:
    assert Arbitration((FENCE, WITNESS)).required == (WITNESS, FENCE)


@pytest.mark.parametrize(
    ("required", "sound"),
    [((), False), ((PING,), False), ((WITNESS,), True), ((PING, WITNESS), True), ((FENCE,), True)],
    ids=str,
)
def test_which_arbiters_exclude_a_split_brain(required: tuple[Arbiter, ...], sound: bool) -> None:
    choice = Arbitration(required)
    assert choice.sound is sound
    name = arbitration.evidence(choice.required)
    assert arbitration.heuristic(name) is not sound
    assert ("split brain possible" in arbitration.sentence(name)) is not sound


def test_all_of_them_or_nobody() -> None:
    """K12b"""
    assert permission.agreed((), frozenset())
    assert not permission.agreed((WITNESS, FENCE), frozenset({FENCE}))
    assert permission.agreed((WITNESS, FENCE), frozenset({FENCE, WITNESS}))


def node(*required: Arbiter, shared: int = 5, guarded: str = "n2", rfs: bool = True) -> ModuleState:
    params = Params(
        module="m",
        node="n1",
        peer="n2",
        cluster_id="c",
        lanes=(Lane("default", 0.5, 5.0),),
        session="s",
        boot_id="b",
        has_rfs=rfs,
        arbitration=Arbitration(required, guarded, 3.0),
    )
    record = Record(gen="a" * 32, epoch=shared, promised=9, disk=Disk.UPTODATE, shared=shared)
    return initial(params, record, 0.0)


def test_who_must_agree() -> None:
    """The column "valid for" of protocol 7, and what only makes sense on one of the nodes."""
    assert permission.needed(node(), back=False) == ()
    assert permission.needed(node(), back=True) is None
    assert permission.needed(node(PING), back=False) == (PING,)
    for arbiter in (PING, FENCE, WATCHDOG):
        assert permission.needed(node(arbiter), back=True) is None
    assert permission.needed(node(WITNESS), back=True) == (WITNESS,)
    assert permission.needed(node(WITNESS, FENCE), back=True) == (WITNESS, FENCE)
    # The node that has the watchdog cannot take the other one's silence for a reset.
    assert permission.needed(node(WATCHDOG, guarded="n1"), back=False) is None
    # Never in sync: no number that both nodes would claim.
    assert permission.needed(node(WITNESS, shared=0), back=False) is None
    # Without data nobody's copy can be older.
    assert permission.needed(node(WITNESS, rfs=False), back=False) == ()


def test_both_nodes_claim_the_same_number() -> None:
    """Whatever either of them has seen since (I3)."""
    assert permission.want(node(WITNESS, shared=5)) == 6


def test_failover_off_asks_only_for_a_former_primary() -> None:
    state = node(WITNESS)
    assert permission.may_ask_in_wait(state)
    state.failover = False
    assert not permission.may_ask_in_wait(state)
    state.wanted = Record(last_role="P", shared=5)
    assert permission.may_ask_in_wait(state)


def test_what_was_said_of_a_silent_node_is_void_once_it_is_heard() -> None:
    """But not what the witness granted: it stands in the register."""
    state = node(WITNESS, PING)
    state.inquiry = Inquiry(6, 0.0, frozenset({WITNESS, PING}), step=3, asked=FENCE)
    state.peer = PeerView("n2", State.SECOND, Status.READY, Record())
    t = Turn(state, 1.0)
    assert permission.rules(t)
    assert t.s.inquiry == Inquiry(6, 1.0, frozenset({WITNESS}))
    assert not permission.rules(t)


def test_no_answer_of_yesterday_counts() -> None:
    state = node(WITNESS, FENCE)
    state.inquiry = Inquiry(6, 0.0, granted=frozenset({WITNESS}))
    assert not permission.granted(state, (WITNESS, FENCE))
    assert permission.granted(state, (WITNESS,))
