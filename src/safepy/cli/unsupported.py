"""Commands of SafeKit that this version has not: refused by name and with the reason, so that
nobody is surprised and no script takes silence for success."""

from __future__ import annotations

from typing import NoReturn

import click

from safepy.errors import RequestRefused

BETWEEN_NODES = "between nodes: follows"
_SNMP = "there is no SNMP agent"
_WEB = "the web service follows; only the health probe is there, and it is always on"

#: Command, option or form of a command -> why it is refused.
REASONS: dict[str, str] = {
    "notification": "the e-mail agent follows",
    "safeagent": _SNMP,
    "uninstall": "remove the product with scripts/install --uninstall",
    "webserver": _WEB,
    "webservercfg": _WEB,
}
OPTIONS: dict[str, str] = {"-H": BETWEEN_NODES, "-E": BETWEEN_NODES, "-G": BETWEEN_NODES}
FORMS: dict[str, str] = {
    "boot webon": _WEB,
    "boot weboff": _WEB,
    "boot webstatus": _WEB,
    "boot snmpon": _SNMP,
    "boot snmpoff": _SNMP,
    "boot snmpstatus": _SNMP,
    "module genkey": "the keys of modules come from the cluster key: safekit cluster genkey",
    "module delkey": "the keys of modules come from the cluster key",
    "cluster delkey": "a cluster without a key cannot work; replace it with cluster genkey --force",
    "cluster create": f"write a cluster.xml ({BETWEEN_NODES})",
    "cluster config lock": BETWEEN_NODES,
    "cluster config unlock": BETWEEN_NODES,
    "cluster config FILE.zip": f"configuration and keys in one file: {BETWEEN_NODES}",
}


def not_yet(what: str, reason: str = "") -> NoReturn:
    """A command of SafeKit that this version has not: refused by name, never ignored."""
    why = f": {reason}" if reason else ""
    raise RequestRefused(
        f"{what} is not supported yet{why}", "safekit --help lists what is, docs/operations.md 12"
    )


def refused(name: str) -> click.Command:
    """A command that takes anything and refuses; `name` may be that of a form ("boot webon")."""
    reason = REASONS.get(name) or FORMS[name]

    @click.command(
        name.split()[-1],
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def run() -> None:
        not_yet(f"safekit {name}", reason)

    return run
