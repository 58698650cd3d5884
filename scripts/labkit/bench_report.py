"""What the bench found, for people (Markdown) and programs (JSON), and which aims are met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from . import bench_cases as case
from . import bench_resync as resync
from .bench_cipher import Cipher
from .bench_systems import ALL, EXT4, GLUSTER, PASSTHROUGH, SECOND

#: case -> system -> a figure of each round
Figures = dict[str, dict[str, list[float]]]


@dataclass
class Results:
    """`figures` by added round trip in ms ("0", "0.5")."""

    units: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    resync: Figures = field(default_factory=dict)
    ciphers: list[Cipher] = field(default_factory=list)
    machine: str = ""

    def add(self, delay: str, what: str, unit: str, system: str, value: float) -> None:
        self.units[what] = unit
        by_system = self.figures.setdefault(delay, {}).setdefault(what, {})
        by_system.setdefault(system, []).append(value)

    def add_resync(self, what: str, system: str, value: float) -> None:
        self.resync.setdefault(what, {}).setdefault(system, []).append(value)

    def add_all(self, other: Results) -> None:
        """Further rounds of the same cases, and other cases, of another run."""
        self.units.update(other.units)
        for delay, figures in other.figures.items():
            _append(self.figures.setdefault(delay, {}), figures)
        _append(self.resync, other.resync)
        self.ciphers = self.ciphers or other.ciphers
        self.machine = self.machine or other.machine

    @property
    def rounds(self) -> str:
        """How many figures the medians are of: "5", or "2 to 5"."""
        tables = [*self.figures.values(), self.resync]
        counts = {len(one) for table in tables for by in table.values() for one in by.values()}
        if not counts:
            return "no"
        least, most = min(counts), max(counts)
        return str(most) if least == most else f"{least} to {most}"

    def median(self, what: str, system: str, delay: str = "0") -> float | None:
        values = self.figures.get(delay, {}).get(what, {}).get(system)
        return statistics.median(values) if values else None

    def resync_median(self, what: str, system: str) -> float | None:
        values = self.resync.get(what, {}).get(system)
        return statistics.median(values) if values else None


def load(path: Path) -> Results:
    """What `--json` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def _append(to: Figures, more: Figures) -> None:
    for what, by_system in more.items():
        for system, values in by_system.items():
            to.setdefault(what, {}).setdefault(system, []).extend(values)


@dataclass(frozen=True)
class Aim:
    """`reached` gives what is compared with `bound`; None: not measured. `most`: the bound is
    the highest that is good."""

    case: str
    text: str
    bound: float
    reached: Callable[[Results], float | None]
    most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound


def _over(what: str, other: str) -> Callable[[Results], float | None]:
    """Ours over the other's, median of rounds."""

    def reached(results: Results) -> float | None:
        ours, theirs = results.median(what, SECOND), results.median(what, other)
        return None if ours is None or not theirs else ours / theirs

    return reached


def _below(what: str, other: str) -> Callable[[Results], float | None]:
    """The other's over ours: how many times as long we take."""
    over = _over(what, other)

    def reached(results: Results) -> float | None:
        ratio = over(results)
        return None if not ratio else 1 / ratio

    return reached


def _resync_over(what: str, other: str = resync.RSYNC) -> Callable[[Results], float | None]:
    def reached(results: Results) -> float | None:
        ours = results.resync_median(what, resync.SAFEPY)
        theirs = results.resync_median(what, other)
        return None if not ours or theirs is None else theirs / ours

    return reached


def _resync_value(what: str) -> Callable[[Results], float | None]:
    return lambda results: results.resync_median(what, resync.SAFEPY)


def _part_of_rsync(results: Results) -> float | None:
    ratio = _resync_over(resync.TEN_ZONES)(results)
    return None if not ratio else 1 / ratio


