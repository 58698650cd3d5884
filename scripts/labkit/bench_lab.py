"""What every bench has in common: a lab of its own that goes with it, and a voice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .lab import Lab
from .procs import LabError
from .safekit import report

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    """What happens, beside the table that is the result."""
    print(text, file=sys.stderr, flush=True)


def in_lab(lab: Lab, modules: Sequence[str], work: Callable[[], None], *, lans: int = 2) -> int:
    """Do `work` in the lab, which is taken down whatever happens; the exit code.

    After a failure the nodes are asked what they say about `modules`."""
    with _told(_interrupted):
        try:
            lab.up(lans=lans)
            work()
        except LabError as error:
            print(f"bench: {error}\n{report(lab, list(modules))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            # Who is impatient now would leave nodes, mounts and networks behind.
            with _told(signal.SIG_IGN):
                lab.down()
    return 0


@contextmanager
def _told(handler: Any) -> Iterator[None]:
    """What is done meanwhile with a signal that wants an end."""
    before = [(number, signal.signal(number, handler)) for number in _ENDING]
    try:
        yield
    finally:
        for number, earlier in before:
            signal.signal(number, earlier)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
