"""Settings of the kernel: files of /proc and /sys that exist already and are written whole."""

from __future__ import annotations

import os


def write_setting(path: str, value: str) -> None:
    """Raises OSError where the kernel, or a container, does not allow it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
