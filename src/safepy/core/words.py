"""Sizes, times and progress as people read them: the command, the log and the console agree."""

from __future__ import annotations

from safepy.model import Progress

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """1536 -> `1.5 KiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[0]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """3725 -> `1 h 2 min`; the two largest units."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length} {name}")
            left %= length
    return " ".join(parts[:2])


#: How much a resynchronisation looks at, as people read it (model.SyncMode).
_MODES = {
    "zones": "marked zones only",
    "walk": "names and attributes of all, content where they ask for it",
    "everything": "everything",
}


def mode_text(mode: str) -> str:
    """`zones` -> `marked zones only`; a word of a later version as it is."""
    return _MODES.get(mode, mode)


def progress_text(progress: Progress) -> str:
    """One line: phase, files, bytes, rate, time left."""
    files = f"{progress.files_done}"
    if progress.files_total:
        files += f" of {progress.files_total}"
    volume = size(progress.bytes_done)
    if progress.bytes_total:
        volume += f" of {size(progress.bytes_total)}"
    parts = [f"{files} files", f"{volume} compared", f"{size(progress.bytes_copied)} copied"]
    if progress.rate_bytes_s:
        parts.append(f"{size(progress.rate_bytes_s)}/s")
    if progress.left_s is not None:
        parts.append(f"about {span(progress.left_s)} left")
    phase = f"{progress.phase}: " if progress.phase else ""
    return phase + ", ".join(parts)
