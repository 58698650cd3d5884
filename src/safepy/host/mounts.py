"""Mounts: the private door to a replicated directory, its read-only cover, and their removal.

Every step says what is true afterwards, looks first whether it already is, and works on what a
daemon that crashed left behind: the table of mounts (/proc/self/mountinfo) is the only memory.
Ours are told from others by what they are: a FUSE mount has the type `fuse.safekit`; a cover is
a read-only mount of the very object that it covers; a door stands where doors stand. The calls
are `umount2(2)`, `mount(2)` and the new mount interface (`open_tree`, `mount_setattr`, Linux
5.12), by which a mount is read-only and private before anybody can see it.

Rules: protocol I18, 12, K15; decision 5 of the design page.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from safepy.errors import LocalFault

FUSE_TYPE = "fuse.safekit"
FUSE_SOURCE = "safekit"

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_PRIVATE = 1 << 18
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_INHERITED = {
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
}

# The same numbers on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR = struct.Struct("=QQQQ")  # set, clear, propagation, user namespace

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo. `root` is the path within its file system that is shown at `point`."""

    number: int
    parent: int
    device: str
    root: str
    point: str
    options: frozenset[str]
    optional: tuple[str, ...]
    kind: str
    source: str

    @property
    def read_only(self) -> bool:
        return "ro" in self.options


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The lines of /proc/PID/mountinfo (proc(5)); octal escapes are resolved."""
    mounts = []
    for line in text.splitlines():
        fields = [_plain(field) for field in line.split(b" ")]
        dash = fields.index("-", 6)
        number, parent, device, root, point, options = fields[:6]
        mounts.append(
            Mount(
                number=int(number),
                parent=int(parent),
                device=device,
                root=root,
                point=point,
                options=frozenset(options.split(",")),
                optional=tuple(fields[6:dash]),
                kind=fields[dash + 1],
                source=fields[dash + 2],
            )
        )
    return mounts


def mounts() -> list[Mount]:
    """All mounts of this process's namespace."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mountinfo(file.read())


def stack(directory: str, table: list[Mount] | None = None) -> list[Mount]:
    """The mounts that stand exactly at `directory` (a real path), lowest first."""
    here = [mount for mount in (mounts() if table is None else table) if mount.point == directory]
    numbers = {mount.number for mount in here}
    order = [mount for mount in here if mount.parent not in numbers]
    while len(order) < len(here):
        above = [m for m in here if m not in order and any(m.parent == o.number for o in order)]
        if not above:
            break
        order += above
    return order


def is_ours(mount: Mount, table: list[Mount]) -> bool:
    """Whether `mount` is a FUSE mount or a cover that safepy made."""
    return is_fuse(mount) or is_cover(mount, table)


def is_fuse(mount: Mount) -> bool:
    return mount.kind == FUSE_TYPE


def is_cover(mount: Mount, table: list[Mount]) -> bool:
    """A read-only mount of an object on itself, over one that may be written."""
    below = next((other for other in table if other.number == mount.parent), None)
    return (
        below is not None
        and mount.read_only
        and mount.kind != FUSE_TYPE
        and mount.device == below.device
        and mount.root == _shown(below, mount.point)
    )


def open_door(directory: str, door: str) -> None:
    """`door` is a private, writable view of the real `directory`, in a folder that only root
    can enter. It must be open before `cover`, and it stays when the daemon dies.

    Raises LocalFault if there is no such directory, its file system is read-only, or a live
    mount of ours hides it.
    """
    directory, door = _real(directory), _real(door)
    table = mounts()
    existing = stack(door, table)
    if existing:
        if not _shows(existing[-1], directory, table):
            raise LocalFault(
                f"{door} is a mount of something else than {directory}", f"umount {door}"
            )
    else:
        _prepare_door(door)
        _require_directory(directory, table)
        _attach(directory, door, read_only=False)
    # Attached below a shared mount, it would be shared again.
    _mount(None, door, None, MS_PRIVATE)
    if os.statvfs(door).f_flag & os.ST_RDONLY:
        close_door(door)
        raise LocalFault(f"the file system of {directory} is read-only")


def close_door(door: str) -> None:
    """No mount stands at `door`."""
    door = _real(door)
    while stack(door):
        _unmount(door)


def cover(directory: str) -> None:
    """`directory` is covered by a read-only view of itself: it can be read, and only a mount
    of ours on top can make it writable again.

    The cover is private towards what it covers, so that a mount on top is not repeated
    underneath; other namespaces see both. Raises LocalFault if another file system is mounted
    below the directory: it would be hidden and not replicated.
    """
    directory = _real(directory)
    table = mounts()
    if any(is_ours(mount, table) for mount in stack(directory, table)):
        return
    _require_directory(directory, table)
    inside = [mount.point for mount in table if mount.point.startswith(directory + "/")]
    if inside:
        raise LocalFault(
            f"{inside[0]} is a file system of its own inside the replicated directory {directory}",
            "unmount it, or replicate it as a directory of its own",
        )
    _attach(directory, directory, read_only=True)


def detach_dead(directory: str) -> None:
    """No FUSE mount of ours stands at `directory`; the cover shows.

    For mounts whose worker is gone (they answer ENOTCONN). A worker that still lives loses its
    mount too: its connection is aborted. Only call it when no application can write then.
    """
    directory = _real(directory)
    while (here := stack(directory)) and is_fuse(here[-1]):
        unmount_fuse(directory)


