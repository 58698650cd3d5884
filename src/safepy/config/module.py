"""The folders of a module on disk: install, pack, configure, identify (reference 18, S17).

Every change is made in a fresh private folder beside the target and then renamed in: a crash or an
error leaves what was there before. Modes and owner are set by us, never taken from the source.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from safepy.config import archive
from safepy.config.paths import ModulePaths, Paths, check_module_name
from safepy.config.xml import shown
from safepy.errors import PackageError

MAX_MODULE_ID = 100
USERCONFIG = ("conf", "userconfig.xml")
#: Parts of a module folder that a configuration copies (the rest is old console material).
ACTIVE_PARTS = ("conf", "bin")

_CHUNK_BYTES = 1 << 20
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def install(source: Path, modules_dir: Path, name: str, *, replace: bool = False) -> Path:
    """Unpack a `.safe` file or copy a folder to `modules_dir/name`, and return that path.

    With `replace` a module that is there is exchanged in one step (`-r`). Raises PackageError; then
    nothing has changed.
    """
    target = modules_dir / check_module_name(name)
    if os.path.lexists(target) and not replace:
        hint = f"safekit module uninstall -m {name}, or install with -r"
        raise PackageError(f"module {name} is already installed", hint)
    with _members(source) as members, _fresh_folder(target) as fresh:
        if not any(member.parts == USERCONFIG and not member.is_folder for member in members):
            raise PackageError("conf/userconfig.xml is missing in it")
        for member in members:
            _write_member(fresh, member)
        _put(fresh, target)
    return target


def pack(folder: Path, target: Path) -> None:
    """Write the module folder to the `.safe` file `target` (replaced if it is there).

    Raises PackageError for links, devices and whatever else `install` would refuse.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with _members(folder) as members, temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
                for member in members:
                    _pack_member(out, member)
            file.flush()
            os.fsync(file.fileno())
            temporary.rename(target)
        _sync_folder(target.parent)
    except OSError as exc:
        raise PackageError(f"{exc.filename or target}: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def configure(
    paths: ModulePaths, expanded_xml: bytes, generated: Mapping[str, bytes] | None = None
) -> None:
    """Make the current `conf` and `bin` the active ones, with `conf/safeconf.xml` and the
    `generated` files of `bin`, by name, which take the place of others.

    The configuration has been validated by the caller. Keeps the module id. Raises PackageError;
    then the active configuration is the one before.
    """
    with _members(paths.source) as members, _fresh_folder(paths.active) as fresh:
        for member in members:
            if member.parts[0] in ACTIVE_PARTS:
                _write_member(fresh, member)
        for part in ACTIVE_PARTS:
            (fresh / part).mkdir(mode=0o755, exist_ok=True)
        _write(fresh / "conf" / "safeconf.xml", expanded_xml, 0o644)
        for name, data in (generated or {}).items():
            (fresh / "bin" / name).unlink(missing_ok=True)
            _write(fresh / "bin" / name, data, 0o755 if name.endswith(".sh") else 0o644)
        if paths.id_file.exists():
            _write(fresh / "id", paths.id_file.read_bytes(), 0o644)
        _put(fresh, paths.active)


def deconfigure(paths: ModulePaths) -> None:
    """Remove the active configuration; the module id stays. Raises PackageError."""
    if not paths.active.exists():
        return
    with _fresh_folder(paths.active) as fresh:
        if paths.id_file.exists():
            _write(fresh / "id", paths.id_file.read_bytes(), 0o644)
        _put(fresh, paths.active)


def is_configured(paths: ModulePaths) -> bool:
    return paths.safeconf.is_file()


def uninstall(paths: ModulePaths, backup: Path) -> None:
    """Delete the module, after packing it into `backup`/AM.safe. Raises PackageError.

    SAFEUSERVAR (logs, record, what was kept aside) stays.
    """
    if paths.source.exists():
        backup.mkdir(mode=0o755, parents=True, exist_ok=True)
        pack(paths.source, backup / f"{paths.name}.safe")
    try:
        for folder in (paths.active, paths.source):
            if folder.exists():
                aside = folder.with_name(f".{folder.name}.old-{secrets.token_hex(8)}")
                folder.rename(aside)
                _sync_folder(folder.parent)
                shutil.rmtree(aside)
    except OSError as exc:
        raise PackageError(f"{exc.filename}: {exc.strerror}") from exc


def installed(paths: Paths) -> tuple[str, ...]:
    """The names of the installed modules, sorted. One that is configured counts, whatever an
    administrator did to the folder that is edited: it may run, and its directories are closed."""
    found = {entry.parent.parent.name for entry in paths.modules.glob("/".join(("*", *USERCONFIG)))}
    found |= {
        entry.name
        for entry in paths.private_modules.glob("*")
        if _allowed(entry.name) and is_configured(paths.module(entry.name))
    }
    return tuple(sorted(name for name in found if _allowed(name)))


def _allowed(name: str) -> bool:
    try:
        check_module_name(name)
    except PackageError:
        return False
    return True


def module_id(paths: ModulePaths) -> int | None:
    """The id of the module, or None before it has one. Raises PackageError if it is damaged."""
    try:
        text = paths.id_file.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise PackageError(f"{paths.id_file}: {exc}") from exc
    if not (text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_MODULE_ID):
        raise PackageError(f"{paths.id_file}: allowed are numbers from 1 to {MAX_MODULE_ID}")
    return int(text)


