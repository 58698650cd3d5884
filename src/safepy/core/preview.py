"""`safekit plan`: what a command would do now, step by step, without doing it.

The deciding code is pure, so it is simply run: on a copy of the state, with every order answered
as if it had gone well. What only the other node can bring about is not imagined.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import replace

from safepy.model import Level, State

from . import commands as c
from .events import ActionRequested, Event, StepDone, Tick, WitnessAnswered
from .machine import step
from .plans import Await
from .state import Link, ModuleState, Phase

#: Far more than any plan has steps.
MAX_STEPS = 400

_AWAITED = {
    Await.PRIMARY_GOES_ON: "waits until {peer} goes on alone, at most {detection_s:g} s",
    Await.LINK_SETTLED: "waits until it is certain whether {peer} is in sync",
}


def preview(state: ModuleState, action: str, now: float) -> tuple[str, ...]:
    """What an administrator's `action` would do to this node now: a sentence a step, in order.

    `action` is start, stop, stopstart, shutdown, restart, swap, prim, primforce or second. Never
    changes `state`."""
    imagined = copy.copy(state)
    events: deque[Event] = deque([ActionRequested(action, who="plan")])
    said: list[str] = []
    begun = False
    for _ in range(MAX_STEPS):
        if not events and begun:
            under_way = _under_way(imagined) & _under_way(state)
            if under_way:
                said.append("what is under way comes to its end first")
                events.extend(StepDone(number, True) for number in sorted(under_way))
                begun = False
        if not events:
            stuck = _awaited(imagined, said)
            if stuck is None:
                break
            imagined = stuck
            events.append(Tick())
            continue
        before = imagined
        event = events.popleft()
        imagined, orders = step(imagined, event, now)
        if isinstance(event, ActionRequested):
            begun = imagined.plan != state.plan
        for order in orders:
            events.extend(_answer(order))
            sentence = _in_words(order, imagined)
            if sentence:
                said.append(sentence)
        if imagined.state is not before.state:
            said.append(f"{before.state} -> {imagined.state}: {imagined.reason}")
    if imagined.phase is Phase.DECIDING and not imagined.plan:
        said.append(f"then it waits: {imagined.reason}")
    if imagined.request_id != state.request_id:
        said.append(f"asks {imagined.params.peer}, which is primary, to exchange the roles")
    said += _of_the_other(state, imagined)
    return tuple(said) or (f"nothing happens: the module is {state.state}",)


def _under_way(state: ModuleState) -> frozenset[int]:
    """The numbers of the orders that were given and have not ended."""
    return frozenset(n for n in (state.script, state.running, state.save_step) if n)


def _answer(order: c.Command) -> tuple[Event, ...]:
    match order:
        case c.AskWitness():
            return (WitnessAnswered(order.step_id, True, order.epoch, ""),)
        case _:
            step_id = getattr(order, "step_id", None)
            return () if step_id is None else (StepDone(step_id, True),)


def _awaited(state: ModuleState, said: list[str]) -> ModuleState | None:
    """The state after what is waited for has come true; None if nothing of the plan waits."""
    if not state.plan or not isinstance(state.plan[0], Await):
        return None
    words = _AWAITED[state.plan[0]]
    said.append(words.format(peer=state.params.peer, detection_s=state.params.detection_s))
    return replace(state, plan=state.plan[1:], plan_until=None)


def _in_words(order: c.Command, state: ModuleState) -> str:
    match order:
        case c.RunScript():
            words = " ".join((*(("force",) if order.force else ()), *order.arguments))
            limit = "" if order.timeout_s is None else f", at most {order.timeout_s:g} s"
            return f"script {order.name} {words}{limit}"
        case c.Announce(level=Level.CRITICAL) | c.Announce(level=Level.EVENT):
            return "" if order.text.startswith(("Local state", "Remote state")) else order.text
        case c.Announce(level=Level.INFO):
            return order.text if " ignored" in order.text else ""
        case c.WatchProcesses():
            verb = "begin" if order.on else "end"
            return f"checkers of class {order.checker_class} {verb}"
        case c.SetAddresses() | c.RemoveAddresses() | c.Cover() | c.Uncover() | c.Serve():
            return _MOUNTS[type(order).__name__]
        case c.Quiesce() | c.Demote() | c.StopFollowing() | c.Reboot():
            return _MOUNTS[type(order).__name__]
        case c.Follow():
            return f"is brought up to date by {state.params.peer}"
        case _:
            return ""


_MOUNTS = {
    "SetAddresses": "sets the virtual address",
    "RemoveAddresses": "removes the virtual address",
    "Cover": "closes the replicated directories to everybody but the module",
    "Uncover": "gives the replicated directories back",
    "Serve": "mounts the replicated directories for the application",
    "Quiesce": "ends the writes, and waits until both nodes have them on disk",
    "Demote": "unmounts the replicated directories",
    "StopFollowing": "applies what was received, and ends the replication from the primary",
    "Reboot": "reboots this node",
}


def _of_the_other(before: ModuleState, after: ModuleState) -> tuple[str, ...]:
    """What the other node will make of it."""
    if after.request_id != before.request_id:
        peer = before.params.peer
        return (
            f"its steps: safekit plan swap -m {before.params.module} on {peer}; "
            "then this node leads and starts the application",
        )
    gave_up = before.serving and not after.serving
    if not gave_up or before.link is not Link.PAIRED or before.state is not State.PRIM:
        return ()
    peer = before.params.peer
    if after.state is State.SECOND:
        return (f"{peer} leads and starts the application; then this node is its secondary",)
    if before.peer is not None and before.peer.maintenance_until:
        return (f"{peer} does not take over: it is in maintenance; nobody serves until that ends",)
    if before.peer is not None and not before.peer.failover:
        return (f"{peer} does not take over: automatic failover is off",)
    return (f"{peer} takes over and starts the application",)
