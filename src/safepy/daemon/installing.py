"""The verbs of a module's life: install, configure, undo, package (reference 13.4, 18.2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from safepy.config import module as folders
from safepy.daemon import configuring, reset
from safepy.daemon.logs import Voice
from safepy.daemon.node import Node
from safepy.daemon.reconfiguring import reconfigure, require_changeable
from safepy.daemon.scripting import ModuleScripts, environment
from safepy.errors import ConfigError, PackageError, RequestRefused, SafekitError
from safepy.model import State
from safepy.storage.modulelog import ModuleLog

JsonObject = dict[str, Any]

#: Limit of the config, postconfig and deconfig scripts: an operator waits for them.
CONFIG_SCRIPT_LIMIT_S = 300.0

log = logging.getLogger(__name__)


class Installing:
    """Mixed into the manager; see there."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._changing = asyncio.Lock()

    async def install(
        self, module: str, source: str, module_id: int | None = None, replace: bool = False
    ) -> int:
        """Install a `.safe` file or an unpacked folder (absolute path, or a name to search below
        SAFE/Application_Modules; "" = MODULE.safe); returns the module id.
        Raises PackageError or RequestRefused; nothing is left behind then."""
        async with self._changing:
            paths = self._node.paths.module(module)
            before = folders.module_id(paths)
            found = self._node.find(module)
            if found is not None and module_id not in (None, before):
                self._require_stopped(module)
            fresh = not paths.active.exists()
            package = await asyncio.to_thread(self._search, source or f"{module}.safe")
            number = await asyncio.to_thread(
                folders.allocate_id, self._node.paths, module, module_id
            )
            try:
                await asyncio.to_thread(
                    folders.install, package, self._node.paths.modules, module, replace=replace
                )
            except SafekitError:
                if fresh:
                    await asyncio.to_thread(shutil.rmtree, paths.active, True)
                elif before is not None and before != number:
                    await asyncio.to_thread(folders.allocate_id, self._node.paths, module, before)
                raise
            paths.var.mkdir(mode=0o755, parents=True, exist_ok=True)
            if found is not None and number != before:
                await self._node.renew(module)
            return number

    async def uninstall(self, module: str) -> None:
        """Deconfigure, keep a backup `.safe`, delete. Only in STOP."""
        async with self._changing:
            self._require_installed(module)
            await self._deconfigure(module)
            paths = self._node.paths
            await asyncio.to_thread(folders.uninstall, paths.module(module), paths.backup)

    async def package(self, module: str, target: str) -> None:
        """Make a `.safe` of the installed module at the absolute path `target`."""
        self._require_installed(module)
        path = Path(target)
        if not path.parent.is_dir():
            raise PackageError(f"{path.parent} is no directory")
        if os.path.lexists(path):
            raise PackageError(f"{path} is there already", "name a new file")
        await asyncio.to_thread(folders.pack, self._node.paths.module(module).source, path)

    async def confcheck(self, module: str) -> list[str]:
        """Check the edited configuration without applying it; returns notes (may be empty).
        Raises ConfigError."""
        self._require_installed(module)
        checked = await self._check(module)
        return _notes(checked)

    async def config(self, module: str) -> list[str]:
        """Validate SAFE/modules/AM and make it the active configuration; returns notes. In STOP,
        and for what is dynamic in ALONE and UP Ready and WAIT NotReady too (reference 18.3). On
        any error the active configuration stays as it was."""
        async with self._changing:
            self._require_installed(module)
            running = self._node.find(module)
            if running is not None and running.snapshot.state is not State.STOP:
                require_changeable(running)
                checked = await self._check(module)
                await reconfigure(self._node, running, checked, self._call_script)
                await self._keep_last(module)
                return _notes(checked)
            checked = await self._check(module)
            paths = self._node.paths.module(module)
            await self._call_script(checked, "config", active=False)
            copy = await asyncio.to_thread(configuring.keep_active, paths)
            try:
                await self._node.take_down(module)
                try:
                    await asyncio.to_thread(configuring.apply, self._node.site, checked)
                    await self._call_script(checked, "postconfig", active=True)
                    await asyncio.to_thread(configuring.forget_settings, paths)
                    # Last: with the configuration before, the record before is wanted as well.
                    await asyncio.to_thread(reset.settle, paths)
                except (SafekitError, OSError):
                    await asyncio.to_thread(configuring.put_back, paths, copy)
                    raise
            finally:
                await self._node.renew(module)
                await asyncio.to_thread(configuring.drop_copy, copy)
            await self._keep_last(module)
            return _notes(checked)

    async def deconfig(self, module: str) -> None:
        """Remove the active configuration; the module stays installed. Only in STOP."""
        async with self._changing:
            self._require_installed(module)
            await self._deconfigure(module)

    async def confinfo(self, module: str) -> JsonObject:
        """{active: {signature, date} | None, current: {signature, date} | None}."""
        self._require_installed(module)
        paths = self._node.paths.module(module)
        made = configuring.generated_names(paths)
        active = configuring.signature(paths.conf, paths.bin, made)
        if active is not None:
            active = (active[0], paths.safeconf.stat().st_mtime)
        current = configuring.signature(paths.source_conf, paths.source_bin, made)
        return {
            name: None if found is None else {"signature": found[0], "date": found[1]}
            for name, found in (("active", active), ("current", current))
        }

    # -- inside --------------------------------------------------------------------------------

    def _require_installed(self, module: str) -> None:
        if module not in folders.installed(self._node.paths):
            source = self._node.paths.module(module).source_conf / "userconfig.xml"
            if source.parent.is_dir():
                raise ConfigError(f"{source} is missing", "put it back, or install the module anew")
            raise RequestRefused(f"module {module} is not installed", "safekit module list")

    def _require_stopped(self, module: str) -> None:
        found = self._node.find(module)
        if found is not None and found.snapshot.state is not State.STOP:
            raise RequestRefused(
                f"module {module} is {found.snapshot.state}: this is possible only in STOP",
                f"safekit stop -m {module}",
            )

    async def _keep_last(self, module: str) -> None:
        paths = self._node.paths
        with contextlib.suppress(SafekitError, OSError):
            await asyncio.to_thread(configuring.keep_last, paths, paths.module(module))

    async def _check(self, module: str) -> configuring.Checked:
        node = self._node
        await node.refresh_site()
        found = node.find(module)
        return await asyncio.to_thread(
            configuring.check,
            node.site,
            node.paths.module(module),
            node.configurations(),
            configuring.NOTHING_HELD
            if found is None
            else configuring.held_by(found.plan, found.snapshot.state is not State.STOP),
        )

    async def _deconfigure(self, module: str) -> None:
        self._require_stopped(module)
        paths = self._node.paths.module(module)
        if not folders.is_configured(paths):
            return
        await self._run_script(module, "deconfig", paths.bin, active=True)
        await self._node.take_down(module)
        await asyncio.to_thread(configuring.undo, paths)

    async def _call_script(self, checked: configuring.Checked, name: str, active: bool) -> None:
        paths = checked.plan.paths
        folder = paths.bin if active else paths.source_bin
        await self._run_script(checked.plan.name, name, folder, active)

    async def _run_script(self, module: str, name: str, folder: Path, active: bool) -> None:
        """Raises ScriptError, which refuses the configuration."""
        if not (folder / name).exists():
            return
        paths = self._node.paths.module(module)
        paths.var.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = self._node.find(module)
        if found is not None:
            await self._call(found.voice, module, folder, name, active)
            return
        # Not up now: its log is opened for as long as the script runs.
        voice = Voice(module, ModuleLog(str(paths.log_db)))
        try:
            await self._call(voice, module, folder, name, active)
        finally:
            await asyncio.to_thread(voice.close)

    async def _call(self, voice: Voice, module: str, folder: Path, name: str, active: bool) -> None:
        node = self._node
        paths = node.paths.module(module)
        await ModuleScripts(node.runner, node.paths, paths, None, voice).call(
            folder,
            name,
            timeout_s=CONFIG_SCRIPT_LIMIT_S,
            environment=environment(node.paths, paths, (), active),
        )

    def _search(self, source: str) -> Path:
        """The package that `source` means. Raises PackageError."""
        path = Path(source)
        if path.is_absolute():
            if not path.exists():
                raise PackageError(f"{path}: there is no such file or folder")
            return path
        root = self._node.paths.application_modules
        if ".." in path.parts:
            raise PackageError(f"{source}: only names below {root}, or absolute paths")
        for candidate in (root / path, *sorted(root.glob(f"*/{source}"))):
            if candidate.exists():
                return candidate
        raise PackageError(f"no package {source} below {root}", "give its absolute path")


def _notes(checked: configuring.Checked) -> list[str]:
    notes = list(checked.parsed.notes)
    if checked.starts_anew:
        notes.append("the replicated directories or the peer changed: the first start needs prim")
    elif checked.compares_everything:
        notes.append("notreplicated or acl changed: the next synchronisation compares everything")
    return notes
