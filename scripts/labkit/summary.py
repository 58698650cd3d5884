"""Adds up the results of the test groups: one closing line, one exit code."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

#: Where every test is meant to run, a skipped one hides a missing feature.
NO_SKIPS = ("fuse", "e2e")


def main(results: str, seconds: str, *broken: str) -> int:
    complaints = list(broken)
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    print()
    for path in sorted(Path(results).glob("*.xml")):
        suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
        tests, skipped, failed = (
            sum(sum(int(suite.get(key, "0")) for key in keys) for suite in suites)
            for keys in (["tests"], ["skipped"], ["failures", "errors"])
        )
        passed = tests - skipped - failed
        print(f"{path.stem:<10} {passed} passed, {failed} failed, {skipped} skipped")
        if tests - skipped == 0:
            complaints.append(f"{path.stem}: ran no test")
        if path.stem in NO_SKIPS and skipped:
            complaints.append(f"{path.stem}: {skipped} skipped, where all are meant to run")
        for key, count in zip(totals, (passed, failed, skipped), strict=True):
            totals[key] += count
    for complaint in complaints:
        print(f"FAILED {complaint}")
    totals["failed"] += len(complaints)
    shown = [f"{totals['failed']} failed"] if totals["failed"] else []
    shown += [f"{totals['passed']} passed"]
    shown += [f"{totals['skipped']} skipped"] if totals["skipped"] else []
    print(f"==== {', '.join(shown)} in {seconds}.00s ====")
    return 1 if totals["failed"] or not totals["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
