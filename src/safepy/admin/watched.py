"""What goes into and comes out of the verbs about processes: `safekit errd`, `safekit kill`."""

from __future__ import annotations

from dataclasses import dataclass

from safepy.admin.names import check_name
from safepy.admin.values import Arguments
from safepy.config.ere import compile_ere


@dataclass(frozen=True, slots=True)
class WatchedProcess:
    """One `<proc>` of the process checker, or with the kind "safekit" a process of the product
    ("process" and "service" are the others). `running` counts what was found last."""

    name: str
    checker_class: str
    action: str
    atleast: int
    running: int
    enabled: bool
    atmax: int = -1
    kind: str = "process"


@dataclass(frozen=True, slots=True)
class KilledProcess:
    """A process that `safekit kill` meant, before it got its signal."""

    pid: int
    name: str
    command: str
    parent: int


class ClassSwitch(Arguments, frozen=True):
    """A class of the process checker, the product's or one of the module's own."""

    checker_class: str
    on: bool

    def __post_init__(self) -> None:
        check_name(self.checker_class, "class")


class Kill(Arguments, frozen=True):
    """`name` as in `<proc name>`; `level` is test, terminate, or a signal."""

    name: str
    level: str
    argregex: str = ""
    caller: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 255:
            raise ValueError("name must be the name of a command")
        if self.level not in ("test", "terminate", "9", "15"):
            raise ValueError("level must be test, terminate, 9 or 15")
        try:
            compile_ere(self.argregex)
        except ValueError as error:
            raise ValueError(f"argregex: {error}") from None
