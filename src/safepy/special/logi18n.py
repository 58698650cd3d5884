"""A line for the module log, by the number of a message."""

from __future__ import annotations

import os
import sys

from safepy.admin.client import Client
from safepy.config.paths import Paths
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage

HELP = """
Usage: logI18nMSG ORIGIN LEVEL MSGID [ARGUMENTS]

Writes MSGID and its arguments into the log of the module SAFEMODULE. SafeKit's texts in several
languages are not there. LEVEL: E or C for the normal log, any other one for the verbose log.

Exit code: 0; 1 when safeadmin does not answer; 2 for wrong usage.

Example: logI18nMSG start_prim E MY_MESSAGE "the disk is full"
"""
_LEVELS = {"E": "E", "C": "E", "W": "W"}


def main(arguments: list[str]) -> int:
    module = os.environ.get("SAFEMODULE", "")
    if len(arguments) < 3 or not module:
        raise WrongUsage("an origin, a level, a message, and SAFEMODULE are needed")
    origin, level, *words = arguments
    client = Client(str(Paths.from_environment(os.environ).control_socket), sys.argv)
    text = " ".join(words)
    client.call("print", module, level=_LEVELS.get(level, "I"), text=text, origin=origin)
    return 0
