"""Commands that ask a module to do something, and those that wait until it has (13.1)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from safepy.admin.values import Watched
from safepy.cli.context import Command, app, identity_option, not_yet
from safepy.errors import RequestRefused
from safepy.model import Snapshot, State, Status

_POLL_S = 20.0
#: A module that was just asked to start may still say STOP for a moment.
_STOP_GRACE_S = 3.0

_ACTIONS = {
    "start": "Start the module; returns at once.",
    "stop": "Stop the module; returns at once.",
    "restart": "Stop and start the application only, on the same node.",
    "stopstart": "Stop the module and start it again; a primary hands over.",
}


def _act(action: str, identity: str, fullsync: bool = False) -> None:
    here = app()
    here.call("action", here.module, action=action, identity=identity, fullsync=fullsync)


def _simple(action: str, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text)
    @identity_option
    def run(identity: str) -> None:
        _act(action, identity)

    return run


def _forced(action: str, text: str) -> click.Command:
    @click.command(action, cls=Command, help=text)
    @click.argument("fullsync", required=False, type=click.Choice(["fullsync"]))
    @identity_option
    def run(fullsync: str | None, identity: str) -> None:
        _act(action, identity, fullsync is not None)

    return run


@click.command(cls=Command)
@click.argument("nosync", required=False, type=click.Choice(["nosync"]))
@identity_option
def swap(nosync: str | None, identity: str) -> None:
    """Exchange the roles of the two nodes."""
    if nosync:
        not_yet("swap nosync")
    _act("swap", identity)


@click.command(cls=Command)
@identity_option
def forcestop(identity: str) -> None:
    """End whatever runs of the module when stop has no effect; returns when it is done."""
    here = app()
    here.call("forcestop", here.module, identity=identity)


@click.command(cls=Command)
def shutdown() -> None:
    """Stop all modules of this node and wait until they are."""
    here = app()
    here.for_the_node()
    here.call("shutdown")


def _timeout_option() -> click.Option:
    return click.Option(
        ["-t", "--timeout", "timeout_s"],
        type=click.FloatRange(min=0),
        default=None,
        metavar="SECONDS",
        help="Give up after this long (exit code 1).",
    )


class _Wait(Command):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_timeout_option())


@click.command(cls=_Wait)
def waitstart(timeout_s: float | None) -> None:
    """Wait for the end of the start; fails if the module then waits or is stopped."""
    for snapshot, waited_s in _watch(timeout_s):
        if snapshot.state is State.STOP and waited_s >= _STOP_GRACE_S:
            raise RequestRefused(f"module {snapshot.module} is stopped", snapshot.reason)
        if snapshot.state is State.STOP or snapshot.status is Status.TRANSIENT:
            continue
        if snapshot.status is Status.READY:
            return
        raise RequestRefused(
            f"module {snapshot.module} waits for {snapshot.waiting_for or snapshot.reason}",
            snapshot.remedy,
        )


@click.command(cls=_Wait)
def waitstop(timeout_s: float | None) -> None:
    """Wait for the end of the stop."""
    for snapshot, _ in _watch(timeout_s):
        if snapshot.state is State.STOP:
            return


@click.command(cls=_Wait)
@click.argument("state", type=click.Choice([*State, "UP"], case_sensitive=False))
def waitstate(state: str, timeout_s: float | None) -> None:
    """Wait until the module is in STATE and settled (Ready or NotReady)."""
    if str(state) == "UP":
        not_yet("state UP (farm and light modules)")
    for snapshot, _ in _watch(timeout_s):
        if snapshot.state == state and snapshot.status is not Status.TRANSIENT:
            return


def _watch(timeout_s: float | None) -> Iterator[tuple[Snapshot, float]]:
    """Every new snapshot of the module, and how long we have been waiting for it."""
    here = app()
    started = time.monotonic()
    version = 0
    while True:
        waited_s = time.monotonic() - started
        left_s = _POLL_S if timeout_s is None else max(0.0, timeout_s - waited_s)
        if waited_s < _STOP_GRACE_S:
            left_s = min(left_s, _STOP_GRACE_S - waited_s)
        watched: Watched = here.call(
            "state.next", here.module, version=version, timeout_s=min(_POLL_S, left_s)
        )
        version, snapshot = watched.version, watched.snapshot
        waited_s = time.monotonic() - started
        yield snapshot, waited_s
        if timeout_s is not None and waited_s >= timeout_s:
            raise RequestRefused(
                f"module {here.module} is {snapshot.state} {snapshot.status}"
                f" after {timeout_s:g} seconds"
            )


COMMANDS: list[click.Command] = [
    *(_simple(action, text) for action, text in _ACTIONS.items()),
    _forced("prim", "Start as primary, whatever this node knows of its data."),
    _forced("second", "Start as secondary of a node that is primary."),
    _simple(
        "primforce",
        "As prim, also with data that a broken synchronisation left inconsistent; the other node "
        "is compared whole.",
    ),
    swap,
    forcestop,
    shutdown,
    waitstart,
    waitstop,
    waitstate,
]
