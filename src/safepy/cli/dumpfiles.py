"""Where support files lie: dumps in SAFEVAR/snapshot, and a snapshot's zip (reference 3.1, 16).

Both are made under another name and renamed when they are whole: a full disk, or a kill, leaves no
half of one under its name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from safepy.cli.dumps import DUMP_BYTES_MAX, Dump, said, secrets_of
from safepy.cli.masking import is_secret_file, masked
from safepy.config.archive import BROKEN, members_of_zip
from safepy.config.paths import ModulePaths, Paths
from safepy.errors import PackageError, RequestRefused
from safepy.storage.private import private_opener

KEPT = 3
#: Stays free in SAFEVAR besides a dump: what decides about the module is written there.
ROOM_BYTES = 64 << 20
#: Of all configurations in a snapshot together, unpacked.
CONFIGURATION_BYTES_MAX = 16 << 20
_ABANDONED_S = 600.0
_STAMP = "%Y_%m_%d_%H_%M_%S"
_DUMP = re.compile(r"dump_\d{4}(_\d\d){5}")
_CONFIGURATION = re.compile(r"_(\d{4})-(\d\d)-(\d\d)_(\d\d)(\d\d)(\d\d)\.safe$")
#: Name in the zip -> content.
Files = Iterator[tuple[str, bytes]]


def require_room(folder: Path) -> None:
    """Raises RequestRefused when a dump would fill the disk."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free, needed = shutil.disk_usage(there).free, DUMP_BYTES_MAX + ROOM_BYTES
    if free < needed:
        raise RequestRefused(
            f"no room for a dump in {folder}: {free >> 20} MiB are free, {needed >> 20} are needed",
            "make room, or save it elsewhere: safekit snapshot -m AM /abs/file.zip",
        )


def keep(folder: Path, dump: Dump) -> Path:
    """Write `dump` into a new folder below `folder`, of which the last KEPT stay.

    Raises RequestRefused: nothing was written then.
    """
    require_room(folder)
    new = folder / f".new_{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop_abandoned(folder)
        new.mkdir(mode=0o700)
        for name, data in dump.files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb", opener=private_opener) as file:
                file.write(data)
        made = _into_place(new, folder)
    except OSError as error:
        raise RequestRefused(f"the dump cannot be written: {said(error)}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    for old in kept(folder)[:-KEPT]:
        if old != made:
            shutil.rmtree(old, ignore_errors=True)
    return made


def _into_place(new: Path, folder: Path) -> Path:
    """Two dumps of one second: the later one waits for the next."""
    while True:
        made = folder / time.strftime(f"dump_{_STAMP}")
        if not made.exists():
            new.rename(made)
            return made
        time.sleep(0.1)


def _drop_abandoned(folder: Path) -> None:
    for path in folder.glob(".new_*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def kept(folder: Path) -> list[Path]:
    """The dumps that are there, oldest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(each for each in folder.iterdir() if _DUMP.fullmatch(each.name))
    return []


def kept_files(dump: Path) -> Files:
    """What an earlier dump holds, as it was written."""
    for top, folders, names in os.walk(dump):
        folders.sort()
        for name in sorted(names):
            path = Path(top) / name
            if path.is_file() and not path.is_symlink():
                yield f"{dump.name}/{path.relative_to(dump)}", path.read_bytes()


def configurations(paths: Paths, module: ModulePaths, missing: list[tuple[str, str]]) -> Files:
    """The last configurations that were applied: texts, without secrets; what is left out is
    appended to `missing`."""
    hidden = secrets_of(paths, module)
    left = CONFIGURATION_BYTES_MAX
    saved = sorted(paths.lastconfig.glob(f"{module.name}_????-??-??_??????.safe"))[-KEPT:]
    for archive in reversed(saved):
        found = _CONFIGURATION.search(archive.name)
        folder = "config_" + "_".join(found.groups() if found else ("unknown",))
        try:
            with archive.open("rb") as file:
                for member in members_of_zip(file, archive.stat().st_size):
                    if member.open is None:
                        continue
                    name = f"{folder}/module/{'/'.join(member.parts)}"
                    reason = _unfit(member.parts, member.size_bytes, left)
                    data = b"" if reason else member.open().read(member.size_bytes)
                    if reason or b"\0" in data:
                        missing.append((name, reason or "it is no text"))
                        continue
                    left -= len(data)
                    text = data.decode("utf-8", "backslashreplace")
                    yield name, masked(text, hidden).encode()
        except (OSError, PackageError, *BROKEN) as error:
            missing.append((folder, said(error)))


def _unfit(parts: tuple[str, ...], size_bytes: int, left: int) -> str:
    if any(is_secret_file(part) for part in parts):
        return "its name says that it is secret"
    return "it is too large" if size_bytes > left else ""


def check_target(target: str) -> None:
    """Raises RequestRefused when a zip cannot be made there."""
    if os.path.lexists(target):
        raise RequestRefused(f"{target} exists already", "name a new file")
    if not os.path.isdir(os.path.dirname(target)):
        raise RequestRefused(f"{target} cannot be written: its folder is not there")


def write_zip(target: str, root: str, files: Iterable[tuple[str, bytes]]) -> int:
    """A new zip at `target`, readable by its owner only; its size in bytes.

    Raises RequestRefused: nothing is there then.
    """
    check_target(target)
    folder, name = os.path.split(target)
    new = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    try:
        with open(new, "wb", opener=private_opener) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path, data in files:
                    info = zipfile.ZipInfo(f"{root}/{path}", time.localtime()[:6])
                    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
                    archive.writestr(info, data)
            file.flush()
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
        _publish(new, target)
    except OSError as error:
        raise RequestRefused(f"{target} cannot be written: {said(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)
    return size_bytes


def _publish(new: str, target: str) -> None:
    """Never over a file that came meanwhile, where the file system knows links."""
    try:
        os.link(new, target)
    except FileExistsError:
        raise
    except OSError:
        os.rename(new, target)
