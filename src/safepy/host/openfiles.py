"""Which processes hold files of a directory open behind our back (reference: userconfig 19.4).

What was opened before a directory is covered goes on to the real files: a write through it would
not be replicated. Everything is read from /proc, without touching the files: a look at a file of
a mount whose server hangs could wait for ever. A file is ours if the mount it was opened through
shows the directory, in whatever mount namespace and under whatever name (bind mounts, containers):
that is compared as (device, path within the file system), by the namespace's own mountinfo.
What a program can write under another name (a hard link elsewhere, a name that is gone) is looked
for by inode number, in the whole directory: few programs hold such a file. What the kernel itself
holds (loop devices, swap) is not looked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from safepy.host.mounts import Mount, parse_mountinfo

#: More are not told; nobody reads them, and a reader of /proc has better things to do.
FOUND_MAX = 1_000

_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """`path` is below the directory as it was named. `writes`: changes can go through it. `how` is
    "open", "mapped", "working directory", "root directory" or "running"."""

    pid: int
    program: str
    path: str
    writes: bool
    how: str

    def describe(self) -> str:
        match self.how, self.writes:
            case "working directory", _:
                what = f"works in {self.path}"
            case "root directory", _:
                what = f"has {self.path} as its root directory"
            case "running", _:
                what = f"runs {self.path}"
            case "mapped", _:
                what = f"has {self.path} mapped for writing"
            case _, True:
                what = f"has {self.path} open for writing"
            case _:
                what = f"has {self.path} open"
        return f"{self.program} (pid {self.pid}) {what}"


@dataclass(frozen=True, slots=True)
class _View:
    """Where one directory, or a part of it, can be seen: paths that begin with `prefix`."""

    prefix: str
    shown: str


def find(
    directories: Sequence[tuple[str, str]], ignored_pids: Collection[int] = ()
) -> list[OpenFile]:
    """What other processes hold open below each (directory, its door), those that can write first.

    The door is a private mount that shows the real directory, or the directory itself. Takes
    some tenths of a millisecond a process: call it in a thread. Raises OSError if /proc cannot be
    read.
    """
    own = _table("self")
    places = [(shown, *_place(own, os.path.realpath(door))) for shown, door in directories]
    ignored = {os.getpid(), *ignored_pids}
    pids = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in ignored]
    spaces = _spaces(pids, places, own)
    found: list[OpenFile] = []
    hidden: _Hidden = {}
    for name in pids:
        # It ended meanwhile, or is one that nobody may look into: it holds nothing of ours.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            space = spaces.get(_namespace(name))
            if space is not None and space.sees_device:
                found += _of_process(name, space, hidden)
        if len(found) >= FOUND_MAX:
            break
    found += _under_other_names(directories, hidden)
    return sorted(set(found), key=lambda each: (not each.writes, each.pid, each.path))


#: Who can write a file whose name does not tell where it lies: by (device, inode number).
_Hidden = dict[tuple[int, int], list[OpenFile]]


def _spaces(
    pids: Sequence[str], places: list[tuple[str, str, str]], own: list[Mount]
) -> dict[str, _Space]:
    """The mount namespaces of these processes. A process that has changed its root directory sees
    only the mounts below that: one that has not tells more."""
    whole = {_namespace("self")}
    spaces = dict.fromkeys(whole, _Space(own, places))
    for name in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            namespace = _namespace(name)
            if namespace in whole:
                continue
            root = os.readlink(f"/proc/{name}/root")
            if root == "/":
                whole.add(namespace)
            elif namespace in spaces:
                continue
            table = [
                replace(mount, point=_join(root, mount.point.rstrip("/"))) for mount in _table(name)
            ]
            spaces[namespace] = _Space(table, places)
    return spaces


class _Space:
    """One mount namespace: under which names it shows the directories."""

    def __init__(self, table: list[Mount], places: list[tuple[str, str, str]]) -> None:
        self._devices = {mount.number: mount.device for mount in table}
        self._wanted = {device for _, device, _ in places}
        views = [
            view
            for shown, device, path in places
            for mount in table
            if mount.device == device and (view := _view(mount, path, shown)) is not None
        ]
        #: The longest first: it says the most about where a file lies.
        self._views = sorted(views, key=lambda view: -len(view.prefix))
        self._prefixes = tuple({view.prefix for view in views})

    @property
    def sees_device(self) -> bool:
        return not self._wanted.isdisjoint(self._devices.values())

    def locate(self, path: str) -> str | None:
        """The path below the directory as it was named, if `path` may be there."""
        if not path.startswith(self._prefixes) or path.endswith(_DELETED):
            return None
        for view in self._views:
            rest = path[len(view.prefix) :]
            if path.startswith(view.prefix) and (not rest or rest[0] == "/"):
                return view.shown + rest
        return None

    def is_real(self, mount_number: int) -> bool:
        """Not something else that is mounted over the place."""
        return self._devices.get(mount_number) in self._wanted

    def is_device(self, device: str) -> bool:
        return device in self._wanted


def _of_process(pid: str, space: _Space, hidden: _Hidden) -> Iterator[OpenFile]:
    """What is there by its name; what may be there under another one goes to `hidden`."""
    program = ""
    for path, writes, how, link in (
        *_descriptors(pid, space),
        *_places(pid, space),
        *_mappings(pid, space),
    ):
        program = program or _program(pid)
        place = space.locate(path)
        if place is not None:
            yield OpenFile(int(pid), program, place, writes, how)
        elif writes:
            status = os.stat(link)
            if status.st_nlink > (0 if path.endswith(_DELETED) else 1):
                holders = hidden.setdefault((status.st_dev, status.st_ino), [])
                holders.append(OpenFile(int(pid), program, "", True, how))


#: (path in its namespace, whether it can write, how, a link of /proc that leads to it) of what
#: lies on a file system of ours; what only reads is left out if its name lies elsewhere.
_Holding = tuple[str, bool, str, str]


def _descriptors(pid: str, space: _Space) -> Iterator[_Holding]:
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            link = f"/proc/{pid}/fd/{number}"
            path = _target(link)
            if not path.startswith("/"):
                continue
            flags, mount = _fdinfo(f"/proc/{pid}/fdinfo/{number}")
            if space.is_real(mount):
                writes = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH
                yield path, writes, "open", link


def _places(pid: str, space: _Space) -> Iterator[_Holding]:
    for name, how in (("cwd", "working directory"), ("root", "root directory"), ("exe", "running")):
        link = f"/proc/{pid}/{name}"
        path = _target(link)
        if space.locate(path) is None:
            continue
        # Such a descriptor asks nothing of the file system.
        descriptor = os.open(link, os.O_PATH | os.O_CLOEXEC)
        try:
            _, mount = _fdinfo(f"/proc/self/fdinfo/{descriptor}")
        finally:
            os.close(descriptor)
        if space.is_real(mount):
            yield path, False, how, link


def _mappings(pid: str, space: _Space) -> Iterator[_Holding]:
    """Shared writable mappings: they outlive the descriptor."""
    with open(f"/proc/{pid}/maps", "rb") as file:
        text = file.read()
    if b"-s " not in text and b"xs " not in text:
        return
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or fields[1][1:2] != b"w" or fields[1][3:4] != b"s":
            continue
        major, _, minor = fields[3].decode("ascii").partition(":")
        if space.is_device(f"{int(major, 16)}:{int(minor, 16)}"):
            link = f"/proc/{pid}/map_files/{fields[0].decode('ascii')}"
            yield os.fsdecode(fields[5]), True, "mapped", link


def _under_other_names(
    directories: Sequence[tuple[str, str]], hidden: _Hidden
) -> Iterator[OpenFile]:
    """Those of `hidden` that have a name in one of the directories after all."""
    for shown, door in directories if hidden else ():
        device = os.stat(door).st_dev
        numbers = {number for holder, number in hidden if holder == device}
        pending = [door] if numbers else []
        while numbers and pending:
            folder = pending.pop()
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.inode() in numbers:
                        numbers.discard(entry.inode())
                        path = shown + entry.path[len(door) :]
                        for holder in hidden[device, entry.inode()]:
                            yield replace(holder, path=path)


def _target(link: str) -> str:
    """What a link of /proc leads to; "" if that name is longer than the kernel can tell."""
    try:
        return os.readlink(link)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return ""


def _fdinfo(path: str) -> tuple[int, int]:
    """(open flags, number of the mount) of a descriptor (proc(5))."""
    with open(path, "rb") as file:
        fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    return int(fields[b"flags"], 8), int(fields[b"mnt_id"])


def _program(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().rstrip("\n")
    return "".join(sign if sign.isprintable() else "?" for sign in name) or "?"


def _namespace(pid: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/mnt")


def _table(pid: str) -> list[Mount]:
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return parse_mountinfo(file.read())


def _place(table: list[Mount], path: str) -> tuple[str, str]:
    """(device, path within the file system) of what is seen at `path`."""
    holders = [mount for mount in table if _below(path, mount.point) is not None]
    # The deepest one; of several at the same place the last one, which hides the others.
    holder = max(enumerate(holders), key=lambda each: (len(each[1].point), each[0]))[1]
    return holder.device, _join(holder.root, _below(path, holder.point) or "")


def _view(mount: Mount, place: str, shown: str) -> _View | None:
    """How `mount` shows the directory at `place` of its file system, or a part of it."""
    inside = _below(mount.root, place)
    if inside is not None:
        return _View(mount.point.rstrip("/"), shown + inside)
    inside = _below(place, mount.root)
    return None if inside is None else _View(_join(mount.point, inside), shown)


def _below(path: str, folder: str) -> str | None:
    """What follows `folder` in `path` ("" or "/..."); None if it is not there or below."""
    folder = folder.rstrip("/")
    if path == folder or path.startswith(folder + "/"):
        return path[len(folder) :].rstrip("/")
    return None


def _join(folder: str, rest: str) -> str:
    return folder.rstrip("/") + rest or "/"
