"""Is this node fit? What support asks first."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator

from safepy import __version__
from safepy.admin.client import Client
from safepy.config.paths import Paths
from safepy.errors import SafekitError
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage
from safepy.storage.private import private_opener

HELP = """
Usage: healthcheck.sh

Looks at the kernel, /dev/fuse, the daemon, the cluster's configuration and key, the room for logs,
the clock, and the modules. Prints what it finds, and writes it into SAFEVAR/healthcheck.txt: a line
[TEST] for each test, and below it lines [OK], [WARN] and [ERROR].

Exit code: 0; 1 when there is an [ERROR].

Example: safekit -r healthcheck.sh
"""
OK, WARN, ERROR = "OK", "WARN", "ERROR"
#: The kernel whose FUSE does all that is needed (docs/operations.md).
KERNEL_MIN = (6, 1)
LITTLE_BYTES, VERY_LITTLE_BYTES = 1 << 30, 100 << 20
_LIMIT_S = 5.0

Results = Iterator[tuple[str, str]]


def main(arguments: list[str]) -> int:
    if arguments:
        raise WrongUsage("it takes no arguments")
    paths = Paths.from_environment(os.environ)
    lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S')} {platform.node()} safepy {__version__}"]
    bad = False
    for title, test in TESTS.items():
        lines.append(f"[TEST] {title}")
        for mark, text in test(paths):
            lines.append(f"[{mark}] {text}")
            bad = bad or mark == ERROR
    report = "".join(f"{line}\n" for line in lines)
    print(report, end="")
    target = paths.safevar / "healthcheck.txt"
    with open(target, "w", encoding="utf-8", opener=private_opener) as file:
        file.write(report)
    return 1 if bad else 0


def _kernel(_paths: Paths) -> Results:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal())
    wanted = ".".join(map(str, KERNEL_MIN))
    yield (OK if numbers >= KERNEL_MIN else WARN), f"Linux {release}, wanted is {wanted} or later"


def _fuse(_paths: Paths) -> Results:
    try:
        good = stat.S_ISCHR(os.stat("/dev/fuse").st_mode)
    except OSError:
        good = False
    if good:
        yield OK, "/dev/fuse is there"
    else:
        yield ERROR, "there is no /dev/fuse: no directory can be replicated (modprobe fuse)"


def _daemon(paths: Paths) -> Results:
    try:
        Client(str(paths.control_socket), wait_s=1.0, answer_s=_LIMIT_S).call("modules")
        yield OK, "safeadmin answers"
    except (SafekitError, OSError) as error:
        yield ERROR, str(error)


def _cluster(paths: Paths) -> Results:
    from safepy.config.cluster import parse

    try:
        cluster = parse(paths.cluster_xml.read_bytes(), str(paths.cluster_xml))
        yield OK, f"cluster of {', '.join(cluster.node_names)}"
    except FileNotFoundError:
        yield WARN, "no cluster is configured (safekit cluster config)"
    except (SafekitError, OSError) as error:
        yield ERROR, str(error)
    try:
        status = paths.cluster_key.stat()
    except FileNotFoundError:
        yield WARN, "there is no cluster key (safekit cluster genkey)"
    else:
        private = not status.st_mode & 0o077 and status.st_uid == 0
        text = f"{paths.cluster_key} belongs to root alone"
        yield (OK, text) if private else (ERROR, f"{text}: it does not (chown root, chmod 600)")


def _room(paths: Paths) -> Results:
    free = shutil.disk_usage(paths.safevar).free
    mark = OK if free >= LITTLE_BYTES else WARN if free >= VERY_LITTLE_BYTES else ERROR
    yield mark, f"{free >> 20} MiB are free in {paths.safevar}"


def _clock(_paths: Paths) -> Results:
    """Decides nothing, but the logs of two nodes are read side by side."""
    words = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode != 0:
        yield WARN, "whether the clock is synchronised cannot be found out (timedatectl)"
    elif done.stdout.strip() == "yes":
        yield OK, "the clock is synchronised"
    else:
        yield WARN, "the clock is not synchronised: the logs of the nodes tell different times"


def _modules(paths: Paths) -> Results:
    try:
        rows = Client(str(paths.control_socket), wait_s=0.0, answer_s=_LIMIT_S).call("modules")
    except (SafekitError, OSError):
        yield WARN, "unknown without safeadmin"
        return
    for row in rows:
        if not row.configured:
            yield WARN, f"{row.module} is not configured (safekit config -m {row.module})"
        else:
            waits = row.state == "WAIT" and row.status == "NotReady"
            yield (WARN if waits else OK), f"{row.module} is {row.state} {row.status}"
    if not rows:
        yield OK, "no module is installed"


TESTS: dict[str, Callable[[Paths], Results]] = {
    "kernel": _kernel,
    "FUSE": _fuse,
    "daemon": _daemon,
    "cluster": _cluster,
    "room": _room,
    "clock": _clock,
    "modules": _modules,
}
