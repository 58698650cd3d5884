"""The main job of safepy as a story with times: what `scripts/demo` plays."""

from __future__ import annotations

import argparse
import sys
import time

from . import modules
from .lab import Lab
from .load import PostgresLoad, equal_trees, longest_pause
from .procs import LabError
from .safekit import report, safekit, wait_pair, wait_state

MODULE = "pg"
#: A machine that is busy may need longer than the promise; the promise itself is printed.
PATIENCE_S = 90.0


class Story:
    """Prints what happens, with the seconds since the beginning, and keeps what went wrong."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.failures: list[str] = []

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)

    def chapter(self, title: str) -> None:
        print(f"\n           {title}", flush=True)

    def expect(self, good: bool, success: str, failure: str) -> None:
        self.tell(("ok: " + success) if good else ("FAILED: " + failure))
        if not good:
            self.failures.append(failure)


def play(lab: Lab, story: Story) -> None:
    story.chapter("Two servers")
    story.tell("raising n1 and n2: two Debian hosts that boot systemd, two lans between them")
    lab.up()
    n1, n2 = lab["n1"], lab["n2"]
    story.tell("both have booted, with safepy installed and the cluster key carried over")
    story.tell("an ordinary PostgreSQL database is created on n1, in /data/pg")
    modules.install_postgres(lab, MODULE)
    modules.create_database(lab, "n1")
    story.tell(f"module {MODULE} installed and configured on both: /data/pg is to be replicated")

    story.chapter("First start")
    safekit(n2, "start", "-m", MODULE)
    safekit(n1, "prim", "-m", MODULE)
    story.tell("n1: `safekit prim` (its files are the good ones); n2: `safekit start`")
    wait_state(n1, MODULE, "ALONE Ready", "PRIM Transient", "PRIM Ready", at_most_s=PATIENCE_S)
    story.tell("n1 serves: PostgreSQL runs, the load begins while n2 is still being filled")
    load = PostgresLoad(lab)
    load.start()
    try:
        _play_with_load(lab, story, load)
    finally:
        load.stop()

    story.chapter("The reckoning")
    commits = load.acknowledged()
    missing = load.missing()
    story.expect(
        not missing,
        f"{len(commits)} commits were acknowledged, every one of them is in the database",
        f"{len(missing)} of {len(commits)} acknowledged commits are missing: {missing[:5]}",
    )
    story.expect(
        load.accounts_balance(), "every balance is the sum of its history", "balances are wrong"
    )
    # Held still, not stopped: a stop would be one more take-over.
    n2.run("pkill", "-STOP", "-u", "postgres", "-x", "postgres")
    found = equal_trees(lab, modules.PG_DIRECTORY)
    story.expect(
        not found,
        "both directories are equal: contents, owners, modes, times, links, attributes",
        f"{len(found)} differences between the directories: {found[:5]}",
    )
    n2.run("pkill", "-CONT", "-u", "postgres", "-x", "postgres")


def _play_with_load(lab: Lab, story: Story, load: PostgresLoad) -> None:
    n1, n2 = lab["n1"], lab["n2"]
    begun = time.monotonic()
    wait_pair(lab, MODULE, "n1", "n2", PATIENCE_S)
    story.tell(
        f"n1 is PRIM, n2 is SECOND after {time.monotonic() - begun:.1f} s of synchronisation"
    )

    story.chapter("Live replication")
    took = load.wait_for_commits(500, PATIENCE_S)
    story.tell(
        f"500 further commits in {took:.1f} s, each on both nodes before it was acknowledged"
    )

    story.chapter("The power of n1 is cut")
    before = time.monotonic()
    n1.power_cut()
    story.tell("n1 is dead, in the middle of its transactions")
    wait_state(n2, MODULE, "ALONE Ready", at_most_s=PATIENCE_S)
    story.tell(f"n2 is ALONE Ready {time.monotonic() - before:.1f} s later")
    load.wait_for_commits(200, PATIENCE_S)
    pause = longest_pause(moment for *_, moment in load.acknowledged() if moment > before - 1)
    story.tell(f"clients work again; for them the outage was {pause:.1f} s")

    story.chapter("n1 comes back")
    before = time.monotonic()
    n1.power_on()
    n1.wait_booted()
    story.tell(f"n1 has booted after {time.monotonic() - before:.1f} s")
    wait_pair(lab, MODULE, "n2", "n1", PATIENCE_S)
    took = time.monotonic() - before
    story.tell(f"n1 is SECOND again after {took:.1f} s, by itself, resynchronised under load")
    load.wait_for_commits(200, PATIENCE_S)

    story.chapter("Roles are swapped, twice")
    for prim, second in (("n1", "n2"), ("n2", "n1")):
        before = time.monotonic()
        safekit(lab[second], "swap", "-m", MODULE)
        wait_pair(lab, MODULE, prim, second, PATIENCE_S)
        load.wait_for_commits(100, PATIENCE_S)
        pause = longest_pause(moment for *_, moment in load.acknowledged() if moment > before - 1)
        story.tell(f"{prim} is PRIM, {second} SECOND; the clients waited {pause:.1f} s")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the nodes up at the end")
    arguments = parser.parse_args(argv)
    story = Story()
    lab = Lab("demo")
    try:
        play(lab, story)
    except LabError as error:
        story.expect(False, "", str(error))
        print(report(lab, [MODULE]), file=sys.stderr)
    finally:
        if arguments.keep:
            story.tell("the nodes stay up: scripts/lab --name demo list")
        else:
            lab.down()
    print("\nFAILED: " + "; ".join(story.failures) if story.failures else "\nAll is well.")
    return 1 if story.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
