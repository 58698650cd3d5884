"""Small state files: what a disk says of them is a fault of this node, never another error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.storage import statefile
from safepy.storage.statefile import Findings


def test_saved_loaded_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "findings")
    assert statefile.load(path, Findings) is None
    statefile.save(path, Findings("why", "", [(0, b"d\xff")], [(1, 7)]))
    assert statefile.load(path, Findings) == Findings("why", "", [(0, b"d\xff")], [(1, 7)])
    statefile.remove(path)
    statefile.remove(path)
    assert statefile.load(path, Findings) is None


@pytest.mark.parametrize("content", [b"", b"\x94", b"\xc1", b"\x91" * 5000])
def test_a_damaged_file_is_a_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "findings"
    path.write_bytes(content)
    with pytest.raises(LocalFault, match="is damaged"):
        statefile.load(str(path), Findings)


def test_a_folder_that_cannot_be_made_durable_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever calls expects nothing else: another error would end its thread unheard."""
    path = str(tmp_path / "running")
    statefile.save(path, b"")

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(LocalFault, match="running cannot be removed: Input/output error"):
        statefile.remove(path)
    with pytest.raises(LocalFault, match="running cannot be written: Input/output error"):
        statefile.save(path, b"")