def uncover(directory: str, door: str) -> None:
    """`directory` shows the real one again; no FUSE mount, cover or door of ours is left."""
    directory = _real(directory)
    detach_dead(directory)
    while True:
        table = mounts()
        here = stack(directory, table)
        if not here or not is_ours(here[-1], table):
            break
        _unmount(directory)
    close_door(door)


def mount_fuse(device_fd: int, directory: str, max_read_bytes: int) -> None:
    """A FUSE file system spoken on `device_fd` stands over `directory`.

    It inherits nosuid, nodev and noexec from what it hides, and says noatime: nobody notes when a
    file was read. Raises LocalFault.
    """
    directory = _real(directory)
    flags = _flags(directory, mounts()) & ~MS_NODIRATIME | MS_NOATIME
    mode = os.stat(directory).st_mode
    options = (
        f"fd={device_fd},rootmode={mode:o},user_id=0,group_id=0,"
        f"default_permissions,allow_other,max_read={max_read_bytes}"
    )
    _mount(FUSE_SOURCE, directory, FUSE_TYPE, flags, options)


def unmount_fuse(directory: str) -> None:
    """The topmost FUSE mount at `directory` is aborted (what waits in it fails) and gone from
    there, at once, also when files in it are open."""
    directory = _real(directory)
    here = stack(directory)
    if here and is_fuse(here[-1]):
        _umount2(directory, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW)


def detach_fuse(directory: str) -> None:
    """The topmost FUSE mount at `directory` is gone from there, and lives on unseen until the
    last file in it is closed. Blocks while the kernel writes back: never call it in the thread
    that serves the mount."""
    directory = _real(directory)
    here = stack(directory)
    if here and is_fuse(here[-1]):
        _umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW)


def _attach(source: str, target: str, read_only: bool) -> None:
    """Mount the object at `source` (without what is mounted below it) at `target`."""
    tree = _syscall(
        f"open_tree {source}",
        _SYS_OPEN_TREE,
        _AT_FDCWD,
        os.fsencode(source),
        _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_SYMLINK_NOFOLLOW,
    )
    try:
        attributes = _MOUNT_ATTR.pack(
            _MOUNT_ATTR_RDONLY if read_only else 0,
            0 if read_only else _MOUNT_ATTR_RDONLY,
            MS_PRIVATE,
            0,
        )
        _syscall(
            f"mount_setattr {source}",
            _SYS_MOUNT_SETATTR,
            tree,
            b"",
            _AT_EMPTY_PATH,
            attributes,
            ctypes.c_size_t(len(attributes)),
        )
        _syscall(
            f"move_mount {target}",
            _SYS_MOVE_MOUNT,
            tree,
            b"",
            _AT_FDCWD,
            os.fsencode(target),
            _MOVE_MOUNT_F_EMPTY_PATH,
        )
    finally:
        os.close(tree)


def _prepare_door(door: str) -> None:
    folder = os.path.dirname(door)
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(folder).chmod(0o700)
        Path(door).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalFault(f"{door}: {error.strerror}") from error


def _require_directory(directory: str, table: list[Mount]) -> None:
    here = stack(directory, table)
    if here and is_fuse(here[-1]):
        # Looking into it could wait for its server for ever.
        raise LocalFault(f"{directory} is hidden by an earlier mount", f"umount {directory}")
    try:
        mode = os.lstat(directory).st_mode
    except OSError as error:
        raise LocalFault(f"replicated directory {directory}: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise LocalFault(f"replicated directory {directory} is a link", "name what it points to")
    if not stat.S_ISDIR(mode):
        raise LocalFault(f"{directory} is not a directory")


def _shows(mount: Mount, directory: str, table: list[Mount]) -> bool:
    """Whether `mount` shows the real directory beneath all our mounts on it."""
    foreign = [other for other in stack(directory, table) if not is_ours(other, table)]
    base = foreign[-1] if foreign else _holder(directory, table)
    return mount.device == base.device and mount.root == _shown(base, directory)


def _holder(directory: str, table: list[Mount]) -> Mount:
    """The mount in which the entry `directory` itself lies."""
    path = os.path.dirname(directory)
    while not (here := stack(path, table)):
        path = os.path.dirname(path)
    return here[-1]


def _shown(mount: Mount, path: str) -> str:
    """The path within the file system of what `mount` shows at `path`."""
    return os.path.normpath(f"{mount.root}/{os.path.relpath(path, mount.point)}").replace("//", "/")


def _flags(directory: str, table: list[Mount]) -> int:
    here = stack(directory, table)
    mount = here[-1] if here else _holder(directory, table)
    return sum(flag for option, flag in _INHERITED.items() if option in mount.options)


def _real(path: str) -> str:
    """The path as mountinfo knows it. Its last component is left alone: looking at it could
    block on a mount whose server hangs."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name) if name else folder


def _unmount(point: str) -> None:
    """Remove the topmost mount; lazily where it is busy."""
    try:
        _umount2(point, UMOUNT_NOFOLLOW)
    except LocalFault as fault:
        if not isinstance(fault.__cause__, OSError) or fault.__cause__.errno != errno.EBUSY:
            raise
        _umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW)


def _umount2(point: str, flags: int) -> None:
    if _libc.umount2(os.fsencode(point), flags) < 0:
        _fail(f"umount {point}")


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    raw = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    if _libc.mount(raw[0], raw[1], raw[2], ctypes.c_ulong(flags), raw[3]) < 0:
        _fail(f"mount {target}")


def _syscall(what: str, *arguments: object) -> int:
    result: int = _libc.syscall(*arguments)
    if result < 0:
        _fail(what)
    return result


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    text = os.strerror(number)
    raise LocalFault(f"{what}: {text}") from OSError(number, text)


def _plain(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))
