"""What a configuration that changes while the module runs leaves of what was known before."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from safepy.config.failover.generated import shipped
from safepy.core import machine
from safepy.core.commands import Command, SetResource
from safepy.core.events import ActionRequested, Event, Reconfigured, ResourceChanged, StepDone
from safepy.core.failover.conditions import Compare, Constant, Operand
from safepy.core.failover.rules import Action, Rule, RuleSet
from safepy.core.state import ModuleState, Params
from safepy.core.status import snapshot

OWN = Rule("c_own", Compare(Operand("custom", "own"), Constant("down")), Action.WAIT)
PARAMS = Params(
    module="AM",
    node="n1",
    peer="",
    cluster_id="c",
    lanes=(),
    session="s",
    boot_id="b",
    mode="light",
    has_rfs=False,
    rules=RuleSet((*shipped("light"), OWN)),
    checks=(("intf.lan", "pre"), ("custom.own", "pre")),
    resources={"proc.app": "init", "intf.lan": "init", "custom.own": "init"},
)


def happen(state: ModuleState, event: Event) -> tuple[ModuleState, list[Command]]:
    """The event, and every order carried out at once."""
    events, all_orders = deque([event]), list[Command]()
    while events:
        state, orders = machine.step(state, events.popleft(), 1.0)
        all_orders += orders
        ids = (getattr(order, "step_id", None) for order in orders)
        events.extend(StepDone(number, True) for number in ids if number is not None)
    return state, all_orders


def waiting(*down: str) -> ModuleState:
    """A light module that was started while these are down and all others up."""
    state, _ = happen(machine.initial(PARAMS, None, 0.0), ActionRequested("start", "root"))
    for name, _when in PARAMS.checks:
        value = "down" if name in down else "up"
        state, _ = happen(state, ResourceChanged(name, value, "check"))
    return state


def without(name: str, *rules: Rule) -> Params:
    checks = tuple(entry for entry in PARAMS.checks if entry[0] != name)
    known = {each: "init" for each in PARAMS.resources if each != name}
    return replace(PARAMS, checks=checks, resources=known, rules=RuleSet(rules))


def test_a_check_that_is_taken_out_while_it_is_down_holds_nobody() -> None:
    state = waiting("intf.lan")
    assert "interface_failure" in snapshot(state, 0.0).waiting_for
    state, _ = happen(state, Reconfigured(without("intf.lan", *shipped("light"), OWN)))
    state, _ = happen(state, ResourceChanged("custom.own", "up", "check"))
    assert (state.state, state.blocked) == ("UP", "")
    assert "intf.lan" not in state.resources


def test_a_process_that_is_watched_no_more_makes_no_rule_true() -> None:
    state = waiting("custom.own")
    state, _ = happen(state, ResourceChanged("proc.app", "down", "errd"))
    kept = {name: "init" for name in PARAMS.resources if name != "proc.app"}
    state, _ = happen(state, Reconfigured(replace(PARAMS, resources=kept)))
    assert "proc.app" not in state.resources


def test_rules_of_before_are_resources_no_more_and_new_ones_are() -> None:
    state = waiting("custom.own")
    shown = dict(state.told_resources)
    assert (shown["rule.c_own"], shown["rule.interface_failure"]) == ("true", "false")
    new = replace(OWN, label="c_new")
    state, orders = happen(state, Reconfigured(without("custom.own", *shipped("light"), new)))
    shown = dict(state.told_resources)
    assert "rule.c_own" not in shown
    assert shown["rule.c_new"] == "false"
    assert SetResource("rule.c_new", "false") in orders
