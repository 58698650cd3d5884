"""The id that a file or directory bears on both nodes, whatever its path (protocol 4.2)."""

from __future__ import annotations

import errno
import os

#: Invisible and not writable through the mount, as every name that begins like the mark's (S10).
IDENT_XATTR = b"trusted.safekit.id"
IDENT_BYTES = 16


def give(target: int | bytes, ident: bytes) -> None:
    """To what a descriptor stands for, or to what stands at a path. Raises OSError, EINVAL for
    what is no id."""
    if len(ident) != IDENT_BYTES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.setxattr(target, IDENT_XATTR, ident, follow_symlinks=isinstance(target, int))


def of(fd: int) -> bytes:
    """b"" if it has none. Raises OSError."""
    try:
        return os.getxattr(fd, IDENT_XATTR)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return b""
