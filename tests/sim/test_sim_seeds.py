"""Hundreds of random bad days. A red seed is a bug: `SIM_SEED=123 pytest tests/sim` repeats it.

`SIM_SEEDS` changes how many run (default 300, about half a minute)."""

from __future__ import annotations

import os

import pytest
from swarm import Day

SEEDS = int(os.environ.get("SIM_SEEDS", "300"))
CHUNK = 50


def _run(seed: int) -> None:
    try:
        Day(seed).run()
    except AssertionError as error:
        pytest.fail(f"seed {seed} (repeat with SIM_SEED={seed}): {error}", pytrace=False)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_day_breaks_a_promise(first: int) -> None:
    if "SIM_SEED" in os.environ:
        _run(int(os.environ["SIM_SEED"]))
        return
    for seed in range(first, min(first + CHUNK, SEEDS)):
        _run(seed)
