"""What a dump holds (reference 16): logs, resources, states and the facts of this node, as texts.

Read from files wherever there is one, so that a dump can be made while the daemon is absent or
hangs; what could not be had is named in it. Bounded in bytes and time, and without secrets
(`cli.masking`): whatever gets in, gets in through `Dump.add`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from safepy import __version__
from safepy.admin.client import Client
from safepy.cli.facts import facts, system_events
from safepy.cli.masking import masked, named_secrets
from safepy.cli.output import iso
from safepy.cli.snapshots import snapshot_lines, snapshot_object
from safepy.config.paths import ModulePaths, Paths
from safepy.errors import DaemonAbsent, SafekitError
from safepy.model import Snapshot
from safepy.storage import modulelog, resources
from safepy.storage.record import RecordFile

#: All files of a dump together, and one of them.
DUMP_BYTES_MAX = 16 << 20
FILE_BYTES_MAX = 3 << 20
#: Then what is missing is left out.
DUMP_LIMIT_S = 60.0
_LINES_MAX = 20_000
_USERLOGS_MAX = 100
_USERLOG_BYTES_MAX = 256 << 10
_LISTED_MAX = 2_000
_ANSWER_S = 5.0
_HEALTH_LIMIT_S = 20.0


class Dump:
    """The texts by their names, and what is not in it with the reason."""

    def __init__(self, secrets: Iterable[str], now_s: Callable[[], float] = time.monotonic) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)  # one may be part of another
        self._now_s = now_s
        self._ends_s = now_s() + DUMP_LIMIT_S
        self.files: dict[str, bytes] = {}
        self.missing: list[tuple[str, str]] = []

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))

    @property
    def left_s(self) -> float:
        return self._ends_s - self._now_s()

    def add(self, name: str, text: str) -> None:
        """The newest of `text`, without secrets."""
        data = masked(_newest(text, FILE_BYTES_MAX), self._secrets).encode("utf-8", "replace")
        if self.size_bytes + len(data) > DUMP_BYTES_MAX:
            self.lacks(name, f"the dump would be larger than {DUMP_BYTES_MAX >> 20} MiB")
        else:
            self.files[name] = data

    def lacks(self, name: str, reason: str) -> None:
        self.missing.append((name, " ".join(masked(reason, self._secrets).split())))

    def part(self, name: str, make: Callable[[], str | None]) -> None:
        """Add what `make` finds (None: nothing to add); what goes wrong is said."""
        if self.left_s <= 0:
            self.lacks(name, f"the time of {DUMP_LIMIT_S:g} seconds was over")
            return
        try:
            text = make()
        except (OSError, SafekitError, sqlite3.Error) as error:
            self.lacks(name, said(error))
        else:
            if text is not None:
                self.add(name, text)


class _Daemon:
    """Is asked as long as it answers: one that hangs costs its limit once."""

    def __init__(self, paths: Paths) -> None:
        self._client = Client(str(paths.control_socket), wait_s=1.0, answer_s=_ANSWER_S)
        self._failure: DaemonAbsent | None = None

    def ask(self, verb: str, module: str = "") -> Any:
        if self._failure is not None:
            raise self._failure
        try:
            return self._client.call(verb, module)
        except DaemonAbsent as failure:
            self._failure = failure
            raise


def collect(paths: Paths, module: ModulePaths) -> Dump:
    """Everything, what matters most first."""
    dump = Dump(secrets_of(paths, module))
    daemon = _Daemon(paths)
    _logs(dump, paths, module)
    _extracts(dump, paths, module)
    _userlogs(dump, module)
    _tables(dump, daemon, paths, module)
    _states(dump, daemon, module.name)
    dump.part("systemevt.txt", lambda: system_events("systemevt.txt", dump.left_s))
    dump.part("last.txt", lambda: system_events("last.txt", dump.left_s))
    dump.part("healthcheck.txt", lambda: _health(dump, paths))
    lines = [f"{name}: {reason}" for name, reason in dump.missing]
    dump.add("missing.txt", "".join(f"{line}\n" for line in lines) or "nothing\n")
    return dump


def secrets_of(paths: Paths, module: ModulePaths) -> set[str]:
    """What must not be in any file, in whatever form it stands there."""
    found = set()
    for path in (module.safeconf, module.userconfig, module.source_userconfig):
        try:
            found |= named_secrets(read_text(path))
        except OSError:
            continue  # nothing is there that could be secret
    with contextlib.suppress(OSError):
        found.add(read_text(paths.cluster_key).strip())
    return {each for each in found if each}


def _states(dump: Dump, daemon: _Daemon, module: str) -> None:
    """`heartplug`: the modules with their states, then operating system, disks and network."""
    said: list[str] = [f"safepy {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}"]
    try:
        found: list[Snapshot] = daemon.ask("state")
    except (SafekitError, OSError) as error:
        said.append(f"the states of the modules are not known: {error}")
        dump.lacks("state.json", str(error))
    else:
        for one in found:
            said.append("\n".join(snapshot_lines(one, one.module == module, time.time())))
        objects = [snapshot_object(one) for one in found]
        dump.part("state.json", lambda: json.dumps(objects, indent=2, ensure_ascii=False) + "\n")
    dump.part("heartplug", lambda: "\n\n".join([*said, *facts(lambda: dump.left_s)]) + "\n")


def _logs(dump: Dump, paths: Paths, module: ModulePaths) -> None:
    log, commands = str(module.log_db), str(paths.log_db)
    normal, everything = modulelog.NORMAL, modulelog.ALL
    dump.part("log.txt", lambda: _lines(modulelog.read(log, _LINES_MAX, normal)))
    dump.part("commandlog.txt", lambda: _lines(modulelog.read_commands(commands, _LINES_MAX)))
    dump.part("logverbose.txt", lambda: _lines(modulelog.read(log, _LINES_MAX, everything)))


def _extracts(dump: Dump, paths: Paths, module: ModulePaths) -> None:
    """`var` and `conf`: what says how this node is set up, never keys nor data."""
    dump.part("var/cluster/cluster.xml", lambda: _if_there(paths.cluster_xml))
    dump.part("conf/safeadmin.yaml", lambda: _if_there(paths.settings))
    dump.part("conf/userconfig.xml", lambda: _if_there(module.userconfig))
    here = f"var/modules/{module.name}"
    dump.part(f"{here}/errdlist", lambda: _if_there(module.errdlist))
    dump.part(f"{here}/record.json", lambda: _record(module))
    dump.part(f"{here}/listing.txt", lambda: _listing(module.var))


def _record(module: ModulePaths) -> str:
    record = RecordFile(str(module.record)).load()
    return msgspec.json.format(msgspec.json.encode(record)).decode() + "\n"


def _listing(folder: Path) -> str:
    """Sizes, dates and names in the module's folder, but for data: behind the doors, and kept."""
    rows = list[str]()
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {"doors", "kept"}) if len(rows) < _LISTED_MAX else []
        for name in sorted(files):
            try:
                status = os.lstat(os.path.join(top, name))
            except FileNotFoundError:
                continue  # gone meanwhile
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.st_mtime))
            path = os.path.relpath(os.path.join(top, name), folder)
            rows.append(f"{stat.filemode(status.st_mode)} {status.st_size:>12} {moment} {path!r}")
    shown = rows[:_LISTED_MAX]
    return "\n".join([*shown, *(["and more"] if len(rows) > len(shown) else [])]) + "\n"


