"""A tree that is not ours is refused before anything is read from it or deleted in it (F48)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.storage import marker
from safepy.storage.marker import Mark


def test_the_right_mark_is_accepted_and_others_are_not(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    mark = Mark("web", marker.own_id(str(tmp_path / "state" / "id"), "1" * 32))
    with pytest.raises(LocalFault, match="bears no mark"):
        marker.check(str(tree), mark, "/data")
    marker.put(str(tree), mark)
    marker.check(str(tree), mark, "/data")
    with pytest.raises(LocalFault, match="/data is not the tree"):
        marker.check(str(tree), Mark("web", "2" * 32), "/data")
    with pytest.raises(LocalFault, match="another mark"):
        marker.check(str(tree), Mark("db", mark.id), "/data")


def test_the_id_stays_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "id")
    assert marker.own_id(path, "a") == "a"
    assert marker.own_id(path, "b") == "a"


def test_the_folder_of_a_new_id_is_durable_before_a_tree_bears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power leaves trees whose mark nobody remembers."""
    synced: list[str] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        fsync(fd)
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        synced.append(kind + " renamed" * (tmp_path / "state" / "id").exists())

    monkeypatch.setattr(os, "fsync", watched)
    marker.own_id(str(tmp_path / "state" / "id"), "a")
    assert synced == ["file", "folder renamed"]


def test_an_id_that_is_no_text_is_a_fault_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(LocalFault, match="damaged"):
        marker.own_id(str(path), "a")
    assert path.read_bytes() == b"\xff\xfe\n", "it is not taken for new"