def allocate_id(paths: Paths, name: str, imposed: int | None = None) -> int:
    """Give the module an id, durably: the imposed one, else the one it has, else the lowest free.

    Raises PackageError if the imposed id is out of range or taken by another module.
    """
    mine = paths.module(name)
    taken = {
        found: other
        for other in installed(paths)
        if other != name and (found := module_id(paths.module(other))) is not None
    }
    wanted = imposed if imposed is not None else module_id(mine)
    if wanted is None:
        wanted = next((n for n in range(1, MAX_MODULE_ID + 1) if n not in taken), 0)
        if not wanted:
            raise PackageError(f"no module id is free, there are {MAX_MODULE_ID}")
    if not 1 <= wanted <= MAX_MODULE_ID:
        raise PackageError(f"module id {wanted}: allowed are 1 to {MAX_MODULE_ID}")
    if wanted in taken:
        raise PackageError(f"module id {wanted} belongs to module {taken[wanted]}")
    try:
        mine.active.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = mine.id_file.with_name(f".id.{secrets.token_hex(8)}")
        try:
            _write(temporary, f"{wanted}\n".encode(), 0o644)
            temporary.rename(mine.id_file)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(mine.active)
    except OSError as exc:
        raise PackageError(f"{exc.filename or mine.id_file}: {exc.strerror}") from exc
    return wanted


@contextmanager
def _members(source: Path) -> Iterator[list[archive.Member]]:
    """The checked members of a folder or a `.safe` file, for use inside the `with` block."""
    try:
        if source.is_dir():
            found = list(islice(_members_of_folder(source), archive.MAX_MEMBERS + 1))
            archive.check_members(found)
            yield found
        else:
            with _opener(source, follow=True)() as file:
                yield archive.members_of_zip(file, os.fstat(file.fileno()).st_size)
    except archive.BROKEN as exc:
        raise PackageError(f"{source}: no module package: {shown(str(exc))}") from exc
    except OSError as exc:
        raise PackageError(f"{exc.filename or source}: {exc.strerror or exc}") from exc
    except PackageError as exc:
        raise PackageError(f"{source}: {exc.message}", exc.hint) from exc


def _members_of_folder(folder: Path, above: tuple[str, ...] = ()) -> Iterator[archive.Member]:
    for entry in sorted(folder.iterdir()):
        parts = archive.parts_of("/".join((*above, entry.name)))
        status = entry.lstat()
        if stat.S_ISDIR(status.st_mode):
            yield archive.Member(parts, 0, None)
            yield from _members_of_folder(entry, parts)
        elif stat.S_ISREG(status.st_mode):
            yield archive.Member(parts, status.st_size, _opener(entry))
        else:
            text = "a link or a device, allowed are files and folders"
            raise PackageError(f"{shown('/'.join(parts))}: {text}")


def _opener(path: Path, *, follow: bool = False) -> Callable[[], IO[bytes]]:
    """Opens the file when called, without waiting should it be a pipe, which is refused."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)

    def open_() -> IO[bytes]:
        file = os.fdopen(os.open(path, flags), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise PackageError(f"{path.name}: neither a folder nor a file")
        return file

    return open_


@contextmanager
def _fresh_folder(target: Path) -> Iterator[Path]:
    """A private folder beside `target`; removed at the end if it was not renamed in."""
    try:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}.new-*"):
            shutil.rmtree(stale)
        fresh = target.parent / f".{target.name}.new-{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o700)
    except OSError as exc:
        raise PackageError(f"{exc.filename}: {exc.strerror}") from exc
    try:
        yield fresh
    except OSError as exc:
        raise PackageError(f"{exc.filename or target}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _mode(parts: tuple[str, ...]) -> int:
    if parts[0] == "bin":
        return 0o755
    if parts[0] == "conf" and parts[-1].startswith("modulekey."):
        return 0o600
    return 0o644


def _write_member(root: Path, member: archive.Member) -> None:
    path = root.joinpath(*member.parts)
    if member.open is None:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with member.open() as content, path.open("xb") as file:
        left = member.size_bytes
        # Bounded by the size that was checked, whatever the source now says it holds.
        while piece := content.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(piece)
            if left < 0:
                raise PackageError(f"{'/'.join(member.parts)}: longer than announced")
            file.write(piece)
        if left:
            raise PackageError(f"{'/'.join(member.parts)}: shorter than announced")
        os.fchmod(file.fileno(), _mode(member.parts))
        file.flush()
        os.fsync(file.fileno())


def _pack_member(out: zipfile.ZipFile, member: archive.Member) -> None:
    name = "/".join(member.parts)
    if member.open is None:
        info = zipfile.ZipInfo(name + "/")
        info.external_attr = (stat.S_IFDIR | 0o755) << 16
        out.writestr(info, b"")
        return
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFREG | _mode(member.parts)) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with member.open() as content, out.open(info, "w") as file:
        shutil.copyfileobj(content, file, _CHUNK_BYTES)


def _write(path: Path, data: bytes, mode: int) -> None:
    with path.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())


def _put(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; what was there before is removed afterwards."""
    for folder, _, _ in os.walk(fresh):
        Path(folder).chmod(0o755)
        _sync_folder(Path(folder))
    if os.path.lexists(target):
        _exchange(fresh, target)
    else:
        fresh.rename(target)
    _sync_folder(target.parent)


def _exchange(one: Path, other: Path) -> None:
    """Both names change places in one step: at no moment is the target missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if result == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(other))
    # A file system without the exchange (some network ones): two renames.
    aside = other.with_name(f".{other.name}.new-{secrets.token_hex(8)}")
    other.rename(aside)
    one.rename(other)
    shutil.rmtree(aside)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