def _userlogs(dump: Dump, module: ModulePaths) -> None:
    """What the scripts printed: the newest files, of each its end."""
    found = sorted(module.var.glob("*.ulog"), key=_modified, reverse=True)
    for path in found[:_USERLOGS_MAX]:
        name = path.name.encode("utf-8", "backslashreplace").decode()
        dump.part(f"userlog/{name}", partial(read_text, path, _USERLOG_BYTES_MAX))
    if len(found) > _USERLOGS_MAX:
        dump.lacks("userlog", f"{len(found) - _USERLOGS_MAX} older files")


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0  # gone meanwhile: reading it will say so


def _tables(dump: Dump, daemon: _Daemon, paths: Paths, module: ModulePaths) -> None:
    log, known = str(module.log_db), str(module.resource_db)
    everything, commands = modulelog.ALL, str(paths.log_db)
    dump.part("csv/logverbose.csv", lambda: _csv(modulelog.read(log, _LINES_MAX, everything), LINE))
    dump.part("csv/resource.csv", lambda: _csv(resources.read(known), RESOURCE))
    dump.part(
        "csv/resourcelog.csv",
        lambda: _csv(resources.history(known, "", _LINES_MAX)[::-1], RESOURCE),
    )
    dump.part(
        "csv/commandlog.csv", lambda: _csv(modulelog.read_commands(commands, _LINES_MAX), COMMAND)
    )
    dump.part("csv/modules.csv", lambda: _csv(daemon.ask("modules"), MODULE))
    dump.part("csv/clusterstate.csv", lambda: _csv(daemon.ask("cluster.state"), NODE_MODULE))


