"""Lines of a synchronisation's progress: regularly, with files, bytes, rate and time left."""

from __future__ import annotations

from safepy.model import Progress
from safepy.worker.telling import LINE_INTERVAL_S, ProgressLog

PROGRESS = Progress("round 1", 120, 20_000, 3 << 20, 5 << 30, 1 << 20, 7, 2.5e6, 3725.0)


def test_a_line_at_each_interval_and_none_in_between() -> None:
    lines: list[tuple[str, str]] = []
    told = ProgressLog(lambda level, text: lines.append((level, text)), 100.0)
    for tenth in range(int(25 * LINE_INTERVAL_S)):
        told.seen(PROGRESS, 100.0 + tenth / 10)
    assert len(lines) == 2
    assert lines[0] == (
        "E",
        "Synchronisation, round 1: 120 of 20000 files, 3.0 MiB of 5.0 GiB compared, "
        "1.0 MiB copied, 2.4 MiB/s, about 1 h 2 min left",
    )
