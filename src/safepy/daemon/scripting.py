"""The scripts of one module: environment, log files, lines in the module log (reference 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from safepy.checkers.custom import Programs
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import User
from safepy.daemon.logs import Voice
from safepy.errors import ScriptError
from safepy.host.scripts import ScriptResult, ScriptRunner, log_name, script_environment
from safepy.model import Level

#: Script logs kept for each module: at most so many, so much in all, of which the newest stay.
SCRIPT_LOGS_MAX = 200
SCRIPT_LOGS_BYTES_MAX = 64 << 20
SCRIPT_LOGS_MIN = 20


async def nothing(_script: str) -> None:
    pass


class ModuleScripts:
    """Runs what stands in `bin`. `user` is None without `<user>`: then nothing is run (10)."""

    def __init__(
        self,
        runner: ScriptRunner,
        paths: Paths,
        module: ModulePaths,
        user: User | None,
        voice: Voice,
    ) -> None:
        self._runner = runner
        self._module = module
        self._voice = voice
        self._paths = paths
        self.renew(user)
        self._runs: set[asyncio.Task[None]] = set()
        #: Called with a script's name, and waited for, before it runs.
        self.before: Callable[[str], Awaitable[None]] = nothing

    def renew(self, user: User | None) -> None:
        """`<user>` is this from now on; a script that runs is not touched."""
        self._user = user
        variables = () if user is None else user.variables
        self._environment = environment(self._paths, self._module, variables)

    async def run(
        self, name: str, arguments: Sequence[str], force: bool, timeout_s: float | None
    ) -> None:
        """Raises ScriptError when the script fails, hangs, or must not be run.

        One at a time: the core waits for the script before, and when it does not wait any longer
        that one has had its time. It is ended with everything it started, so that a start script
        that hung cannot start the application after the stop scripts have run.
        """
        if self._user is None:
            return
        await self.before(name)
        for before in self._runs:
            before.cancel()
        if self._runs:
            await asyncio.wait(self._runs)
        call = self.call(self._module.bin, name, arguments, force, timeout_s)
        run = asyncio.create_task(call, name=f"{self._module.name} script {name}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        try:
            await asyncio.shield(run)
        except asyncio.CancelledError:
            if not run.cancelled():
                run.cancel()  # not the script is ended, but who waits for it
                await asyncio.wait([run])
                raise
            text = f"Script {name}: still running, killed with everything it had started"
            self._voice.say("userplug", Level.CRITICAL, text)
            raise ScriptError(text) from None

    async def handler(self, path: str) -> None:
        """Run an executable of `<proc action>`: absolute, or in `bin` (reference: userconfig 14.3),
        for as long as a stop script may take. Raises ScriptError, also if there is none."""
        found = self._module.bin / path
        if not found.exists():
            raise ScriptError(f"{found}: there is no such executable")
        limit_s = (self._user or User()).nicestoptimeout_s
        await self.call(found.parent, found.name, timeout_s=limit_s)

    async def call(
        self,
        folder: Path,
        name: str,
        arguments: Sequence[str] = (),
        force: bool = False,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run `folder`/`name`, also without `<user>` (config, postconfig, deconfig)."""
        user = self._user or User()
        script = folder / name
        if not script.exists():
            return
        log_path: Path | None = None
        shown = f'Script {name} "force"' if force else f"Script {name}"
        if user.logging != "none":
            log_path = self._module.var / log_name(name, datetime.now())
            shown += f" > {log_path.name}"
        self._voice.say("userplug", Level.SCRIPT, shown)
        result = await self._runner.run(
            script,
            (*(("force",) if force else ()), *arguments),
            self._environment if environment is None else environment,
            timeout_s,
            log_path,
            user.userlogsize_kb * 1024,
        )
        await asyncio.to_thread(self._drop_old_logs)
        self._report(name, result)

    def _report(self, name: str, result: ScriptResult) -> None:
        if result.log_error:
            self._voice.say("userplug", Level.EVENT, f"Script {name}: no log: {result.log_error}")
        if result.ok:
            return
        text = f"Script {name}: {result.describe()}"
        grave = result.timed_out or result.signal is not None
        self._voice.say("userplug", Level.CRITICAL if grave else Level.EVENT, text)
        raise ScriptError(text)

    def programs(self) -> Programs:
        """How the programs of `<custom>` are run."""
        user = self._user or User()
        return Programs(
            self._runner,
            self._module.name,
            self._module.bin,
            self._module.var,
            self._environment,
            0 if user.logging == "none" else user.userlogsize_kb * 1024,
        )

    def begin(self) -> None:
        """At the start of the daemon: bound the logs that applications still write, and drop
        the oldest ones."""
        size = (self._user or User()).userlogsize_kb * 1024
        self._runner.adopt(self._module.var, size)
        self._drop_old_logs()

    def _drop_old_logs(self) -> None:
        self._runner.drop_old_logs(
            self._module.var, SCRIPT_LOGS_MAX, SCRIPT_LOGS_BYTES_MAX, SCRIPT_LOGS_MIN
        )


def environment(
    paths: Paths, module: ModulePaths, variables: Sequence[tuple[str, str]], active: bool = True
) -> dict[str, str]:
    """The documented environment (reference 3.2). Not `active`: of the edited configuration,
    for the `config` script."""
    documented = {
        "SAFE": str(paths.safe),
        "SAFEVAR": str(paths.safevar),
        "SAFEBIN": str(paths.safebin),
        "SAFEMODULE": module.name,
        "SAFEUSERBIN": str(module.bin if active else module.source_bin),
        "SAFEUSERCONF": str(module.conf if active else module.source_conf),
        "SAFEUSERVAR": str(module.var),
    }
    return script_environment(documented, variables)
