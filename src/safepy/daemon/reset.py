"""When a module's record begins anew: other directories, another peer, no configuration.

A note beside the record makes it happen even if the daemon dies in between.
"""

from __future__ import annotations

from pathlib import Path

from safepy.config.paths import ModulePaths
from safepy.errors import LocalFault
from safepy.model import Record
from safepy.storage.record import RecordFile


def ask(paths: ModulePaths) -> None:
    """Note that the record is to begin anew."""
    paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _note(paths).touch(0o600)


def withdraw(paths: ModulePaths) -> None:
    _note(paths).unlink(missing_ok=True)


def settle(paths: ModulePaths) -> None:
    """If it was noted, the record begins anew. Raises LocalFault."""
    if _note(paths).exists():
        forget(paths)
        withdraw(paths)


def forget(paths: ModulePaths) -> None:
    """The record is UNCONFIGURED; only the numbers that must never go back stay."""
    if not paths.record.exists():
        return
    record_file = RecordFile(str(paths.record))
    try:
        old = record_file.load()
    except LocalFault:
        # Damaged: this is how an operator goes on.
        paths.record.unlink()
        old = Record()
    record_file.save(Record(epoch=old.epoch, promised=old.promised))


def _note(paths: ModulePaths) -> Path:
    return paths.state_dir / "starts-anew"
