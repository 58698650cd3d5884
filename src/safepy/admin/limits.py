"""How long a client waits for the answer of each verb, in seconds.

Apart from the table of verbs (`admin.api`), because a command that only says "do it" needs
nothing else of it, and must start fast.
"""

from __future__ import annotations

#: What is answered from memory, however busy the machine is.
LOOK_S = 15.0
#: What hands a wish to the automaton, or waits for something by itself.
SHORT_S = 60.0
#: Commands that read and copy files, or wait for scripts, on a machine that may be busy.
LONG_S = 600.0

LOOKS = frozenset(
    {
        "state",
        "modules",
        "resource.get",
        "resource.set",
        "print",
        "cost",
        "why",
        "plan",
        "errd.list",
        "ports",
        "confinfo",
        "boot.status",
        "cluster.confinfo",
        "cluster.state",
    }
)
LONG = frozenset(
    {
        "forcestop",
        "shutdown",
        "estimate",
        "module.install",
        "module.uninstall",
        "module.package",
        "config",
        "deconfig",
        "clean",
    }
)

#: Is answered when something changes, at the latest after the 20 s that a client asks for.
NEXT_STATE_S = 20.0 + LOOK_S


def looks(verb: str) -> bool:
    """Whether it changes nothing, so that nothing can still be under way."""
    return verb == "state.next" or verb in LOOKS - {"resource.set", "print"}


def limit_s(verb: str) -> float:
    if verb == "state.next":
        return NEXT_STATE_S
    if verb in LOOKS:
        return LOOK_S
    return LONG_S if verb in LONG else SHORT_S
