"""The ordered steps that make a new state true, as data (design-examples 7).

The order inside a plan is a promise. A step says what is true once it is done, so that doing it
twice is harmless. Script order and arguments: reference 10.3 and 10.4. Instead of a table of
script calls there is one rule that gives it: every state has a set of script classes that run in
it, and a change stops what shall not run any more, calls `transition`, and starts what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from safepy.model import State


class Work(StrEnum):
    """A step that mounts or worker carry out; the names are the commands'."""

    COVER = "Cover"
    UNCOVER = "Uncover"
    START_WORKER = "StartWorker"
    STOP_WORKER = "StopWorker"
    SERVE = "Serve"
    QUIESCE = "Quiesce"
    DEMOTE = "Demote"
    FOLLOW = "Follow"
    STOP_FOLLOWING = "StopFollowing"


class Address(StrEnum):
    """A step of the virtual addresses of `<vip>`; done at once in a module without any. The node
    that has them leads: they come after the gate is open, and go before it closes, or with it."""

    SET = "SetAddresses"
    REMOVE = "RemoveAddresses"


class Save(StrEnum):
    """A step that ends when the generation record is durable; `records.py` says what it holds."""

    LEAD = "lead"
    TAKE_OVER = "take over"
    FOLLOW = "follow"
    OUTDATED = "outdated"
    STEPPED_DOWN = "stepped down"
    STOPPED = "stopped"
    NEW_EPOCH = "new epoch"


class Await(StrEnum):
    """A step that ends when the other node is known to be in some state, or silent."""

    PRIMARY_GOES_ON = "the primary goes on without us"
    LINK_SETTLED = "it is known whether there is a secondary"


class Then(StrEnum):
    """A step that is done at once."""

    DECIDE = "decide who leads"
    OPEN_GATE = "open the gate"
    UP = "up: a light module needs nobody's permission"
    SWAP_POINT = "hand over or take the application up again"
    WAIT = "not serving any more"
    FOLLOW = "follow as soon as the peer serves"
    READY = "ready"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Script:
    """Run `bin/NAME [force] CURRENT NEXT ACTION [-Services SERVICES]`."""

    name: str
    current: State
    next: State
    action: str
    force: bool = False
    services: str = ""
    #: Only if the call before it failed, or was killed at its limit.
    again: bool = False


@dataclass(frozen=True, slots=True)
class Callback:
    """Run `bin/_rfs_callback EVENT`, if `<rfs scripts="on">` (reference 11.4)."""

    event: str


@dataclass(frozen=True, slots=True)
class Watch:
    """The process checker watches this class, or does not."""

    checker_class: str
    on: bool


Step = Work | Address | Save | Await | Then | Script | Callback | Watch
Plan = tuple[Step, ...]

#: What runs in each state, in the order it is started; stopped the other way round, but `sec`
#: always first and `both` last (reference 10.3).
RUNS: dict[State, tuple[str, ...]] = {
    State.STOP: (),
    State.WAIT: (),
    State.ALONE: ("both", "prim", "sec"),
    State.PRIM: ("both", "prim"),
    State.SECOND: ("both", "second", "sec"),
    State.UP: ("both",),
}
START_ORDER = ("both", "prim", "second", "sec")
STOP_ORDER = ("sec", "prim", "second", "both")


def ran_after(plan: Plan, ran: frozenset[str]) -> frozenset[str]:
    """What runs once the scripts that are left in `plan` were called."""
    for step in plan:
        if isinstance(step, Script):
            ran = ran_by(step, ran)
    return ran


def ran_by(step: Script, ran: frozenset[str]) -> frozenset[str]:
    """What runs after this one script."""
    verb, _, script_class = step.name.partition("_")
    if script_class not in START_ORDER:
        return ran
    return ran | {script_class} if verb == "start" else ran - {script_class}


def stops(
    ran: frozenset[str], current: State, after: State, action: str, twice: bool = False
) -> Plan:
    """Stop what runs and shall not run in `after`; `twice`: and once more with force."""
    plan: Plan = ()
    for script_class in STOP_ORDER:
        if script_class in ran and script_class not in RUNS[after]:
            plan += (
                Watch(script_class, False),
                Script(f"stop_{script_class}", current, after, action),
            )
            if twice:
                plan += (Script(f"stop_{script_class}", current, after, action, force=True),)
    return plan


