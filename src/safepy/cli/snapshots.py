"""How `safekit state` shows a module."""

from __future__ import annotations

from typing import Any

import msgspec

from safepy.cli.maintain import maintenance_lines
from safepy.cli.output import iso, moment, table
from safepy.core.why import sentences, switched_off, why
from safepy.core.words import mode_text, progress_text, span
from safepy.model import Snapshot


def snapshot_lines(snapshot: Snapshot, verbose: bool, now: float) -> list[str]:
    """The block that `safekit state` prints for one module."""
    head = f"Module {snapshot.module}, node {snapshot.node}"
    if snapshot.peer:
        head += f", peer {snapshot.peer}"
    since = ""
    if snapshot.since:
        since = f"  since {moment(snapshot.since)} ({span(now - snapshot.since)})"
    rows = [("state", f"{snapshot.state} {snapshot.status}{since}")]
    if snapshot.reason:
        rows.append(("reason", snapshot.reason))
    if snapshot.peer:
        rows.append(("peer", f"{snapshot.peer_state or 'UNKNOWN'} {snapshot.peer_status}".strip()))
    rows += [("maintenance", line) for line in maintenance_lines(snapshot, now)]
    if snapshot.progress is not None:
        rows.append(("replication", progress_text(snapshot.progress)))
        if snapshot.progress.mode:
            mode, reason = snapshot.progress.mode, snapshot.progress.reason
            rows.append(("compares", f"{mode_text(mode)}: {reason}" if reason else mode_text(mode)))
    answer = why(snapshot, now)
    rows += sentences(answer)
    rows += [("note", note) for note in answer.notes]
    lines = [head, *table(rows, "  ")]
    if verbose:
        lines += _details(snapshot)
    return lines


def _details(snapshot: Snapshot) -> list[str]:
    record = snapshot.record
    lines = []
    if snapshot.story:
        lines.append("  what led to it")
        lines += table([(moment(at), text) for at, text in snapshot.story], "    ")
    if snapshot.synchronisation or snapshot.sync_policy:
        lines.append("  synchronisation")
        rows = [("last one here", snapshot.synchronisation), ("next one", snapshot.sync_policy)]
        lines += table([row for row in rows if row[1]], "    ")
    if snapshot.lanes:
        lines.append("  lanes")
        lines += table([(name, "up" if up else "down") for name, up in snapshot.lanes], "    ")
    if snapshot.dropped:
        lines.append("  heartbeats dropped")
        lines += table([(kind, str(count)) for kind, count in snapshot.dropped], "    ")
    lines.append("  record")
    rows = [
        ("disk", record.disk.value),
        ("epoch", str(record.epoch)),
        ("generation", record.gen or "-"),
        ("departed from", record.base or "-"),
        ("peer is behind", "yes" if record.peer_behind else "no"),
        ("active as", record.active.value),
    ]
    lines += table(rows, "    ")
    lines.append("  resources")
    lines += table(
        [(name, value, moment(date)) for name, value, date in snapshot.resources], "    "
    )
    if snapshot.peer_resources:
        lines.append(f"  resources of {snapshot.peer}, by its last heartbeat")
        lines += table(list(snapshot.peer_resources), "    ")
    return lines


def snapshot_object(snapshot: Snapshot) -> dict[str, Any]:
    """The same for programs; the keys are documented in docs/json.md and stay."""
    shown: dict[str, Any] = msgspec.to_builtins(snapshot)
    shown["notes"] = [*snapshot.notes, *switched_off(snapshot)]
    shown["since"] = iso(snapshot.since)
    shown["since_unix_s"] = snapshot.since
    shown["lanes"] = {name: "up" if up else "down" for name, up in snapshot.lanes}
    shown["resources"] = {
        name: {"value": value, "date": iso(date)} for name, value, date in snapshot.resources
    }
    shown["peer_resources"] = dict(snapshot.peer_resources)
    shown["dropped"] = dict(snapshot.dropped)
    shown["record"]["history"] = [list(pair) for pair in snapshot.record.history]
    return shown
