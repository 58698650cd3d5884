"""Commands that wait until a module has done what it was asked to do (13.1)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from safepy.admin.values import Watched
from safepy.cli.context import Command, app
from safepy.errors import RequestRefused
from safepy.model import Snapshot, State, Status

_POLL_S = 20.0
#: What a daemon that is well may take beyond the time that it was given: then it hangs.
_ANSWER_S = 3.0
#: A module that was just asked to start may still say STOP for a moment.
_STOP_GRACE_S = 3.0
STATES = tuple(str(state) for state in State)


def _timeout_option() -> click.Option:
    return click.Option(
        ["-t", "--timeout", "timeout_s"],
        type=click.FloatRange(min=0),
        default=None,
        metavar="SECONDS",
        help="Give up after this long (exit code 1).",
    )


class _State(click.Choice[str]):
    """In capitals or not."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        return super().convert(str(value).upper(), param, ctx)


class _Wait(Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_timeout_option())


@click.command(cls=_Wait, example="safekit waitstart -m AM -t 120")
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


@click.command(cls=_Wait, example="safekit waitstop -m AM")
def waitstop(timeout_s: float | None) -> None:
    """Wait for the end of the stop."""
    for snapshot, _ in _watch(timeout_s):
        if snapshot.state is State.STOP:
            return


@click.command(cls=_Wait, example="safekit waitstate PRIM -m AM")
@click.argument("state", type=_State(STATES))
def waitstate(state: str, timeout_s: float | None) -> None:
    """Wait until the module is in STATE and settled (Ready or NotReady)."""
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
        limit_s = None if timeout_s is None else max(0.0, timeout_s - waited_s) + _ANSWER_S
        watched: Watched = here.call_within(
            limit_s, "state.next", here.module, version=version, timeout_s=min(_POLL_S, left_s)
        )
        version, snapshot = watched.version, watched.snapshot
        waited_s = time.monotonic() - started
        yield snapshot, waited_s
        if timeout_s is not None and waited_s >= timeout_s:
            raise RequestRefused(
                f"module {here.module} is {snapshot.state} {snapshot.status}"
                f" after {timeout_s:g} seconds"
            )


COMMANDS: list[click.Command] = [waitstart, waitstop, waitstate]
