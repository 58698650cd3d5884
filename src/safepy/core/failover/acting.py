"""What follows from true failover rules (reference: userconfig 16, 20).

A rule is a level and an edge: it acts when it becomes true, and again after `period` if it still is
when its action is over. Its action waits until the module can carry it out (a restart during a
start), and is not asked for twice meanwhile. What moves the service (stop, stopstart, wait) has to
be wanted for `handle_time`, by one rule or by several in turn: a short disturbance costs no
failover; what happens in place (restart) and swap do not wait. Where several rules are true the
weightiest action is carried out, and while that one is being weighed nothing lighter happens.
"""

from __future__ import annotations

from collections.abc import Iterator

from safepy.core import maintenance, permission, requests
from safepy.core.commands import SetResource, WatchProcesses
from safepy.core.election import UNTESTED, Decision, Verdict
from safepy.core.events import ActionRequested, ResourceChanged, SwitchSet
from safepy.core.plans import Watch
from safepy.core.state import Link, ModuleState, Params, Phase
from safepy.core.turn import Turn
from safepy.model import Level, State

from .conditions import DOWN, INIT, UP, Facts, tests
from .rules import WEIGHT, Action, Rule
from .wording import printed

#: These have to be wanted for `handle_time`.
HELD = (Action.STOP, Action.STOPSTART, Action.WAIT)
#: Nothing is decided by rules while the module gives way or changes roles: what its own steps take
#: down is no failure. A stop is what the others would be.
_RUNNING = (Phase.STARTING, Phase.DECIDING, Phase.LEADING, Phase.FOLLOWING, Phase.TAKING_OVER)
_ACTIVE = (Phase.LEADING, Phase.FOLLOWING, Phase.TAKING_OVER)
_SETTLED = (Phase.DECIDING, Phase.LEADING, Phase.FOLLOWING)

# Resources.


def changed(t: Turn, event: ResourceChanged) -> None:
    """A value from outside. A report on something that nobody looks at comes from an earlier
    life: the resource stays what it is, not tested."""
    s = t.s
    value = event.value
    if value != INIT and not _looked_at(s, event.name):
        value = INIT
        t.do(SetResource(event.name, INIT))
    s.resources = {**s.resources, event.name: value}


def _looked_at(s: ModuleState, name: str) -> bool:
    """Whether a value of this resource means something now; those without a check always do."""
    owner = dict(s.params.checks).get(name)
    return owner is None or (s.checking and owner in s.watched)


def watch(t: Turn, step: Watch) -> None:
    """The checkers of a class begin or end: what they are about is not tested (yet)."""
    s, watched = t.s, step.checker_class
    s.watched = s.watched | {watched} if step.on else s.watched - {watched}
    _not_tested(t, (name for name, when in s.params.checks if when == watched))
    if watched in s.params.errd_classes or watched in (when for _, when in s.params.checks):
        t.do(WatchProcesses(watched, step.on))


def _not_tested(t: Turn, names: Iterator[str]) -> None:
    fresh = dict.fromkeys(names, INIT)
    if fresh:
        t.s.resources = {**t.s.resources, **fresh}
        for name in fresh:
            t.do(SetResource(name, INIT))


def switched(t: Turn, event: SwitchSet) -> None:
    """`safekit checker|errd on|off`. What is not looked at is not tested, and keeps nobody from
    starting."""
    s = t.s
    if event.name == "errd":
        t.do(SetResource("usersetting.errd", "on" if event.on else "off", event.who))
    if event.name == "checker":
        s.checking = event.on
        _not_tested(t, (name for name, _ in s.params.checks))


# Which rules are true.


def facts(t: Turn) -> Facts:
    """What rules are held against: what is looked at here, and what the other node says."""
    s = t.s
    view = t.view
    idle = frozenset(
        name for name, when in s.params.checks if not s.checking or when not in s.watched
    )
    local = {name: value for name, value in s.resources.items() if name not in idle}
    local.update(s.told_resources)
    local.update(permission.uptodate(s))
    remote = None if view is None or view.state is State.STOP else dict(view.resources)
    return Facts(local, remote, DOWN if t.peer_lost else UP)


def _key(t: Turn) -> tuple[object, ...]:
    s = t.s
    view = t.view
    remote = None if view is None or view.state is State.STOP else view.resources
    return (
        s.params,
        s.resources,
        s.told_resources,
        s.watched,
        s.checking,
        remote,
        t.peer_lost,
        s.isolated,
    )


def stale(t: Turn) -> bool:
    """Something that rules may test has changed since they were looked at."""
    s = t.s
    if not s.params.rules.rules:
        return False
    seen, key = s.rules_seen, _key(t)
    return (
        not seen
        or any(a is not b for a, b in zip(seen[:3], key[:3], strict=True))
        or (seen[3:] != key[3:])
    )


