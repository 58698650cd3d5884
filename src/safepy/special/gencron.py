"""Entries of a crontab: commented out while the application does not run here, and restored."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from safepy.config.paths import Paths
from safepy.errors import LocalFault
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage

HELP = """
Usage: gencron del|add USER all|COMMAND [-c "COMMENT"]

del (in a stop script): comments out the entries of USER's crontab whose command contains COMMAND,
or all. add (in a start script): restores what del commented out with the same COMMENT. Comments,
variables and other entries stay as they are; doing it twice changes nothing.

Exit code: 0, also when USER has no crontab; 1 when it cannot be read or written; 2 for wrong usage.

Example: gencron del oracle /opt/app/nightly.sh -c "app on the other node"
"""
DEFAULT_COMMENT = "safekit"
LIMIT_S = 30.0
_VARIABLE = re.compile(r"\s*[A-Za-z_\"'][^\s=]*\s*=")
#: Five fields, or one word with @, then the command.
_ENTRY = re.compile(r"\s*(?:@[A-Za-z]+|[^\s#@]\S*(?:\s+\S+){4})\s+(\S.*)")


@contextmanager
def _alone() -> Iterator[None]:
    """Scripts of two modules, and one crontab: the directory itself is what is locked."""
    safevar = Paths.from_environment(os.environ).safevar
    descriptor = os.open(safevar, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    words, comment = _comment(arguments)
    if len(words) != 3 or words[0] not in ("add", "del") or not all(words):
        raise WrongUsage("add or del, a user, and a command or all are needed")
    verb, user, command = words
    if user.startswith("-"):
        raise WrongUsage(f"{user!r} is no user")
    with _alone():
        before = _read(user)
        if before is None:
            print(f"gencron: {user} has no crontab")
            return 0
        change = disabled if verb == "del" else restored
        after = change(before, "" if command == "all" else command, comment)
        if after != before:
            _crontab(user, "-", text=after)
    return 0


def _comment(arguments: list[str]) -> tuple[list[str], str]:
    if "-c" not in arguments:
        return arguments, DEFAULT_COMMENT
    at = arguments.index("-c")
    found = arguments[at + 1 : at + 2]
    if not found or not found[0] or not found[0].isprintable():
        raise WrongUsage("-c needs a comment on one line")
    return arguments[:at] + arguments[at + 2 :], found[0]


def disabled(crontab: str, command: str, comment: str) -> str:
    """The entries whose command contains `command` are comments."""
    lines = crontab.splitlines(keepends=True)
    return "".join(f"{_mark(comment)}{each}" if _is(each, command) else each for each in lines)


def restored(crontab: str, command: str, comment: str) -> str:
    """What `disabled` made of them is an entry again."""
    mark = _mark(comment)
    lines = crontab.splitlines(keepends=True)
    return "".join(
        each.removeprefix(mark)
        if each.startswith(mark) and _is(each.removeprefix(mark), command)
        else each
        for each in lines
    )


def _mark(comment: str) -> str:
    return f"#{comment}#"


def _is(line: str, command: str) -> bool:
    found = _ENTRY.match(line)
    return found is not None and not _VARIABLE.match(line) and command in found[1]


def _read(user: str) -> str | None:
    """None: there is none."""
    try:
        return _crontab(user, "-l")
    except LocalFault as error:
        if "no crontab for" in error.message:
            return None
        raise


def _crontab(user: str, what: str, text: str | None = None) -> str:
    """The program of that name: it knows where crontabs are, and tells the daemon."""
    try:
        done = subprocess.run(
            ["crontab", "-u", user, what],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise LocalFault("there is no command crontab", "install cron") from None
    except subprocess.TimeoutExpired:
        raise LocalFault(f"crontab does not answer within {LIMIT_S:g} s") from None
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise LocalFault(f"crontab of {user}: {complaint}")
    return done.stdout