AIMS = (
    Aim(case.W16, "at least 10 times GlusterFS", 10, _over(case.W16, GLUSTER)),
    Aim(case.W16, "at least half of passthrough_ll", 0.5, _over(case.W16, PASSTHROUGH)),
    Aim(
        case.W1, "at most 2.5 times passthrough_ll's time", 2.5, _below(case.W1, PASSTHROUGH), True
    ),
    Aim(case.W1, "at least twice GlusterFS", 2, _over(case.W1, GLUSTER)),
    Aim(case.SYNC, "at least 0.7 of ext4", 0.7, _over(case.SYNC, EXT4)),
    Aim(case.CREATE, "at least 20 times GlusterFS", 20, _over(case.CREATE, GLUSTER)),
    Aim(case.PGBENCH, "at least 0.8 of ext4", 0.8, _over(case.PGBENCH, EXT4)),
    Aim(case.PGBENCH, "at least 3 times GlusterFS", 3, _over(case.PGBENCH, GLUSTER)),
    Aim(case.WARM, "at least 0.9 of ext4", 0.9, _over(case.WARM, EXT4)),
    Aim(case.WARM_SMALL, "at least 0.9 of ext4", 0.9, _over(case.WARM_SMALL, EXT4)),
    Aim(case.LIST_AGAIN, "at least 0.9 of ext4", 0.9, _over(case.LIST_AGAIN, EXT4)),
    Aim(resync.SMALL, "at least as fast as rsync", 1, _resync_over(resync.SMALL)),
    Aim(resync.LARGE, "at least 0.8 of the disk", 0.8, _resync_over(resync.LARGE, resync.DISK)),
    Aim(resync.IN_ALL, "under 2 s", 2, _resync_value(resync.IN_ALL), True),
    Aim(resync.TEN_ZONES, "under a tenth of rsync's time", 0.1, _part_of_rsync, True),
    Aim(resync.STALL, "under 250 ms", 250, _resync_value(resync.STALL), True),
)


_BEGIN, _END = "<!-- scripts/bench writes from here -->", "<!-- to here -->"


def put(path: Path, text: str) -> None:
    """Write the tables to a file; in one that has a place for them (docs/performance.md), there."""
    old = path.read_text() if path.exists() else ""
    before, begin, rest = old.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}" if begin and end else text)


def markdown(results: Results) -> str:
    """Every table, as it stands in docs/performance.md."""
    parts = [f"Medians of {results.rounds} round(s), {results.machine}."]
    for delay, figures in sorted(results.figures.items()):
        title = "No delay" if delay == "0" else f"{delay} ms round trip added between the nodes"
        parts.append(f"**{title}**\n\n" + _systems(results, delay, figures))
    if results.resync:
        parts.append("**Resynchronisation**\n\n" + _resync(results))
    if results.ciphers:
        parts.append("**Encryption** (part of every figure of safepy)\n\n" + _ciphers(results))
    if aims := _aims(results):
        parts.append('**Aims** (`async="second"`, no delay)\n\n' + aims)
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _in_order(figures: Figures, names: Sequence[str]) -> list[str]:
    """However the pieces of a table were measured."""
    return sorted(figures, key=lambda what: names.index(what) if what in names else len(names))


def _systems(results: Results, delay: str, figures: Figures) -> str:
    systems = [one for one in ALL if any(one in by for by in figures.values())]
    rows = []
    for what in _in_order(figures, case.NAMES):
        medians = [results.median(what, system, delay) for system in systems]
        cells = ["" if one is None else f"{one:,.0f} {results.units[what]}" for one in medians]
        rows.append([what, *cells])
    return _table(["", *systems], rows)


_RESYNCS = (resync.SAFEPY, resync.RSYNC, resync.DISK)


def _resync(results: Results) -> str:
    rows = []
    for what in _in_order(results.resync, resync.NAMES):
        unit = "ms" if what == resync.STALL else "s"
        cells = [results.resync_median(what, one) for one in _RESYNCS]
        rows.append([what, *("" if one is None else f"{one:,.1f} {unit}" for one in cells)])
    return _table(["", *_RESYNCS], rows)


def _ciphers(results: Results) -> str:
    rows = [
        [
            f"record of {one.bytes:,} bytes",
            f"{one.both_us:,.1f} µs",
            f"{one.bytes / one.both_us / 1.048576:,.0f} MiB/s",
        ]
        for one in results.ciphers
    ]
    return _table(["", "sealed and opened", "is"], rows)


def _aims(results: Results) -> str:
    rows = []
    for aim in AIMS:
        value = aim.reached(results)
        if value is not None:
            met = "met" if aim.met(value) else "**missed**"
            rows.append([aim.case, aim.text, f"{value:,.2f}", met])
    return _table(["case", "aim", "reached", ""], rows) if rows else ""
