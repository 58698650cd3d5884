"""Names that may travel in a request; light, because every command checks one."""

from __future__ import annotations

import re

from safepy.config.names import NAME_RULE, is_name
from safepy.errors import RequestRefused

#: Names of resources (`class.id`) and callers. `\Z`, because `$` would let a line feed through.
_LABEL = re.compile(r"[A-Za-z0-9_.:@-]{1,128}\Z")


def check_name(name: str, what: str = "module") -> str:
    """A name of a module or node (`config.names`); anything else is RequestRefused."""
    if not is_name(name):
        raise RequestRefused(f"{name[:80]!r} cannot be the name of a {what}", NAME_RULE)
    return name


def check_label(label: str, what: str) -> str:
    """A name of a resource, process or caller, without blanks; else RequestRefused."""
    if not _LABEL.match(label):
        raise RequestRefused(
            f"{label!r} cannot be the name of a {what}",
            "1 to 128 characters, letters without accents, digits and '_.:@-'",
        )
    return label


def check_path(path: str) -> str:
    """Absolute, because the daemon's working directory is not the caller's; no NUL."""
    if not path.startswith("/") or "\0" in path:
        raise RequestRefused(f"{path!r} is not an absolute path")
    return path
