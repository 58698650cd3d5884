"""When a module's record begins anew (other directories, another peer, no configuration), and when
everything is to be compared (what is replicated of the same directories changed).

A note beside the record makes it happen even if the daemon dies in between.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safepy.config.paths import ModulePaths
from safepy.errors import LocalFault
from safepy.model import Disk, Record, SyncPolicy
from safepy.storage.record import RecordFile

WHY_EVERYTHING = "config (notreplicated or acl changed)"


def ask(paths: ModulePaths) -> None:
    """Note that the record is to begin anew."""
    paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _note(paths).touch(0o600)


def ask_everything(paths: ModulePaths) -> None:
    """Note that the next synchronisation is to compare everything."""
    paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _note_everything(paths).touch(0o600)


def withdraw(paths: ModulePaths) -> None:
    _note(paths).unlink(missing_ok=True)
    _note_everything(paths).unlink(missing_ok=True)


def settle(paths: ModulePaths) -> None:
    """If it was noted, the record begins anew, or asks for everything. Raises LocalFault."""
    if _note(paths).exists():
        forget(paths)
    elif _note_everything(paths).exists():
        _want_everything(paths)
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


def _want_everything(paths: ModulePaths) -> None:
    """As `rfssync full`: no mark and no date tells of files that were left out until now."""
    record_file = RecordFile(str(paths.record))
    record = record_file.load()
    if record.disk is not Disk.UNCONFIGURED:
        record_file.save(replace(record, policy=SyncPolicy(mode="full", why=WHY_EVERYTHING)))


def _note_everything(paths: ModulePaths) -> Path:
    return paths.state_dir / "compares-everything"


def _note(paths: ModulePaths) -> Path:
    return paths.state_dir / "starts-anew"
