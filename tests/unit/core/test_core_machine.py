"""The door itself: what holds for every step, told with one node and a peer made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core import invariants, records
from safepy.core.commands import Command
from safepy.core.machine import initial, next_deadline, step
from safepy.core.state import Lane, Link, ModuleState, Params
from safepy.core.status import snapshot
from safepy.core.turn import Turn
from safepy.model import Active, Beat, Disk, Gate, Level, PeerView, Record, State, Status

PARAMS = Params(
    module="AM",
    node="n1",
    peer="n2",
    cluster_id="cid",
    lanes=(Lane("default", 1.0, 10.0),),
    session="mine",
    boot_id="boot-1",
)


class Node:
    """Steps one state and answers every step at once, except what a test keeps back."""

    def __init__(self, params: Params = PARAMS, record: Record | None = None) -> None:
        self.state: ModuleState = initial(params, record, 0.0)
        self.now = 0.0
        self.told: list[Command] = []
        self.keep_back: tuple[type, ...] = ()
        self.kept: list[Command] = []
        self.peer_counter = 0
        self.last_beat = 0
        self.happen(e.Tick())

    def happen(self, event: e.Event) -> list[Command]:
        self.state, commands = step(self.state, event, self.now)
        self.told += commands
        for command in commands:
            if isinstance(command, c.SendBeat):
                self.last_beat = command.beat.counter
        for command in commands:
            if not hasattr(command, "step_id"):
                continue
            if isinstance(command, self.keep_back):
                self.kept.append(command)
            else:
                self.happen(e.StepDone(command.step_id, True))
        return list(commands)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := next_deadline(self.state)) is not None and deadline <= end:
            assert deadline > self.now or self.now == 0.0, "a deadline is in the future"
            self.now = deadline
            self.happen(e.Tick())
        self.now = end

    def hear(self, state: State, record: Record, **fields: object) -> None:
        """A beat of the peer that answers our newest one."""
        made = PeerView("n2", state, Status.READY, replace(record, node="n2", peer="n1"))
        view = replace(made, serving=state in (State.ALONE, State.PRIM), **fields)  # type: ignore[arg-type]
        for _ in range(2):  # The first one of a session proves nothing yet.
            self.peer_counter += 1
            beat = Beat("theirs", self.peer_counter, "mine", self.last_beat, view)
            self.happen(e.BeatReceived("default", beat))

    def commands(self, kind: type) -> list[Command]:
        return [command for command in self.told if isinstance(command, kind)]

    def texts(self) -> list[str]:
        return [a.text for a in self.told if isinstance(a, c.Announce)]


BASE = Record(cluster_id="cid", module="AM", node="n1", peer="n2")


def alone() -> Node:
    node = Node()
    node.happen(e.ActionRequested("prim", "root"))
    node.wait(5.0)
    assert node.state.state is State.ALONE and node.state.app_ready
    return node


def pair() -> Node:
    """ALONE, then a follower is brought up to date and joins."""
    node = alone()
    node.hear(State.WAIT, BASE, ready_to_follow=True)
    node.happen(e.CaughtUp(node.state.record.epoch))
    node.happen(e.Joined(node.state.record.epoch))
    assert node.state.state is State.PRIM
    second = replace(node.state.record, disk=Disk.UPTODATE, active=Active.SECONDARY)
    node.hear(State.SECOND, second)
    return node


def test_a_first_start_records_before_it_serves_and_serves_before_it_opens() -> None:
    node = alone()
    kinds = [type(command) for command in node.told]
    order = [c.Cover, c.StartWorker, c.SaveRecord, c.Serve, c.OpenGate]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
    record = node.state.record
    assert (record.epoch, record.disk, record.peer_behind) == (1, Disk.UPTODATE, True)
    assert not record.forced and record.base == "" and len(record.gen) == 32


def test_a_result_of_an_abandoned_plan_is_ignored() -> None:
    node = alone()
    node.keep_back = (c.RunScript,)
    node.happen(e.ActionRequested("restart", "root"))
    (script,) = node.kept
    node.happen(e.WorkerDied("killed"))
    node.keep_back = ()
    plan = node.state.plan
    node.happen(e.StepDone(9999, True))
    assert node.state.plan == plan
    assert isinstance(script, c.RunScript)
    node.told.clear()
    node.happen(e.StepDone(script.step_id, True))
    following = [s for s in node.told if isinstance(s, c.RunScript)]
    assert following[0].arguments == ("ALONE", "WAIT", "stopstart"), "of the new plan"


def test_a_restart_of_some_services_tells_each_of_its_scripts_and_no_later_one() -> None:
    node = alone()
    node.told.clear()
    node.happen(e.ActionRequested("restart", "errd", "errd", services="a, b"))
    scripts = [each for each in node.told if isinstance(each, c.RunScript)]
    assert len(scripts) >= 6
    assert all(each.arguments[-2:] == ("-Services", "a, b") for each in scripts)
    node.told.clear()
    node.happen(e.ActionRequested("restart", "root"))
    later = [each for each in node.told if isinstance(each, c.RunScript)]
    assert later and not any("-Services" in each.arguments for each in later)


def test_a_new_plan_waits_for_a_script_that_still_runs_but_not_for_ever() -> None:
    node = alone()
    node.keep_back = (c.RunScript,)
    node.happen(e.ActionRequested("restart", "root"))
    node.wait(2 * PARAMS.nicestop_s)
    node.happen(e.ActionRequested("stop", "root"))
    node.wait(PARAMS.nicestop_s - 1)
    assert len(node.kept) == 1, "no second script beside the first, from the wish to stop on"
    node.wait(2.0)
    assert len(node.kept) == 2, "the stop goes on"


def test_stop_scripts_have_the_configured_limits_and_start_scripts_none() -> None:
    node = alone()
    node.happen(e.ActionRequested("stop", "root"))
    scripts = [s for s in node.told if isinstance(s, c.RunScript)]
    for script in scripts:
        ends = script.name.startswith("stop_") or script.name == "poststop"
        ends = ends or (script.name == "transition" and script.arguments[0] != "STOP")
        stopping = ends and script.arguments[2] == "stop"
        assert script.timeout_s == (300.0 if stopping else None), script
    assert any(script.force for script in scripts)
    assert scripts[0].arguments == ("STOP", "WAIT", "start")


def test_without_a_user_element_no_script_runs() -> None:
    node = Node(replace(PARAMS, has_scripts=False))
    node.happen(e.ActionRequested("prim", "root"))
    node.wait(5.0)
    assert node.state.state is State.ALONE
    assert not node.commands(c.RunScript)


def test_without_replicated_directories_there_is_no_worker() -> None:
    node = Node(replace(PARAMS, has_rfs=False))
    node.happen(e.ActionRequested("start", "root"))
    node.wait(15.0)
    assert node.state.state is State.ALONE and node.state.app_ready
    for kind in (c.Cover, c.StartWorker, c.Serve, c.OpenGate):
        assert not node.commands(kind)


def test_beats_go_out_every_pulse_also_in_stop_and_at_once_when_the_view_changes() -> None:
    node = Node()
    node.told.clear()
    node.wait(5.2)
    assert len(node.commands(c.SendBeat)) == 5
    node.told.clear()
    node.happen(e.ActionRequested("start", "root"))
    assert node.commands(c.SendBeat)


def test_the_gate_is_renewed_every_pulse_for_a_third_of_the_detection_time() -> None:
    node = alone()
    node.told.clear()
    node.wait(5.1)
    gates = [g for g in node.told if isinstance(g, c.OpenGate)]
    assert len(gates) == 5
    assert {(g.mode, g.deadline_s) for g in gates} == {(Gate.ALONE, 10.0 / 3)}


def test_losing_the_secondary_freezes_claims_asks_confirms_and_only_then_releases() -> None:
    node = pair()
    before = node.state.record
    node.told.clear()
    node.happen(e.ReplicaLost(before.epoch, "reset"))
    claim = node.state.record
    assert node.state.link is Link.ASKING
    assert (claim.base, claim.epoch, claim.peer_behind) == (before.gen, before.epoch + 1, False)
    assert not node.commands(c.ReleaseHeld)
    assert not any(isinstance(g, c.OpenGate) for g in node.told)
    shown = snapshot(node.state, 0.0)
    assert shown.state is State.PRIM and "is lost" in shown.reason, "not: it is in sync"
    assert "writes are held" in shown.waiting_for
    # The peer's own word, that it has seen the claim and knows that it is behind.
    told = replace(before, disk=Disk.OUTDATED, promised=claim.epoch)
    node.hear(State.SECOND, told)
    assert node.state.record.peer_behind and node.state.record.modified
    assert len(node.commands(c.ReleaseHeld)) == 1
    assert node.state.state is State.ALONE and node.state.app_ready
    shown = snapshot(node.state, 0.0)
    assert (shown.reason, shown.waiting_for) == ("goes on without the secondary", "")


def test_a_view_from_before_the_claim_releases_nothing() -> None:
    node = pair()
    before = node.state.record
    node.told.clear()
    node.happen(e.ReplicaLost(before.epoch, "reset"))
    node.hear(State.SECOND, replace(before, disk=Disk.INCONSISTENT))
    assert not node.commands(c.ReleaseHeld)


def test_a_silent_peer_is_waited_for_a_whole_detection_time() -> None:
    node = pair()
    node.told.clear()
    node.happen(e.ReplicaLost(node.state.record.epoch, "reset"))
    node.wait(9.0)
    assert not node.commands(c.ReleaseHeld)
    node.wait(2.5)
    assert node.commands(c.ReleaseHeld)


def test_a_frozen_leader_gives_way_to_a_peer_that_serves() -> None:
    node = pair()
    before = node.state.record
    node.happen(e.ReplicaLost(before.epoch, "reset"))
    node.told.clear()
    taken = replace(records.take_over(before, "theirs", "b"), node="n2", peer="n1")
    node.hear(State.ALONE, taken)
    assert node.commands(c.Demote) and not node.commands(c.ReleaseHeld)
    assert node.state.state is State.SECOND
    assert node.state.record.gen == before.gen, "nothing was acknowledged under the claim"
    assert node.state.record.disk is not Disk.UPTODATE


def test_the_join_is_ordered_only_after_the_record_is_durable() -> None:
    node = alone()
    node.hear(State.WAIT, BASE, ready_to_follow=True)
    node.keep_back = (c.SaveRecord,)
    node.happen(e.CaughtUp(node.state.record.epoch))
    assert not node.commands(c.Join)
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord) and not save.record.peer_behind
    node.happen(e.StepDone(save.step_id, True))
    (join,) = node.commands(c.Join)
    assert isinstance(join, c.Join) and join.epoch == save.record.epoch


def test_the_first_modification_waits_for_its_record() -> None:
    node = alone()
    node.keep_back = (c.SaveRecord,)
    node.happen(e.FirstModification(node.state.record.epoch))
    assert not node.commands(c.ModifiedRecorded)
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord) and save.record.modified
    node.happen(e.StepDone(save.step_id, True))
    assert node.commands(c.ModifiedRecorded)


def test_after_a_sleep_the_gate_stays_shut_until_the_peer_answers_something_new() -> None:
    node = pair()
    before = node.last_beat
    node.told.clear()
    node.now += 3.0
    node.happen(e.Paused(3.0))
    assert node.commands(c.CloseGate)
    # A beat that waited in the socket answers what was sent before the sleep.
    record = node.state.record
    node.last_beat, newest = before, node.last_beat
    node.hear(State.SECOND, record)
    assert not node.commands(c.OpenGate)
    node.last_beat = newest
    node.wait(1.1)
    node.hear(State.SECOND, record)
    gates = [g for g in node.told if isinstance(g, c.OpenGate)]
    assert gates and gates[-1].mode is Gate.PRIM


def test_a_jump_of_the_clock_counts_as_a_sleep_even_if_the_shell_says_nothing() -> None:
    node = pair()
    node.told.clear()
    node.now += 60.0
    node.happen(e.Tick())
    assert node.commands(c.CloseGate)
    assert node.state.link is Link.PAIRED, "nobody is called lost at the moment of waking"


def test_a_record_that_cannot_be_written_stops_the_module_and_answers_nothing() -> None:
    node = alone()
    node.keep_back = (c.SaveRecord,)
    node.happen(e.FirstModification(node.state.record.epoch))
    (save,) = node.kept
    assert isinstance(save, c.SaveRecord)
    node.happen(e.StepDone(save.step_id, False, "disk gone"))
    assert not node.commands(c.ModifiedRecorded)
    assert node.state.state is State.STOP
    assert "Action stop called by heart : local fault" in node.texts()


def test_saves_go_one_at_a_time_and_epochs_never_back() -> None:
    node = Node()
    t = Turn(node.state, 0.0)
    t.want(replace(t.s.wanted, epoch=5, promised=5))
    with pytest.raises(AssertionError, match="never goes back"):
        t.want(replace(t.s.wanted, epoch=4))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gate": Gate.ALONE}, "does not serve"),
        ({"link": Link.PAIRED}, "no secondary"),
        ({"plan": (object(),)}, "stopped module has a plan"),
        ({"serving": True}, "serving in phase"),
    ],
)
def test_invariants_see_what_must_not_be(fields: dict[str, object], sentence: str) -> None:
    state = initial(PARAMS, None, 0.0)
    invariants.check(state)
    for name, value in fields.items():
        setattr(state, name, value)
    with pytest.raises(AssertionError, match=sentence):
        invariants.check(state)


def test_step_leaves_its_argument_alone() -> None:
    state = initial(PARAMS, None, 0.0)
    before = replace(state)
    step(state, e.ActionRequested("prim", "root"), 1.0)
    assert state == before


def test_log_words_of_requests() -> None:
    node = Node()
    node.happen(e.ActionRequested("start", "at boot time"))
    node.happen(e.ActionRequested("stopstart", "errd", identity="errd"))
    announced = [a for a in node.told if isinstance(a, c.Announce)]
    assert c.Announce(Level.USER, "Action start called at boot time") in announced
    assert c.Announce(Level.CRITICAL, "Action stopstart called by errd") in announced
    assert c.Announce(Level.EVENT, "Action start called automatically") in announced


def test_the_snapshot_says_what_is_waited_for_and_the_way_out() -> None:
    node = Node()
    node.happen(e.ActionRequested("start", "root"))
    node.wait(12.0)
    shown = snapshot(node.state, 1000.0)
    assert (shown.state, shown.status) == (State.WAIT, Status.NOT_READY)
    assert shown.waiting_for == "n2 to lead; then this node is filled from it"
    assert shown.remedy == (
        "safekit start -m AM on n2; or, if the right data are here: safekit prim -m AM"
    )
    assert shown.lanes == (("default", False),)
    assert shown.peer_state == "UNKNOWN"
    assert 980.0 < shown.since <= 1000.0


def test_prim_while_waiting_ends_the_waiting() -> None:
    node = Node()
    node.happen(e.ActionRequested("start", "root"))
    node.wait(12.0)
    node.happen(e.ActionRequested("prim", "root"))
    assert node.state.state is State.ALONE


def test_an_unclean_secondary_has_lost_what_it_had_not_applied() -> None:
    record = replace(BASE, disk=Disk.UPTODATE, gen="g", boot_id="boot-1")
    assert initial(PARAMS, replace(record, active=Active.SECONDARY), 0.0).lost_volatile
    assert not initial(PARAMS, replace(record, active=Active.PRIMARY), 0.0).lost_volatile
    crashed = replace(record, active=Active.PRIMARY, boot_id="boot-0")
    assert initial(PARAMS, crashed, 0.0).lost_volatile


def test_resources_are_set_when_they_change() -> None:
    node = alone()
    values = {(s.name, s.value) for s in node.told if isinstance(s, c.SetResource)}
    assert {
        ("state.local", "STOP NotReady"),
        ("state.local", "ALONE Ready"),
        ("rfs.uptodate", "down"),
        ("rfs.uptodate", "up"),
        ("usersetting.failover", "on"),
        ("heart.maxloop", "false"),
    } <= values
    node.wait(12.0)
    values = {(s.name, s.value) for s in node.told if isinstance(s, c.SetResource)}
    assert ("heartbeat.default", "down") in values
    assert ("state.remote", "UNKNOWN") in values
