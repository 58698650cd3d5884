"""Reference 10.3, written out as it stands there, against the one rule that gives all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safepy.core import plans
from safepy.core.plans import RUNS, Plan, Script, Watch, change, ran_after, restart
from safepy.core.transitions import TABLE
from safepy.model import State

ROOT = Path(__file__).resolve().parents[3]
STOP, WAIT, ALONE, PRIM, SECOND, UP = State


def names(plan: Plan) -> str:
    """`x2` as in the reference: the graceful and the forced call."""
    words: list[str] = []
    for step in plan:
        if not isinstance(step, Script) or step.again:
            continue
        if step.force and words and words[-1] == step.name:
            words[-1] += " x2"
        else:
            words.append(f"{step.name} force" if step.force else step.name)
    return "; ".join(words)


@pytest.mark.parametrize(
    ("before", "after", "twice", "expected"),
    [
        (WAIT, ALONE, False, "transition; start_both; start_prim; start_sec"),
        (WAIT, PRIM, False, "transition; start_both; start_prim"),
        (WAIT, SECOND, False, "transition; start_both; start_second; start_sec"),
        (ALONE, PRIM, False, "stop_sec; transition"),
        (PRIM, ALONE, False, "transition; start_sec"),
        (SECOND, ALONE, False, "stop_second; transition; start_prim"),
        (ALONE, SECOND, True, "stop_prim x2; transition; start_second"),
        (PRIM, SECOND, True, "stop_prim x2; transition; start_second; start_sec"),
        (SECOND, PRIM, False, "stop_sec; stop_second; transition; start_prim"),
        (ALONE, WAIT, False, "stop_sec; stop_prim; stop_both; transition"),
        (PRIM, WAIT, False, "stop_prim; stop_both; transition"),
        (SECOND, WAIT, False, "stop_sec; stop_second; stop_both; transition"),
        (WAIT, UP, False, "transition; start_both"),
        (UP, WAIT, False, "stop_both; transition"),
    ],
)
def test_scripts_of_a_change(before: State, after: State, twice: bool, expected: str) -> None:
    assert names(change(frozenset(RUNS[before]), before, after, "start", twice)) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            ALONE,
            "stop_sec x2; stop_prim x2; stop_both x2; start_both; start_prim; start_sec",
        ),
        (PRIM, "stop_prim x2; stop_both x2; start_both; start_prim"),
        (UP, "stop_both x2; start_both"),
        (
            SECOND,
            "stop_sec x2; stop_second x2; stop_both x2; start_both; start_second; start_sec",
        ),
    ],
)
def test_scripts_of_a_restart(state: State, expected: str) -> None:
    plan = restart(state)
    assert names(plan) == expected
    assert all(step.current is step.next is state for step in plan if isinstance(step, Script)), (
        "a restart's two state arguments are equal"
    )


def test_start_and_end() -> None:
    assert names(plans.start()) == "transition; prestart"
    first = plans.start()[0]
    assert first == Script("transition", STOP, WAIT, "start")
    assert names(plans.end("stop")) == (
        "stop_sec force; stop_prim force; stop_second force; stop_both force; poststop; transition"
    )


def test_what_did_not_run_is_not_stopped_and_what_runs_is_not_started() -> None:
    assert names(change(frozenset({"both"}), ALONE, WAIT, "stop")) == "stop_both; transition"
    assert names(change(frozenset(RUNS[ALONE]), PRIM, ALONE)) == "transition"


def test_processes_are_watched_only_while_their_class_runs() -> None:
    plan = change(frozenset(RUNS[SECOND]), SECOND, ALONE)
    second, prim = Watch("second", False), Watch("prim", True)
    scripts = [step for step in plan if isinstance(step, Script)]
    stop = next(step for step in scripts if step.name == "stop_second")
    start = next(step for step in scripts if step.name == "start_prim")
    assert plan.index(second) < plan.index(stop)
    assert plan.index(prim) > plan.index(start)


def test_a_forced_retreat_closes_the_gate_before_any_script() -> None:
    plan = plans.step_aside(frozenset(RUNS[ALONE]), ALONE, SECOND, outdated=True)
    scripts = [number for number, step in enumerate(plan) if isinstance(step, Script)]
    ordered = (plans.Work.DEMOTE, plans.Address.REMOVE, plans.Save.OUTDATED)
    before = [plan.index(step) for step in ordered]
    assert before == sorted(before) and before[-1] < scripts[0]
    # What an application without gate and address does is not looked at any more.
    watched = [step for step in plan[: before[0]] if isinstance(step, plans.Watch)]
    assert {step.checker_class for step in watched if not step.on} == set(RUNS[ALONE])


def test_a_wished_stop_ends_the_application_before_the_hand_over() -> None:
    plan = plans.stop_leading(frozenset(RUNS[PRIM]), PRIM, "stop")
    stop = next(s for s in plan if isinstance(s, Script) and s.name == "stop_both")
    assert plan.index(stop) < plan.index(plans.Address.REMOVE) < plan.index(plans.Work.QUIESCE)
    assert plan.index(plans.Work.QUIESCE) < plan.index(plans.Save.STOPPED)
    assert plan.index(plans.Save.STOPPED) < plan.index(plans.Then.WAIT)


def test_received_operations_are_applied_before_the_lead_is_claimed() -> None:
    plan = plans.take_over(frozenset(RUNS[SECOND]))
    order = [plans.Work.STOP_FOLLOWING, plans.Save.TAKE_OVER, plans.Work.SERVE]
    assert list(plan[:3]) == order


def test_what_a_plan_will_have_run() -> None:
    assert ran_after(change(frozenset(), WAIT, ALONE), frozenset()) == frozenset(RUNS[ALONE])


def test_every_visible_change_has_a_sentence() -> None:
    assert all(row.reason for row in TABLE.values())


def test_the_drawn_state_machine_is_fresh() -> None:
    draw = ROOT / "scripts" / "draw-state-machine"
    result = subprocess.run([sys.executable, str(draw), "--check"], check=False)
    assert result.returncode == 0, "run scripts/draw-state-machine"
