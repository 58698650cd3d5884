"""`safekit why`: the state of a module, what led to it, what it waits for, what would end it."""

from __future__ import annotations

from dataclasses import dataclass

from safepy.model import Snapshot, State, Status

from .cost import cost, in_words
from .election import IN_MAINTENANCE
from .words import span

_LEADING = (State.ALONE, State.PRIM, State.UP)


@dataclass(frozen=True, slots=True)
class Why:
    """`story`: what was decided last, oldest first, with Unix seconds. `waits_for` and `ends_when`
    are empty where nothing is amiss; `command` is what to type, on which node, and `costs` what
    it would lose. `notes`: sentences about what is wrong around the module, and what is switched
    off; `maintenance`: of this node and of the other one."""

    state: str
    since: float
    reason: str
    story: tuple[tuple[float, str], ...]
    waits_for: str
    ends_when: str
    command: str
    costs: str
    notes: tuple[str, ...] = ()
    maintenance: tuple[str, ...] = ()


def why(found: Snapshot, wall_now: float) -> Why:
    """`wall_now` is Unix seconds, for the figures in the sentences."""
    waits_for, ends_when, command = _amiss(found, wall_now)
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
        notes=(*found.notes, *switched_off(found)),
        maintenance=_maintenance(found, wall_now),
    )


_SWITCHES = {
    "failover": "automatic failover is off: this node does not take over",
    "errd": "the process checker is off: no process is watched",
    "checker": "the checks are off: nothing is tested",
}


def switched_off(found: Snapshot) -> tuple[str, ...]:
    """What an administrator, or the configuration, switched off: a sentence for each. It holds
    until somebody switches it on again (reference 9.6), so it must be seen."""
    values = {name: value for name, value, _ in found.resources}
    here = tuple(
        f"{sentence} (safekit {name} on -m {found.module})"
        for name, sentence in _SWITCHES.items()
        if values.get(f"usersetting.{name}") == "off"
    )
    if dict(found.peer_resources).get("usersetting.failover") != "off":
        return here
    return (*here, f"automatic failover is off on {found.peer}: it does not take over")


def _maintenance(found: Snapshot, wall_now: float) -> tuple[str, ...]:
    said = []
    if found.maintenance_until:
        left = span(found.maintenance_until - wall_now)
        why_so = f" ({found.maintenance_reason})" if found.maintenance_reason else ""
        said.append(
            f"for another {left}, by {found.maintenance_by}{why_so}: nothing happens by itself "
            f"here (safekit maintenance off -m {found.module})"
        )
    if found.peer_maintenance_until:
        left = span(found.peer_maintenance_until - wall_now)
        said.append(f"of {found.peer}, for another {left}: it does not take over")
    return tuple(said)


def _amiss(found: Snapshot, wall_now: float) -> tuple[str, str, str]:
    """What it waits for, what would end that, and the command."""
    on_module = f"-m {found.module}"
    if found.waiting_for:
        ends_when = "ends when that is settled"
        if found.maintenance_until and found.state not in _LEADING:
            ends_when += "; not by itself before the maintenance is over"
        elif found.reason == IN_MAINTENANCE:
            rest = in_words(found.peer_maintenance_until - wall_now)
            ends_when = f"ends by itself with the maintenance of {found.peer}, in {rest} at most"
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
