"""A replicated tree, and beside it a place that nothing of what a peer says may reach."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

SECRET = b"must stay as it is"


def picture(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that could be seen to have changed below `root`, access times excepted."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        st = path.lstat()
        content: bytes = b""
        if stat.S_ISREG(st.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            content = os.fsencode(os.readlink(path))
        xattrs = tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        )
        found[str(path.relative_to(root))] = (
            *(st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_rdev, st.st_ino),
            *(st.st_mtime_ns, st.st_ctime_ns, content, xattrs),
        )
    return found


class Place:
    """`root` is replicated. `outside` is not; links inside of `root` lead to it: `way` to the
    directory, `door` to its file, `up` to the parent, `dir/deep` to the directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.outside = folder / "root", folder / "outside"
        self.keep = folder / "keep"
        for path in (self.root / "dir", self.outside / "sub"):
            path.mkdir(parents=True)
        (self.outside / "file").write_bytes(SECRET)
        (self.outside / "sub" / "file").write_bytes(SECRET)
        (self.root / "inside").write_bytes(b"content")
        (self.root / "dir" / "file").write_bytes(b"content")
        (self.root / "way").symlink_to(self.outside)
        (self.root / "door").symlink_to(self.outside / "file")
        (self.root / "up").symlink_to("..")
        (self.root / "dir" / "deep").symlink_to("../../outside/sub")
        self._before = picture(self.outside)

    def open_root(self) -> int:
        return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    def assert_untouched(self) -> None:
        after = picture(self.outside)
        for name in sorted(self._before.keys() | after.keys()):
            assert after.get(name) == self._before.get(name), f"outside/{name} was reached"
        assert sorted(os.listdir(self.folder)) in (["outside", "root"], ["keep", "outside", "root"])


@contextmanager
def hostile_place() -> Iterator[Place]:
    folder = mkdtemp(prefix="safepy-hostile-", dir="/tmp")
    try:
        yield Place(Path(folder))
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)
