"""All processes of this host, into a file."""

from __future__ import annotations

import os

from safepy.config.paths import Paths
from safepy.host.processes import line_of, scan
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage
from safepy.storage.private import private_opener

HELP = """
Usage: errdpoll_running

Writes a line for each process into SAFEVAR/errdpoll_reserrd: pid, name of the command, the whole
command with its arguments, and the parent's pid as (parent=PID). The names are those that
<proc name> and nameregex compare, the commands those that argregex does.

Exit code: 0; 1 when the file cannot be written.

Example: safekit -r errdpoll_running; grep oracle /var/safekit/errdpoll_reserrd
"""


def main(arguments: list[str]) -> int:
    if arguments:
        raise WrongUsage("it takes no arguments")
    target = Paths.from_environment(os.environ).safevar / "errdpoll_reserrd"
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    own = os.getpid()
    try:
        # Command lines may hold passwords.
        with open(fresh, "w", encoding="utf-8", opener=private_opener) as file:
            file.writelines(f"{line_of(each)}\n" for each in scan() if each.pid != own)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return 0
