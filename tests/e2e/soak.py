"""Torments a mirror pair with random faults, one after the other, until the time is over.

A program, run by hand as root; pytest does not collect it:

    sudo .venv/bin/python tests/e2e/soak.py --minutes 60 [--seed N] [--load pg] [--only FAULT,...]

After each fault (and sometimes a second one in the middle of the return) everything is mended,
and then must hold: PRIM and SECOND Ready again within a stated time, by themselves; no
acknowledged write missing on either node; equal trees; never two nodes that accept writes; no
bare writable files while the module is not STOP; no stack trace in the journal. The first
violation ends the run: the lab stays up, and what the nodes say lies beside it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from labkit.faults import FAULTS
from labkit.lab import Lab
from labkit.procs import LabError
from labkit.safekit import report
from labkit.torment import Torment, Violation


def main() -> int:
    parser = argparse.ArgumentParser(description="Random faults on a lab, until time is over.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--name", default="soak", help="name of the lab")
    parser.add_argument("--load", choices=["writer", "pg"], default="writer")
    parser.add_argument("--async", dest="acknowledge", choices=["second", "none"])
    parser.add_argument("--only", help="faults to choose from: " + ", ".join(FAULTS))
    parser.add_argument("--single", action="store_true", help="no second faults")
    parser.add_argument("--down", action="store_true", help="take the lab down in any case")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(FAULTS)
    unknown = sorted(set(chosen) - set(FAULTS))
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    if arguments.load == "pg":
        # What a database was told to give up in a split brain cannot be told from a loss.
        chosen = [name for name in chosen if not FAULTS[name].splits]
    draw = random.Random(arguments.seed)
    acknowledge = arguments.acknowledge or draw.choice(["second", "none"])
    print(
        f"seed {arguments.seed}, {arguments.minutes:g} min, {arguments.load}, async={acknowledge}"
    )
    lab = Lab(arguments.name)
    torment = Torment(lab, draw, arguments.load, acknowledge)
    deadline = time.monotonic() + 60 * arguments.minutes
    counts: Counter[str] = Counter()
    try:
        torment.prepare()
        while time.monotonic() < deadline:
            counts.update(torment.round(chosen, second_fault=not arguments.single))
    except (LabError, Violation) as error:
        folder = Path(f"/tmp/soak-{arguments.name}-{arguments.seed}")
        folder.mkdir(exist_ok=True)
        (folder / "report.txt").write_text(report(lab, [torment.module]), errors="replace")
        print(f"\nVIOLATION (seed {arguments.seed}): {error}\nsee {folder}; the lab stays up")
        if arguments.down:
            lab.down()
        return 1
    print(f"\nno violation; seed {arguments.seed}; {sum(counts.values())} faults: {dict(counts)}")
    lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
