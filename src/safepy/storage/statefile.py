"""Small files of the state directory: written whole or not at all, and durable when they are."""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from safepy.errors import LocalFault
from safepy.storage.private import private_opener

T = TypeVar("T")


class SavedMarks(msgspec.Struct, frozen=True, array_like=True):
    """Path marks over a clean stop. They count while `sequence` is the intent log's newest block:
    (path, full, walk, extents) by tree. `incomplete` as in `PathMarks`."""

    sequence: int
    trees: list[list[tuple[bytes, bool, bool, tuple[tuple[int, int], ...]]]]
    incomplete: str = ""


class Findings(msgspec.Struct, array_like=True):
    """What is known to differ, or suspected, because of times in which nobody noted what
    happened; until the nodes are in sync again.

    `everything`: why any content may differ; `unknown`: why any name may; "" if not. `paths`:
    (tree, path), `inodes`: (tree, inode number) of files whose content may differ.
    """

    everything: str = ""
    unknown: str = ""
    paths: list[tuple[int, bytes]] = []
    inodes: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.everything or self.unknown or self.paths or self.inodes)


def save(path: str, content: msgspec.Struct | bytes) -> None:
    """Raises LocalFault."""
    data = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb", opener=private_opener) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_folder(path)
    except OSError as error:
        raise _fault(path, "cannot be written", error) from error


def load(path: str, kind: type[T]) -> T | None:
    """None without the file. Raises LocalFault for one that is damaged, too."""
    try:
        with open(path, "rb") as file:
            return msgspec.msgpack.decode(file.read(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _fault(path, "cannot be read", error) from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise LocalFault(f"the state file {path} is damaged: {error}") from error


def remove(path: str) -> None:
    """Durably. Raises LocalFault."""
    try:
        os.unlink(path)
        sync_folder(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _fault(path, "cannot be removed", error) from error


def sync_folder(path: str) -> None:
    """The names in the folder of `path` are durable. Raises OSError."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fault(path: str, what: str, error: OSError) -> LocalFault:
    return LocalFault(f"the state file {path} {what}: {os.strerror(error.errno or 0)}")