def _look(t: Turn) -> None:
    s = t.s
    if not stale(t):
        return
    s.rules_seen = _key(t)
    known = facts(t)
    weighed = _weighed(s)
    s.rules_true = s.params.rules.true(known)
    labels = frozenset(rule.label for rule in s.rules_true)
    s.true_since = {
        rule.label: s.true_since.get(rule.label, weighed.get(rule.action, t.now))
        for rule in s.rules_true
    }
    s.acted &= labels
    pre = frozenset(name for name, when in s.params.checks if when == "pre" and s.checking)
    s.untested = s.params.rules.waits_for(known, pre)


def _weighed(s: ModuleState) -> dict[Action, float]:
    """Since when each action has been wanted that was not carried out yet. It is the action that
    has to stay the same for `handle_time`, whichever rule asks for it (reference 9.1): a
    rule that becomes true as another one ends goes on counting where that one was."""
    since: dict[Action, float] = {}
    for rule in s.rules_true:
        if rule.label not in s.acted:
            began = s.true_since[rule.label]
            since[rule.action] = min(began, since.get(rule.action, began))
    return since


# Acting.


def rules(t: Turn) -> bool:
    """Carry out what a true rule asks for, if it is time."""
    s = t.s
    _look(t)
    if not s.rules_true and not s.acted:
        s.act_again_at = None
        return False
    _arm(t)
    rule = _due(t)
    if rule is None:
        return False
    weight = WEIGHT[rule.action]
    s.acted |= {each.label for each in s.rules_true if WEIGHT[each.action] >= weight}
    s.acting = (rule.action.value, rule.label)
    requests.requested(
        t, ActionRequested(rule.action.value, f"failover rule {rule.label}", identity=rule.label)
    )
    return True


def _arm(t: Turn) -> None:
    """When the action is over and its rule still true, it may act again after a period."""
    s = t.s
    if not s.acted or s.plan or s.phase not in _SETTLED:
        s.act_again_at = None
    elif s.act_again_at is None:
        s.act_again_at = t.now + s.params.failover_period_s
    elif t.now >= s.act_again_at:
        s.acted, s.act_again_at = frozenset(), None


def _due(t: Turn) -> Rule | None:
    s = t.s
    if maintenance.on(s):
        return None
    for rule in s.rules_true:
        if rule.label in s.acted or not _fits(s, rule.action):
            continue
        return rule if t.now >= _due_at(s, rule) else None
    return None


def _due_at(s: ModuleState, rule: Rule) -> float:
    delay_s = s.params.handle_time_s if rule.action in HELD else 0.0
    return s.true_since[rule.label] + delay_s


def _fits(s: ModuleState, action: Action) -> bool:
    """Whether the module can carry it out as it is now."""
    match action:
        case Action.STOP | Action.STOPSTART:
            return s.phase in _RUNNING
        case Action.WAIT:
            return s.phase in _ACTIVE
        case Action.SWAP:
            # Only the primary: the same rule on both nodes would exchange them for ever.
            return s.phase is Phase.LEADING and s.link is Link.PAIRED and s.app_ready
        case Action.RESTART:
            return s.phase in (Phase.LEADING, Phase.FOLLOWING) and s.app_ready


def next_moments(s: ModuleState) -> Iterator[float]:
    """When something will be due."""
    if s.act_again_at is not None:
        yield s.act_again_at
    for rule in s.rules_true:
        if rule.action in HELD and rule.label not in s.acted and _fits(s, rule.action):
            yield _due_at(s, rule)


# Waiting.


def held(t: Turn) -> Decision | None:
    """Why the module may not leave WAIT: a wait rule is true, or not known to be false."""
    s = t.s
    _look(t)
    for rule in s.rules_true:
        if rule.action is Action.WAIT:
            return Decision(
                Verdict.WAIT,
                rule.label,
                f"failover rule {rule.label} to end ({printed(rule.condition)})",
                blocked=True,
                remedy=_remedy(s.params, rule),
            )
    if s.untested:
        return Decision(Verdict.WAIT, UNTESTED, f"the first report on {s.untested}")
    return None


def _remedy(params: Params, rule: Rule) -> str:
    """Besides mending what the rule is about."""
    if any(tests(rule.condition, name) for name, _ in params.checks):
        return "checker off"
    if rule.label == "splitbrain_failure":
        return "prim"
    return ""


def announce_wait(t: Turn, label: str) -> None:
    """Once: an action that led here has said it."""
    if t.s.acting != (Action.WAIT.value, label):
        t.announce(Level.CRITICAL, f"Action wait from failover rule {label}")


def announce_wakeup(t: Turn) -> None:
    t.announce(Level.INFO, "Action wakeup from failover rule Implicit_wakeup")
    t.s.acting = ("", "")


# Telling.


def resources(s: ModuleState) -> dict[str, str]:
    """Each rule is a resource: "true" while it holds."""
    labels = {rule.label for rule in s.rules_true}
    return {
        rule.resource: "true" if rule.label in labels else "false" for rule in s.params.rules.rules
    }


def in_words(s: ModuleState) -> str:
    """For the reason of the state: the rule that acts, or acted last; "": none."""
    action, label = s.acting
    return f"{action} from failover rule {label}" if label else ""