LINE = ("time_s", "origin", "level", "text")
COMMAND = ("time_s", "origin", "module", "pid", "mark", "text")
RESOURCE = ("name", "value", "who", "time_s")
MODULE = ("module", "id", "mode", "configured", "digest", "config_date", "boot", "state", "status")
NODE_MODULE = ("node", "module", "mode", "id", "date", "signature")


def _csv(rows: Sequence[Any], columns: Sequence[str]) -> str:
    """The newest rows (the last ones) that a file of a dump has room for, below a heading."""
    taken: list[str] = []
    left = FILE_BYTES_MAX - 1_000
    for row in reversed(rows):
        line = io.StringIO()
        csv.writer(line).writerow([_cell(column, getattr(row, column)) for column in columns])
        left -= len(line.getvalue().encode("utf-8", "replace"))
        if left < 0:
            break
        taken.append(line.getvalue())
    return ",".join(columns).replace("time_s", "date") + "\r\n" + "".join(reversed(taken))


def _cell(column: str, value: Any) -> str:
    text = str(iso(value) or "") if column in ("time_s", "date", "config_date") else str(value)
    # A spreadsheet takes what begins so for a formula.
    return f"'{text}" if text[:1] in tuple("=+@-") and not text.lstrip("-").isdigit() else text


def _health(dump: Dump, paths: Paths) -> str:
    from safepy.cli.bounded import output_of

    program = os.fspath(paths.safebin / "healthcheck.sh")
    limit_s = min(_HEALTH_LIMIT_S, dump.left_s)
    variables = {**os.environ, "SAFE": os.fspath(paths.safe), "SAFEVAR": os.fspath(paths.safevar)}
    done = output_of([program], variables, limit_s, 256 << 10)
    text = done.data.decode("utf-8", "replace")
    if done.exit_code is None:
        dump.lacks("the end of healthcheck.txt", f"it took longer than {limit_s:.0f} seconds")
    return text


def said(error: Exception) -> str:
    """What went wrong, in the words of the system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _lines(lines: Sequence[object]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _if_there(path: Path) -> str | None:
    try:
        return read_text(path)
    except FileNotFoundError:
        return None


def read_text(path: Path, bytes_max: int = FILE_BYTES_MAX) -> str:
    """The end of a file that is a text, from the start of a line on. Raises OSError for what is no
    file or no text; links are not followed."""
    data = read_end(path, bytes_max)
    if b"\0" in data:
        raise OSError("it is no text")
    return data.decode("utf-8", "backslashreplace")


def read_end(path: Path, bytes_max: int) -> bytes:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no file")
        cut = max(0, status.st_size - bytes_max)
        file.seek(cut)
        data = file.read(bytes_max)
    return data.partition(b"\n")[2] if cut else data


def _newest(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    return "(the beginning is left out)\n" + text[-characters_max:].partition("\n")[2]
