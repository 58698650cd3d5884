"""rfsdiff in the worker: by which memories it is told, on a real tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safepy.core.replica.suspects import Suspects
from safepy.dataplane.pathmarks import PathMarks
from safepy.host.loop import Loop
from safepy.worker import estimating, messages

DATE_S = 1_700_000_000


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    """old: 100 bytes, young: 7, named: 30 of suspect content; before and after DATE_S."""
    for name, size, at_s in (("old", 100, -1), ("young", 7, 1), ("named", 30, -1)):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (0, DATE_S + at_s))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def told(root_fd: int, since: float) -> messages.Estimated:
    loop, reports = Loop(), []
    suspects = Suspects()
    suspects.add(os.stat("named", dir_fd=root_fd).st_ino, 0, 30)
    keeper: Any = SimpleNamespace(
        suspect_everything_because="after a crash",
        incomplete="",
        paths=PathMarks(1),
        suspects=lambda _zones: [suspects],
    )
    context: Any = SimpleNamespace(
        setup=SimpleNamespace(notreplicated=[()]),
        door_fds=[root_fd],
        loop=loop,
        report=reports.append,
        knowledge=SimpleNamespace(when_known=lambda then: then()),
    )
    estimating.begin(context, keeper, messages.Estimate(5, 1, "walk", "its reason", since))
    limit_s = loop.now_s + 20
    while not reports:
        assert loop.now_s < limit_s, "not in time"
        loop.turn(0.01)
    (answer,) = reports
    return answer


def test_a_date_that_an_operator_gave_comes_before_what_this_node_cannot_know(
    root_fd: int,
) -> None:
    """As the synchronisation does: older files are taken as equal, but for suspect content."""
    answer = told(root_fd, float(DATE_S))
    assert (answer.mode, answer.reason, answer.problem) == ("walk", "its reason", "")
    assert (answer.names, answer.files, answer.bytes) == (4, 2, 7 + 30)


def test_without_a_date_everything_is_compared_after_a_crash(root_fd: int) -> None:
    answer = told(root_fd, 0.0)
    assert (answer.mode, answer.reason) == ("everything", "after a crash")
    assert (answer.files, answer.bytes) == (3, 137)
