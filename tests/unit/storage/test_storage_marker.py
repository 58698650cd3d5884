"""A tree that is not ours is refused before anything is read from it or deleted in it (F48)."""

from __future__ import annotations

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
