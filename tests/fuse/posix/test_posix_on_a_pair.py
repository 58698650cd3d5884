"""All cases again, on the mount of a live pair: same observations, and two equal trees."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from cases import CASES, EXPECTED, Sides, carry_out, unequal
from tree_picture import differences, picture
from worker_pair import Job, Pair, pair_up

from safepy.worker.common import sync_path

pytestmark = pytest.mark.kernel

for path in sorted(Path(__file__).parent.glob("test_posix_*.py")):
    if path.stem != __name__:
        importlib.import_module(path.stem)


def test_every_case_is_seen_alike_and_arrives_on_the_other_node(pair: Pair, sides: Sides) -> None:
    pair.base.chmod(0o755)
    a, b = pair.worker("a", acl=True), pair.worker("b", acl=True)
    pair_up(a, b)
    unlike: list[str] = []
    at: list[str] = []
    beneath = sides.beneath / "for-the-pair"
    beneath.mkdir()

    def carry_out_all() -> None:
        for name, case in sorted(CASES.items()):
            at.append(name)
            if name not in EXPECTED:
                EXPECTED[name], _ = carry_out(case, beneath / name)
            seen, _ = carry_out(case, a.public / name)
            unlike.extend(f"{name}: {text}" for text in unequal(EXPECTED[name], seen))

    assert len(CASES) > 150
    try:
        Job(carry_out_all).finish(a, b, limit_s=240)
    except AssertionError as error:
        raise AssertionError(f"in {at[-1]}") from error
    assert unlike == []
    Job(lambda: sync_path(str(a.public))).finish(a, b, limit_s=120)
    on_a, on_b = picture(a.door), picture(b.public)
    assert len(on_a) > len(CASES)
    assert differences(on_a, on_b)[:20] == [], "first: primary, second: secondary"
