"""`safekit why`: the state of a module, what led to it, what it waits for, what would end it."""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Snapshot, State, Status

from .cost import cost

_LEADING = (State.ALONE, State.PRIM, State.UP)


@dataclass(frozen=True, slots=True)
class Why:
    """`story`: what was decided last, oldest first, with Unix seconds. `waits_for` and `ends_when`
    are empty where nothing is amiss; `command` is what to type, on which node, and `costs` what
    it would lose. `notes`: sentences about what is wrong around the module."""

    state: str
    since: float
    reason: str
    story: tuple[tuple[float, str], ...]
    waits_for: str
    ends_when: str
    command: str
    costs: str
    notes: tuple[str, ...] = ()


def why(found: Snapshot, wall_now: float) -> Why:
    """`wall_now` is Unix seconds, for the figures in the sentences."""
    waits_for, ends_when, command = _amiss(found)
    action = command.removeprefix("safekit ").partition(" ")[0]
    return Why(
        state=f"{found.state} {found.status}",
        since=found.since,
        reason=found.reason,
        story=found.story,
        waits_for=waits_for,
        ends_when=ends_when,
        command=command,
        costs=cost(found, action, wall_now),
        notes=found.notes,
    )


def _amiss(found: Snapshot) -> tuple[str, str, str]:
    """What it waits for, what would end that, and the command."""
    on_module = f"-m {found.module}"
    if found.waiting_for:
        ends_when = "ends when that is settled"
        if found.maintenance_until and found.state not in _LEADING:
            ends_when += "; not by itself before the maintenance is over"
        return found.waiting_for, ends_when, found.remedy
    left = found.state in (State.STOP, State.PRIM) and found.peer_state == State.SECOND
    if left and found.peer_maintenance_until:
        return _without_a_deputy(found, on_module)
    if found.state is State.STOP:
        return "a start", "ends with a start", f"safekit start {on_module}"
    if found.state is State.ALONE and found.status is Status.READY:
        return _alone(found, on_module)
    if found.status is Status.TRANSIENT:
        return _under_way(found)
    return "", "", ""


def _without_a_deputy(found: Snapshot, on_module: str) -> tuple[str, str, str]:
    """The secondary is in maintenance: of the primary, and of one that was stopped meanwhile."""
    peer = found.peer
    so = "it does not take over" if found.state in _LEADING else "nobody serves"
    return (
        f"the end of the maintenance of {peer}: until then {so}",
        "ends by itself",
        f"safekit maintenance off {on_module} on {peer}"
        + ("" if found.state in _LEADING else "; then it takes over"),
    )


def _alone(found: Snapshot, on_module: str) -> tuple[str, str, str]:
    peer = found.peer
    match found.peer_state:
        case "UNKNOWN" | "":
            return (
                f"{peer}, which is not heard: there is no second copy of what is written now",
                f"ends when {peer} is switched on and reached, and its module started",
                f"safekit start {on_module} on {peer}",
            )
        case "STOP":
            return (
                f"{peer}, which is stopped: there is no second copy of what is written now",
                f"ends when the module is started on {peer}",
                f"safekit start {on_module} on {peer}",
            )
        case "SECOND":
            return (
                f"{peer} to be brought up to date",
                "ends by itself when both copies are equal",
                "",
            )
        case _:
            return f"{peer} to become its secondary", f"safekit why on {peer} says more", ""


def _under_way(found: Snapshot) -> tuple[str, str, str]:
    progress = found.progress
    if found.state is State.SECOND and progress is not None:
        return (
            f"its copy to be equal to that of {found.peer}",
            "ends by itself (safekit state shows how far it is)",
            "",
        )
    if found.state is State.SECOND:
        return f"{found.peer} to begin the synchronisation", "ends by itself", ""
    return "the steps under way, scripts among them", "ends by itself", ""


def sentences(answer: Why) -> tuple[tuple[str, str], ...]:
    """The parts after the story as they are shown: a title and a text each, empty ones left out."""
    parts = (
        ("waits for", answer.waits_for),
        ("ends", answer.ends_when.removeprefix("ends ")),
        ("to end it", answer.command),
        ("that costs", answer.costs),
    )
    return tuple((title, text) for title, text in parts if text)