def unwatched(ran: frozenset[str]) -> Plan:
    """Nobody looks at what runs any more: an application whose gate is shut and whose address is
    gone may well fail, and a rule about it must not meddle with the retreat."""
    return tuple(Watch(script_class, False) for script_class in STOP_ORDER if script_class in ran)


def starts(ran: frozenset[str], current: State, after: State, action: str) -> Plan:
    """Start what runs in `after` and does not run yet."""
    plan: Plan = ()
    for script_class in START_ORDER:
        if script_class in RUNS[after] and script_class not in ran:
            plan += (
                Script(f"start_{script_class}", current, after, action),
                Watch(script_class, True),
            )
    return plan


def change(
    ran: frozenset[str], current: State, after: State, action: str = "start", twice: bool = False
) -> Plan:
    """All scripts of one change of state (reference 10.3)."""
    return (
        *stops(ran, current, after, action, twice),
        Script("transition", current, after, action),
        *starts(ran, current, after, action),
    )


def start() -> Plan:
    """STOP to WAIT, up to the decision who leads."""
    return (
        Script("transition", State.STOP, State.WAIT, "start"),
        Script("prestart", State.STOP, State.WAIT, "start"),
        Address.REMOVE,
        Watch("pre", True),
        Work.COVER,
        Work.START_WORKER,
        Then.DECIDE,
    )


def lead(ran: frozenset[str]) -> Plan:
    """WAIT to ALONE: recorded, mounted, gate open, application started."""
    return (
        Save.LEAD,
        Work.SERVE,
        Then.OPEN_GATE,
        Address.SET,
        *change(ran, State.WAIT, State.ALONE),
        Then.READY,
    )


def go_up(ran: frozenset[str]) -> Plan:
    """WAIT to UP, of a light module: no record, no gate, no other node."""
    return (Then.UP, *change(ran, State.WAIT, State.UP), Then.READY)


def take_over(ran: frozenset[str]) -> Plan:
    """SECOND to ALONE. Everything received is applied before the record claims the lead:
    a claim without the data would let a crash in between lose acknowledged writes (I1)."""
    return (
        Work.STOP_FOLLOWING,
        Save.TAKE_OVER,
        Work.SERVE,
        Then.OPEN_GATE,
        Address.SET,
        *change(ran, State.SECOND, State.ALONE),
        Then.READY,
    )


def follow() -> Plan:
    """Be brought up to date: durably INCONSISTENT before the first byte changes (I10). The
    callback comes first: a node that it keeps from being synchronised stays as it was."""
    return (Callback("_rfs_startsynch"), Save.FOLLOW, Work.FOLLOW)


def settle_as_second(ran: frozenset[str], current: State, transition_called: bool) -> Plan:
    """The scripts of SECOND, after the reintegration."""
    if transition_called:
        return (*starts(ran, current, State.SECOND, "start"), Then.READY)
    return (*change(ran, current, State.SECOND), Then.READY)


def restart(state: State, services: str = "") -> Plan:
    """Stop and start what belongs to the present role; the peer is not concerned. Scripts that
    understand `services` touch nothing else (reference: userconfig 14.3). What tells a restart
    from a stop and a start is that the two states are equal; the third word is one of those that
    the reference lists."""
    everything = frozenset(RUNS[state])
    plan: Plan = ()
    for script_class in STOP_ORDER:
        if script_class in everything:
            name = f"stop_{script_class}"
            plan += (
                Watch(script_class, False),
                Script(name, state, state, "stop"),
                Script(name, state, state, "stop", force=True),
            )
    plan += starts(frozenset(), state, state, "start")
    scripts = (replace(s, services=services) if isinstance(s, Script) else s for s in plan)
    return (*scripts, Then.READY)


