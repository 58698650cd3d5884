"""Lines of a synchronisation's progress: regularly, with files, bytes, rate and time left."""

from __future__ import annotations

import threading

import pytest

from safepy.host.loop import Loop
from safepy.model import Progress
from safepy.worker import telling
from safepy.worker.telling import DETAIL_NAMES_MAX, LINE_INTERVAL_S, Detail, ProgressLog

PROGRESS = Progress("round 1", 120, 20_000, 3 << 20, 5 << 30, 1 << 20, 7, 2.5e6, 3725.0)


def test_a_line_at_each_interval_and_none_in_between() -> None:
    lines: list[tuple[str, str]] = []
    told = ProgressLog(lambda level, text: lines.append((level, text)), 100.0)
    for tenth in range(int(25 * LINE_INTERVAL_S)):
        told.seen(PROGRESS, 100.0 + tenth / 10)
    assert len(lines) == 4
    assert lines[0] == lines[2] == ("E", "1MB copied"), "in the words of the reference (15.4)"
    assert lines[1] == (
        "E",
        "Synchronisation, round 1: 120 of 20000 files, 3.0 MiB of 5.0 GiB compared, "
        "1.0 MiB copied, 2.4 MiB/s, about 1 h 2 min left",
    )


def test_detail_names_each_copied_file_and_bounds_a_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "DETAIL_INTERVAL_S", 0.01)
    loop = Loop()
    lines: list[str] = []

    def log(level: str, text: str) -> None:
        assert level == "I"
        lines.append(text)
        if len(lines) == 2 * DETAIL_NAMES_MAX + 1:
            loop.stop()

    detail = Detail(loop, log, ["/srv/a", "/srv/b"])
    detail.copied(1, (b"sub", b"line\nfeed"))

    def flood() -> None:
        for number in range(DETAIL_NAMES_MAX + 300):
            detail.copied(0, (b"%d" % number,))

    thread = threading.Thread(target=flood)
    thread.start()
    thread.join()
    # One more round, once the first is told.
    loop.call_later(0.5, lambda: [detail.copied(0, (b"x",)) for _ in range(DETAIL_NAMES_MAX)])
    loop.call_later(30.0, loop.stop)
    loop.run()
    assert lines[0] == "Copied /srv/b/sub/line\\nfeed"
    assert lines[1] == "Copied /srv/a/0"
    assert lines[DETAIL_NAMES_MAX] == "Copied 301 more files"
    assert lines[-1] == "Copied /srv/a/x"
