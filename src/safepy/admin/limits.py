"""How long a client waits for the answer of each verb, in seconds.

Apart from the table of verbs (`admin.api`), because a command that only says "do it" needs
nothing else of it, and must start fast.
"""

from __future__ import annotations

#: What only looks, or hands a wish to the automaton.
SHORT_S = 60.0
#: Commands that read and copy files, or wait for scripts, on a machine that may be busy.
LONG_S = 600.0

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


def limit_s(verb: str) -> float:
    return LONG_S if verb in LONG else SHORT_S
