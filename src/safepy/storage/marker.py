"""The mark on the root of a replicated tree: "this is the file system we think it is".

An extended attribute of the root directory holds the module's name and a random id of this
node's own, which a file in the state folder remembers. A tree without the right mark is not
ours: not mounted, another disk, or empty; nothing may be copied from it nor deleted in it
(protocol 2.1, F48, K14).
"""

from __future__ import annotations

import errno
import os

import msgspec

from safepy.errors import LocalFault
from safepy.storage.private import private_opener
from safepy.storage.statefile import sync_folder

#: Invisible and not writable through the mount, as every name that begins like it (S10).
ATTRIBUTE = "trusted.safekit"


class Mark(msgspec.Struct, frozen=True):
    module: str
    id: str


def own_id(path: str, fresh: str) -> str:
    """The id that this node remembers at `path`; `fresh` becomes it, durably, if there is none
    yet: the trees bear it from then on. Raises LocalFault."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _fault(path, "cannot be read", error) from error
    except UnicodeDecodeError as error:
        raise LocalFault(
            f"{path} is damaged: the mark of the replicated trees is not known any more",
            "safekit deconfig, config: their data will be compared whole",
        ) from error
    temporary = f"{path}.new"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="ascii", opener=private_opener) as file:
            file.write(fresh + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_folder(path)
    except OSError as error:
        raise _fault(path, "cannot be written", error) from error
    return fresh


def put(root: str, mark: Mark) -> None:
    """The directory `root` bears `mark`, durably. Raises LocalFault."""
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.setxattr(fd, ATTRIBUTE, msgspec.json.encode(mark))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            raise LocalFault(
                f"the file system of {root} keeps no extended attributes",
                "replicate a directory on ext4, xfs or btrfs",
            ) from error
        raise _fault(root, "cannot be marked", error) from error


def check(root: str, mark: Mark, shown_as: str) -> None:
    """Raises LocalFault unless the directory `root` bears exactly `mark`; `shown_as` names it
    in the message."""
    try:
        found = os.getxattr(root, ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise _fault(shown_as, "cannot be examined", error) from error
        found = b""
    if found != msgspec.json.encode(mark):
        what = "bears another mark" if found else "bears no mark"
        raise LocalFault(
            f"{shown_as} is not the tree that was replicated here: it {what} of safekit",
            "is its file system mounted? if it was replaced on purpose: safekit deconfig, config",
        )


def _fault(path: str, what: str, error: OSError) -> LocalFault:
    return LocalFault(f"{path} {what}: {error.strerror}")
