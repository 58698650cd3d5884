"""Names and attributes in a tree, always relative to a descriptor and never through a link (S8).

A directory is opened once from the root (openat2, beneath, no links); what is in it is named by
single components only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from safepy.dataplane.resync.messages import IDENT_BYTES, Entry, Rule, Xattrs, xattr_allowed
from safepy.storage.idents import IDENT_XATTR
from safepy.storage.syscalls import openat2

Path = tuple[bytes, ...]
#: (ident, extended attributes)
Extra = tuple[bytes, tuple[tuple[bytes, bytes], ...]]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Kept well below PATH_MAX; deeper directories are opened in several steps.
_STEP_BYTES = 3500
_MIN_TIME_NS, _MAX_TIME_NS = -(1 << 63), (1 << 64) - 1
_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.ENOENT, errno.ELOOP, errno.EPERM)
#: "It is not there": vanished, or became something else.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENXIO, errno.EXDEV)


#: What a name may answer that became something else since it was looked at.
GONE_OR_OTHER = (*GONE, errno.EINVAL, errno.ENODEV, errno.EISDIR)


def split(path: bytes) -> Path:
    """Components of a path as marks hold it."""
    return tuple(path.split(b"/")) if path else ()


def shown(path: Path) -> str:
    """A path for a person: on one line, whatever its bytes are."""
    text = os.fsdecode(b"/".join(path)) or "."
    return text.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()


def open_directory(root_fd: int, path: Path) -> int:
    """A descriptor of the directory. Raises OSError with an errno of GONE when there is none."""
    if not path:
        return os.open(b".", _DIRECTORY, dir_fd=root_fd)
    joined = b"/".join(path)
    if len(joined) <= _STEP_BYTES:
        return openat2(root_fd, joined, _DIRECTORY)
    fd = os.dup(root_fd)
    step: list[bytes] = []
    size = 0
    for name in (*path, b""):
        if step and (not name or size + len(name) + 1 > _STEP_BYTES):
            try:
                deeper = openat2(fd, b"/".join(step), _DIRECTORY)
            finally:
                os.close(fd)
            fd, step, size = deeper, [], 0
        step.append(name)
        size += len(name) + 1
    return fd


def open_or_none(root_fd: int, path: Path) -> int | None:
    """`open_directory`, but None when there is no such directory."""
    try:
        return open_directory(root_fd, path)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def names_in(dir_fd: int) -> list[bytes]:
    return os.listdir(b"/proc/self/fd/%d" % dir_fd)


def status(dir_fd: int, name: bytes) -> os.stat_result | None:
    """lstat, or None when there is no such name."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_file(dir_fd: int, name: bytes, flags: int = os.O_RDONLY) -> int:
    """Open a regular file that exists; what became something else raises ENOENT.

    Looked at before it is opened: opening a device node has effects of its own (S9)."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not S_ISREG(os.fstat(place).st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file any more")
        flags |= os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{place}", flags | os.O_NOATIME)
        except PermissionError:
            return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def open_seen(dir_fd: int, name: bytes, seen: os.stat_result) -> int:
    """Open to read what was a regular file a moment ago, in a tree of which only this node's own
    applications change anything. Another one by now raises ENOENT."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        fd = os.open(name, flags, dir_fd=dir_fd)
    if os.fstat(fd).st_ino != seen.st_ino:
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "another file by now")
    return fd


def open_file_or_none(dir_fd: int, name: bytes) -> int | None:
    """`open_file` to read, but None when there is no such file any more."""
    try:
        return open_file(dir_fd, name)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def read_xattrs(
    dir_fd: int, name: bytes, mode: int, acl: bool
) -> tuple[bytes, Xattrs]:  # sorted by name
    """The ident (empty: none) and the replicated extended attributes of what stands at `name`.
    What vanished meanwhile has none."""
    return _read_xattrs(b"/proc/self/fd/%d/%s" % (dir_fd, name), mode, acl)


