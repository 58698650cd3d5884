"""New files of the daemon and its workers: private, and made by nobody else (protocol S13)."""

from __future__ import annotations

import contextlib
import os


def create_private(path: str, access: int = os.O_RDWR) -> int:
    """A descriptor of a new, empty file of mode 0600 at `path`; what an interrupted run left there
    goes first, a link included. For the temporary name of a file that is then renamed into its
    place. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, access | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=...)` that writes a new file."""
    return create_private(path, flags & os.O_ACCMODE)