def swap(ran: frozenset[str]) -> Plan:
    """PRIM to SECOND: the application is stopped here before it starts there."""
    return (
        *stops(ran, State.PRIM, State.SECOND, "stop", twice=True),
        Script("transition", State.PRIM, State.SECOND, "stop"),
        Address.REMOVE,
        Work.QUIESCE,
        Then.SWAP_POINT,
    )


def hand_over() -> Plan:
    """The second half of a swap, once both nodes are equal and flushed."""
    return (Save.STOPPED, Work.DEMOTE, Callback("_rfs_pritoscd"), Then.FOLLOW)


def swap_failed(ran: frozenset[str], state: State) -> Plan:
    """The secondary went away in the middle of a swap: take the application up again. A quiesced
    gate opens only in another epoch."""
    return (
        Save.NEW_EPOCH,
        Then.OPEN_GATE,
        Address.SET,
        *starts(ran, state, state, "start"),
        Then.READY,
    )


def step_aside(ran: frozenset[str], current: State, target: State, outdated: bool) -> Plan:
    """Forced retreat to SECOND or WAIT: the gate closes first, and the record says that we are
    behind before the stop scripts, which may take long, are called."""
    return (
        *unwatched(ran),
        Work.DEMOTE,
        Address.REMOVE,
        Save.OUTDATED if outdated else Save.STEPPED_DOWN,
        *stops(ran, current, target, "stop", twice=True),
        Script("transition", current, target, "stop"),
        *((Callback("_rfs_pritoscd"), Then.FOLLOW) if target is State.SECOND else (Then.DECIDE,)),
    )


def stop_aside(ran: frozenset[str], current: State, action: str, outdated: bool) -> Plan:
    """A retreat in the middle of a stop: the gate closes at once, and the stop goes on."""
    return (
        *unwatched(ran),
        Work.DEMOTE,
        Address.REMOVE,
        Save.OUTDATED if outdated else Save.STEPPED_DOWN,
        *stops(ran, current, State.WAIT, action),
        Script("transition", current, State.WAIT, action),
        Then.WAIT,
        Save.STOPPED,
        *end(action),
    )


def stop_leading(ran: frozenset[str], current: State, action: str) -> Plan:
    """ALONE or PRIM to WAIT, in order: application down, both nodes flushed, role recorded."""
    return (
        *stops(ran, current, State.WAIT, action),
        Script("transition", current, State.WAIT, action),
        Address.REMOVE,
        Work.QUIESCE,
        Await.LINK_SETTLED,
        Save.STOPPED,
        Then.WAIT,
        Work.DEMOTE,
    )


def stop_broken(ran: frozenset[str], current: State, action: str) -> Plan:
    """ALONE or PRIM to WAIT when the worker died: nothing to flush, and the record goes on saying
    that the end was not clean. The gate closed with it, so the addresses go first."""
    return (
        *unwatched(ran),
        Address.REMOVE,
        *stops(ran, current, State.WAIT, action),
        Script("transition", current, State.WAIT, action),
        Then.WAIT,
    )


def stop_following(ran: frozenset[str], current: State, action: str, synced: bool) -> Plan:
    """SECOND to WAIT. A second that was in sync waits until the primary says that it goes on
    alone: were it to call itself outdated first, a primary that stops at the same moment could
    do so too, and no node would be left to lead."""
    plan: Plan = stops(ran, current, State.WAIT, action)
    if ran:
        plan += (Script("transition", current, State.WAIT, action),)
    plan += (Then.WAIT, Work.STOP_FOLLOWING)
    if synced:
        plan += (Await.PRIMARY_GOES_ON,)
    return (*plan, Save.STOPPED)


def end(action: str) -> Plan:
    """WAIT to STOP: everything forced down, what did not end well once more, our mounts gone."""
    forced = tuple(
        Script(f"stop_{script_class}", State.WAIT, State.STOP, action, force=True)
        for script_class in STOP_ORDER
    )
    return (
        *forced,
        *(replace(script, again=True) for script in forced),
        Address.REMOVE,
        Watch("pre", False),
        Script("poststop", State.WAIT, State.STOP, action),
        Script("transition", State.WAIT, State.STOP, action),
        Work.STOP_WORKER,
        Work.UNCOVER,
        Then.STOPPED,
    )
