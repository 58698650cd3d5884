"""The witness register: one pair (epoch, owner) per module, and the only way it changes (7.1).

Pure: a register in, a register and an answer out. Whoever keeps it (a service, an object store, a
row of a database) must make the change durable before it answers, and make it conditional on the
register it was computed from; two claims that read the same register must not both be stored.

Nothing expires and nothing is released. A lease would need a clock that is known to run, and that
of a paused virtual machine stands still (protocol 7.1).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Register:
    """The right to serve alone from `epoch` on belongs to `owner` ("": to nobody yet)."""

    epoch: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`epoch` and `owner` are what the register holds now; `refusal` is empty if granted."""

    granted: bool
    epoch: int = 0
    owner: str = ""
    refusal: str = ""


LOST = "the witness has no register of this module; register it while the pair is in sync"


def claim(register: Register | None, node: str, want: int) -> tuple[Register | None, Answer]:
    """CLAIM(node, want). Asking again for what one has is granted again, so retries are harmless.

    None is a witness that lost its state, or never had any: it grants nothing, because it may
    have granted this very number to the other node."""
    if register is None:
        return None, Answer(False, refusal=LOST)
    if register.epoch < want or (register.epoch, register.owner) == (want, node):
        register = Register(want, node)
        return register, Answer(True, want, node)
    owner = register.owner or "nobody"
    refusal = f"the witness gave the right to serve to {owner} (epoch {register.epoch})"
    return register, Answer(False, register.epoch, register.owner, refusal)


def register_anew(shared_epoch: int) -> Register:
    """What an operator stores while both nodes are PRIM and SECOND in `shared_epoch`: every claim
    of an earlier period is refused from here on, that of the next one is open."""
    return Register(shared_epoch)
