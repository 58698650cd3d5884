"""What is started when the daemon starts, and what is closed before anything else starts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from safepy.config import userconfig
from safepy.config.module import installed, is_configured
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import ModuleConfig
from safepy.daemon.module import NOT_STARTED
from safepy.daemon.plan import trees_of
from safepy.daemon.site import replace_file
from safepy.errors import SafekitError
from safepy.model import Active
from safepy.storage.record import RecordFile

log = logging.getLogger(__name__)

#: Who starts a module, as the log says it (reference 15.3).
AT_BOOT = "at boot time"
AUTOMATICALLY = "automatically"

#: Scripts that an earlier daemon may have left running.
_ROLES = ("prim", "both", "second", "sec")
_SCRIPTS = frozenset(
    {"prestart", "poststop", "transition", "update"}
    | {f"start_{role}" for role in _ROLES}
    | {f"stop_{role}" for role in _ROLES}
)


def wanted_by(
    *, boot: str, flag: bool, started: str, boot_id: str, was_active: bool, first_of_boot: bool
) -> str:
    """Who starts the module now ("" = nobody).

    `boot` is the attribute of `<service>`, `flag` what `safekit boot` said, `started` the boot in
    which the module was started and not stopped since, `was_active` what its record says.
    A daemon that returns within a boot takes up what was running, however it ended; what was
    serving or following when the host went down goes on too (F1 to F6).
    """
    if started == boot_id:
        return AUTOMATICALLY
    if was_active:
        return AT_BOOT
    if not first_of_boot:
        return ""
    was_started = started not in ("", NOT_STARTED)
    wanted = boot == "on" or (boot == "ignore" and flag) or (boot == "auto" and was_started)
    return AT_BOOT if wanted else ""


def first_of_boot(paths: Paths, boot_id: str) -> bool:
    """Whether this is the daemon's first start since the host booted; notes that it was."""
    path = paths.run / "boot_id"
    with contextlib.suppress(OSError):
        if path.read_bytes().strip() == boot_id.encode():
            return False
    paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(str(path), boot_id.encode() + b"\n", 0o600)
    return True


def close_directories(paths: Paths) -> bool:
    """Cover the directories of every module whose record says that it was active, so that no
    other service writes to bare files after a crash of the node (design 2). True: all went well.

    The daemon later takes these covers and doors over as its own. A record or configuration
    that cannot be read closes too, as far as it is known: the safe side.
    """

    def close(module: ModulePaths, config: ModuleConfig) -> None:
        trees = trees_of(module, config)
        if trees is not None and _was_active(module):
            trees.close()
            log.warning(
                "%s was active: its directories are closed until its role is known", module.name
            )

    return for_each_configured(paths, close)


def for_each_configured(paths: Paths, act: Callable[[ModulePaths, ModuleConfig], None]) -> bool:
    """Do this for every configured module, at a moment at which no daemon runs. What fails for one
    is logged and keeps no other from it; True: nothing failed. Blocks."""
    fine = True
    for name in installed(paths):
        module = paths.module(name)
        if not is_configured(module):
            continue
        try:
            act(module, config_of(module))
        except (SafekitError, OSError) as error:
            log.error("%s: %s", name, error)
            fine = False
    return fine


def config_of(module: ModulePaths) -> ModuleConfig:
    """As it was configured last. Raises ConfigError, OSError."""
    return userconfig.parse(module.safeconf.read_bytes(), str(module.safeconf), {})


def _was_active(module: ModulePaths) -> bool:
    try:
        return RecordFile(str(module.record)).load().active is not Active.NONE
    except SafekitError as error:
        log.error("%s: %s", module.name, error)
        return True


def end_left_scripts(module: ModulePaths) -> int:
    """End the module scripts that an earlier daemon left running when it was killed: nobody
    waits for them any more, and they must not meet those that run next. Only the scripts
    themselves; what they started belongs to the application. Of a program of `<custom>`, which
    would go on to set its resource beside its successor, the whole group. Returns how many.
    Blocks."""
    ended = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")[:5]
        except OSError:
            continue
        is_checker = _is_checker(module, entry, words)
        if is_checker or any(_is_script(module, os.fsdecode(word)) for word in words[:3]):
            with contextlib.suppress(ProcessLookupError):
                pid = int(entry.name)
                if is_checker and os.getpgid(pid) == pid:
                    os.killpg(pid, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGKILL)
                log.warning("%s: ended a script of an earlier safeadmin: %s", module.name, words)
                ended += 1
    return ended


def _is_checker(module: ModulePaths, process: Path, words: list[bytes]) -> bool:
    """Whether this is how `<custom>` starts a program, [INTERPRETER] PATH MODULE custom.IDENT, and
    of this very module: another installation may have one of the same name."""
    name = module.name.encode()
    if not any(one == name and other.startswith(b"custom.") for one, other in pairwise(words)):
        return False
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"SAFEUSERVAR=" + os.fsencode(module.var) in environment


def _is_script(module: ModulePaths, word: str) -> bool:
    return os.path.dirname(word) == str(module.bin.resolve()) and os.path.basename(word) in _SCRIPTS
