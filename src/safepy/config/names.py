"""Names that end up in paths, resources and on the wire (protocol S18)."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LABEL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\Z"
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

NAME_RULE = "letters, digits, _ and -, at most 64"
LABEL_RULE = "letters, digits and _ . : -, at most 64"
VARIABLE_RULE = "letters, digits and _, not beginning with a digit"

#: The folder SAFE/modules/lastconfig holds copies of configurations (reference: userconfig 1.2).
RESERVED_MODULE_NAMES = frozenset({"lastconfig"})


def is_name(text: str) -> bool:
    """Whether `text` may name a module or a node."""
    return NAME.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether `text` may name a lan, a heartbeat or a process resource."""
    return LABEL.fullmatch(text) is not None