def _read_xattrs(place: bytes | int, mode: int, acl: bool) -> tuple[bytes, Xattrs]:
    follow = isinstance(place, int)
    try:
        listed = os.listxattr(place, follow_symlinks=follow)
        if not listed:
            return b"", ()
        ident = b""
        found = []
        for attribute in sorted(map(os.fsencode, listed)):
            if attribute == IDENT_XATTR:
                if S_ISREG(mode) or S_ISDIR(mode):
                    ident = os.getxattr(place, attribute, follow_symlinks=follow)
            elif xattr_allowed(attribute, acl):
                value = os.getxattr(place, attribute, follow_symlinks=follow)
                found.append((attribute, value))
        return ident if len(ident) == IDENT_BYTES else b"", tuple(found)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return b"", ()


def clamped(time_ns: int) -> int:
    """A time as it fits in a message."""
    return min(max(time_ns, _MIN_TIME_NS), _MAX_TIME_NS)


def ident_of(dir_fd: int, name: bytes) -> bytes:
    """The ident of a file or directory, empty if it has none."""
    return ident_at(b"/proc/self/fd/%d/%s" % (dir_fd, name))


def ident_at(place: bytes | int) -> bytes:
    try:
        ident = os.getxattr(place, IDENT_XATTR, follow_symlinks=isinstance(place, int))
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return b""
    return ident if len(ident) == IDENT_BYTES else b""


def set_ident(place: bytes | int, ident: bytes) -> None:
    """Give it this ident, or take away the one it has."""
    follow = isinstance(place, int)
    if ident:
        os.setxattr(place, IDENT_XATTR, ident, follow_symlinks=follow)
    else:
        os.removexattr(place, IDENT_XATTR, follow_symlinks=follow)


