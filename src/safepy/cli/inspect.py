"""Commands that look into the replicated directories: rfsverify and rfsdiff (13.6)."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click

from safepy.admin.values import Differing, SyncEstimate, VerifyState
from safepy.cli.context import Command, app
from safepy.cli.output import output_option, structured
from safepy.core.words import mode_text, size, span
from safepy.errors import LocalFault, SafekitError

_POLL_S = 10.0
_TELL_EVERY_S = 10.0


@click.command(cls=Command, example="safekit rfsverify -m AM")
@click.option(
    "--mend",
    type=click.Choice(["prim", "second"]),
    default=None,
    help="Where they differ, the other side gets the content of this one.",
)
@output_option
def rfsverify(mend: str | None, form: str) -> None:
    """Compare both copies of the replicated directories while they are in use.

    Prints the name of whatever differs. Exit code 0: equal; 1: something differed, or the
    comparison did not come to its end.
    """
    here = app()
    number: int = here.call("verify", here.module, mend=mend or "")
    differing: list[Differing] = []
    state: VerifyState | None = None
    with _stopped_when_interrupted(number):
        told_s = time.monotonic()
        while state is None or not state.over:
            read = 0 if state is None else state.read
            state = here.call(
                "verify.next", here.module, number=number, seen=read, timeout_s=_POLL_S
            )
            if form == "text":
                for each in state.differences:
                    click.echo(_line(each))
                if time.monotonic() - told_s >= _TELL_EVERY_S and sys.stderr.isatty():
                    told_s = time.monotonic()
                    click.echo(f"{_compared(state)} ...", err=True)
            else:
                differing += state.differences
    if form == "text":
        click.echo(_summary(state))
    else:
        rows = [{"path": d.path, "kind": d.kind, "mended": d.mended} for d in differing]
        report = {"files": state.files, "bytes": state.bytes, "found": state.found}
        structured(
            {**report, "mended": state.mended, "problem": state.problem, "differences": rows}, form
        )
    if state.problem:
        raise LocalFault(f"the verification did not come to its end: {state.problem}")
    click.get_current_context().exit(1 if state.found else 0)


@contextlib.contextmanager
def _stopped_when_interrupted(number: int) -> Iterator[None]:
    """Ctrl-C ends the comparison as well."""
    try:
        yield
    except KeyboardInterrupt:
        here = app()
        with contextlib.suppress(SafekitError):  # it ends by itself when nobody asks any more
            here.call("verify.stop", here.module, number=number)
        raise


def _line(found: Differing) -> str:
    return f"{found.path}: {found.kind}{', mended' if found.mended else ''}"


def _compared(state: VerifyState) -> str:
    return f"{state.files} files, {size(state.bytes)} compared"


def _summary(state: VerifyState) -> str:
    if not state.found:
        return f"{_compared(state)}, no difference"
    text = f"{_compared(state)}, {state.found} differ"
    if state.found > state.read:
        text += f", of which the first {state.read} are named"
    return text + (f", {state.mended} mended" if state.mended else "")


@click.command(cls=Command, example="safekit rfsdiff -m AM")
@output_option
def rfsdiff(form: str) -> None:
    """Tell what a resynchronisation would transfer if the other node came now.

    As far as this node knows: what the other node changed by itself comes on top.
    """
    here = app()
    found: SyncEstimate = here.call("estimate", here.module)
    left_s = found.bytes / found.rate_bytes_s if found.rate_bytes_s else None
    if form != "text":
        import msgspec

        structured({**msgspec.to_builtins(found), "duration_s": left_s}, form)
        return
    click.echo(f"{mode_text(found.mode)}: {found.reason}")
    looked = f"{found.names} names to compare, " if found.names else ""
    click.echo(f"{looked}{found.files} files to look into, {size(found.bytes)} to copy at most")
    if left_s is not None:
        rate = f"{size(found.rate_bytes_s)}/s, as the last time"
        click.echo(f"about {span(left_s)} at {rate}")
    else:
        click.echo("how long it takes is not known: no synchronisation was measured here yet")


COMMANDS: list[click.Command] = [rfsverify, rfsdiff]
