"""A program was called in a way that means nothing."""

from __future__ import annotations

#: Exit code of wrong usage, where the program needs no other.
USAGE_CODE = 2


class WrongUsage(Exception):
    """The message says what is wrong; the usage line follows it."""