def entry_of(
    dir_fd: int,
    name: bytes,
    found: os.stat_result,
    acl: bool,
    extents: tuple[tuple[int, int], ...] | None = None,
    rule: int = Rule.IDENT,
) -> Entry:
    """What there is to know of one name. Raises OSError (GONE) when it vanishes meanwhile."""
    mode = found.st_mode
    link = b""
    if S_ISLNK(mode):
        try:
            link = os.readlink(name, dir_fd=dir_fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise FileNotFoundError(errno.ENOENT, "no symbolic link any more") from error
    ident, xattrs = read_xattrs(dir_fd, name, mode, acl)
    return Entry(
        name,
        mode,
        found.st_uid,
        found.st_gid,
        found.st_size if S_ISREG(mode) else 0,
        clamped(found.st_mtime_ns),
        clamped(found.st_atime_ns),
        found.st_rdev,
        found.st_nlink > 1 and not S_ISDIR(mode),
        link,
        xattrs,
        extents,
        ident,
        rule,
    )


def directory_entries(
    root_fd: int, paths: Iterable[Path], acl: bool
) -> Iterator[tuple[Path, Entry]]:
    """Entries of directories, by their paths; what vanished is left out. The root's name is
    "root". Neighbours share the opening of their parent."""
    parent: tuple[Path, int] | None = None
    try:
        for path in paths:
            try:
                if parent is None or parent[0] != path[:-1]:
                    if parent is not None:
                        os.close(parent[1])
                        parent = None
                    parent = (path[:-1], open_directory(root_fd, path[:-1]))
                name = path[-1] if path else b"."
                found = os.stat(name, dir_fd=parent[1], follow_symlinks=False)
                if not S_ISDIR(found.st_mode):
                    continue
                entry = entry_of(parent[1], name, found, acl)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            yield path, entry if path else renamed(entry, b"root")
    finally:
        if parent is not None:
            os.close(parent[1])


def renamed(entry: Entry, name: bytes) -> Entry:
    """The same entry under another name."""
    if entry.name == name:
        return entry
    values = {field: getattr(entry, field) for field in entry.__struct_fields__}
    return Entry(**{**values, "name": name})


def attributes_differ(found: os.stat_result, entry: Entry, extra: Extra, acl: bool) -> bool:
    """Whether the attributes of what was found differ; `extra` is what `read_xattrs` says."""
    return (
        found.st_mode != entry.mode
        or found.st_uid != entry.uid
        or found.st_gid != entry.gid
        or found.st_mtime_ns != entry.mtime_ns
        or extra != (entry.ident, _meant(entry, acl))
    )


def apply_attributes(dir_fd: int, name: bytes, entry: Entry, acl: bool) -> None:
    """Make owner, mode, ident, extended attributes and times of `name` those of `entry`.

    In this order: a change of owner clears set-id bits and capabilities, an ACL changes the
    mode, everything changes a time.
    """
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if S_IFMT(found.st_mode) != S_IFMT(entry.mode):
        raise FileNotFoundError(errno.ENOENT, "became something else")
    owner_changed = found.st_uid != entry.uid or found.st_gid != entry.gid
    if owner_changed:
        os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
    place = b"/proc/self/fd/%d/%s" % (dir_fd, name)
    xattrs_changed = _apply_xattrs(place, entry, acl)
    if not S_ISLNK(entry.mode) and (owner_changed or xattrs_changed or found.st_mode != entry.mode):
        _chmod(dir_fd, name, entry.mode & 0o7777)
    if found.st_mtime_ns != entry.mtime_ns:
        times = (entry.atime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)


def apply_to_descriptor(fd: int, entry: Entry, acl: bool) -> None:
    """As `apply_attributes`, of an open regular file that was written."""
    found = os.fstat(fd)
    if found.st_uid != entry.uid or found.st_gid != entry.gid:
        os.fchown(fd, entry.uid, entry.gid)
    _apply_xattrs(fd, entry, acl)
    os.fchmod(fd, entry.mode & 0o7777)
    os.utime(fd, ns=(entry.atime_ns, entry.mtime_ns))


def remove(dir_fd: int, name: bytes, breathe: Callable[[], None] = lambda: None) -> None:
    """Remove a name and, when it is a directory, all below it, however deep.

    `breathe` is called again and again meanwhile.
    """
    found = status(dir_fd, name)
    if found is None:
        return
    if not S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=dir_fd)
        return
    # One descriptor, moved down and up: depth costs memory for names only.
    at = os.open(name, _DIRECTORY, dir_fd=dir_fd)
    try:
        pending = [(name, _identity(at), _unlink_files(at))]
        while pending:
            breathe()
            here, _, below = pending[-1]
            if below:
                deeper = below.pop()
                fd = os.open(deeper, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = fd
                pending.append((deeper, _identity(at), _unlink_files(at)))
                continue
            pending.pop()
            if not pending:
                break
            fd = os.open(b"..", _DIRECTORY, dir_fd=at)
            os.close(at)
            at = fd
            if _identity(at) != pending[-1][1]:
                # Somebody moved it meanwhile: what is above it now is none of our business.
                raise OSError(errno.ESTALE, "moved while it was being removed")
            os.rmdir(here, dir_fd=at)
    finally:
        os.close(at)
    os.rmdir(name, dir_fd=dir_fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _unlink_files(dir_fd: int) -> list[bytes]:
    """Unlink all but the directories, which are returned."""
    directories = []
    with os.scandir(dir_fd) as listed:
        entries = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in listed]
    for name, is_directory in entries:
        if is_directory:
            directories.append(name)
        else:
            os.unlink(name, dir_fd=dir_fd)
    return directories


def _meant(entry: Entry, acl: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes that this node takes from the entry."""
    if acl or not entry.xattrs:
        return entry.xattrs
    return tuple(pair for pair in entry.xattrs if xattr_allowed(pair[0], acl))


def _apply_xattrs(place: bytes | int, entry: Entry, acl: bool) -> bool:
    ident, found = _read_xattrs(place, entry.mode, acl)
    if ident != entry.ident:
        set_ident(place, entry.ident)
    meant_pairs = _meant(entry, acl)
    if found == meant_pairs:
        return False
    follow = isinstance(place, int)
    here, meant = dict(found), dict(meant_pairs)
    for attribute in here.keys() - meant.keys():
        os.removexattr(place, attribute, follow_symlinks=follow)
    for attribute, value in meant.items():
        if here.get(attribute) != value:
            os.setxattr(place, attribute, value, follow_symlinks=follow)
    return True


def _chmod(dir_fd: int, name: bytes, mode: int) -> None:
    """chmod that cannot follow a link: through a descriptor of the object itself."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, "became a symbolic link")
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)
