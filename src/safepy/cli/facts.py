"""Operating system, disks, network and system logs of this node, for support files.

Each program has a limit of its own: `df` hangs where a disk does. None of them shows arguments of
processes, which may be secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from safepy.cli.bounded import output_of
from safepy.host.scripts import DEFAULT_PATH

_LIMIT_S = 8.0
_OUTPUT_BYTES_MAX = 256 << 10
_EVENTS_BYTES_MAX = 2 << 20
_ENVIRONMENT = {"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8", "COLUMNS": "200", "PAGER": "cat"}
_UNIT = "ActiveState,SubState,MainPID,NRestarts,ExecMainStartTimestamp,Result"

_FILES = (
    "/etc/os-release", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/pressure/cpu",
    "/proc/pressure/io", "/proc/pressure/memory",
)  # fmt: skip
_PROGRAMS = (
    "uname -a",
    f"systemctl show safeadmin --property={_UNIT}",
    "timedatectl show",
    "ps -eo pid,ppid,user,stat,wchan:24,etime,rss,comm",
    "findmnt --list --noheadings",
    "lsblk --fs",
    "df --human-readable --print-type",
    "df --inodes",
    "ip address",
    "ip -s link",
    "ip route",
    "ip -6 route",
    "ip neighbour",
    "ss --tcp --udp --numeric --all",
)
_EVENTS = {
    "last.txt": ("last -x -n 200", "journalctl --list-boots --no-pager -n 50"),
    "systemevt.txt": (
        "journalctl --no-pager -o short-iso-precise -n 5000 -t safekit -u safeadmin",
        "journalctl --no-pager -o short-iso-precise -n 1000 -k -p warning",
    ),
}


def facts(left_s: Callable[[], float]) -> Iterator[str]:
    """A block of text for each; `left_s`: seconds until it has to be over."""
    for path in _FILES:
        try:
            yield f"== {path}\n{Path(path).read_text(errors='replace').rstrip()}"
        except OSError as error:
            yield f"== {path}\n{error.strerror}"
    for program in _PROGRAMS:
        yield _block(program, left_s(), _OUTPUT_BYTES_MAX)


def system_events(name: str, left_s: float) -> str:
    """`last.txt` or `systemevt.txt`."""
    programs = _EVENTS[name]
    blocks = (_block(each, left_s / len(programs), _EVENTS_BYTES_MAX) for each in programs)
    return "\n\n".join(blocks) + "\n"


def _block(program: str, left_s: float, bytes_max: int) -> str:
    if left_s <= 0:
        return f"== {program}\nleft out: no time was left"
    try:
        done = output_of(program.split(), _ENVIRONMENT, min(_LIMIT_S, left_s), bytes_max)
    except OSError as error:
        return f"== {program}\nit cannot be run: {error.strerror}"
    text = f"== {program}\n{done.data.decode('utf-8', 'replace').rstrip()}"
    return text if done.exit_code is not None else f"{text}\n(ended: too long, or too much output)"
