"""Each test has a fresh lab: two nodes that boot systemd, two lans, safepy from the tree."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from labkit.lab import Lab
from labkit.procs import LabError
from labkit.safekit import report

#: Another name lets a second run stand beside the first one.
NAME = os.environ.get("SAFEPY_LAB_NAME", "e2e")
#: Set it to look at the nodes after a failure; the next run clears them away.
KEEP = "SAFEPY_KEEP_LAB"


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(NAME)
    try:
        lab.up()
        yield lab
    finally:
        if not os.environ.get(KEEP):
            lab.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the nodes say beside a failure, while they still run."""
    outcome = yield
    if outcome.failed and call.when != "teardown":
        arguments: dict[str, object] = getattr(item, "funcargs", {})
        lab = arguments.get("lab")
        if isinstance(lab, Lab):
            try:
                text = report(lab, ["app", "pg"])
            except LabError as error:
                text = f"no report: {error}"
            outcome.sections.append(("the nodes", text))
    return outcome
