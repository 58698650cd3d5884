"""All modules of this node: brought up, looked up, taken down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from safepy.checkers.hostview import HostView
from safepy.config import module as folders
from safepy.config import userconfig
from safepy.config.check import check_against
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import ModuleConfig
from safepy.core.events import ActionRequested
from safepy.daemon import boot, bootflag, reset, site
from safepy.daemon.module import Module, boot_id
from safepy.daemon.plan import plan_module
from safepy.daemon.site import Site
from safepy.errors import LocalFault, RequestRefused, SafekitError
from safepy.host.clock import Clock, SystemClock
from safepy.host.scripts import ScriptRunner
from safepy.host.tasks import Tasks
from safepy.model import Level, Snapshot, State, Status

#: Beyond the limits of its scripts, what else a stop may take.
STOP_MARGIN_S = 60.0
_STOP_SCRIPTS = 4
MEND_EVERY_S = 5.0

log = logging.getLogger(__name__)


class Node:
    """`tasks` is the daemon's own group: a bug in a module ends the daemon."""

    def __init__(self, paths: Paths, tasks: asyncio.TaskGroup, clock: Clock | None = None) -> None:
        self.paths = paths
        self.site: Site = site.load_at_start(paths)
        self._tasks = tasks
        self.clock = clock or SystemClock()
        self._runner = ScriptRunner(Tasks())
        #: One look at the processes of this host serves all modules.
        self.view = HostView()
        self._modules: dict[str, Module] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Called when settings, cluster or key were read again.
        self.on_site: Callable[[], None] = lambda: None
        #: Configured modules that cannot be brought up, and why.
        self.faults: dict[str, SafekitError] = {}
        self._renewing = asyncio.Lock()
        #: Modules that were not yet looked at for a start at boot.
        self._undecided: set[str] = set()

    @property
    def runner(self) -> ScriptRunner:
        return self._runner

    def __iter__(self) -> Iterator[Module]:
        """The modules that are up, by id."""
        return iter(sorted(self._modules.values(), key=lambda each: each.plan.module_id))

    def find(self, name: str) -> Module | None:
        return self._modules.get(name)

    def get(self, name: str) -> Module:
        """Raises RequestRefused (or what keeps the module down) if there is no such module."""
        module = self._modules.get(name)
        if module is not None:
            return module
        if name in self.faults:
            raise self.faults[name]
        if name in folders.installed(self.paths):
            if folders.is_configured(self.paths.module(name)):
                raise RequestRefused(f"module {name} is just being brought up", "try again")
            raise RequestRefused(f"module {name} is not configured", f"safekit config -m {name}")
        raise RequestRefused(f"module {name} is not installed", "safekit module list")

    def snapshot(self, name: str) -> Snapshot:
        """Also for a configured module that cannot be brought up: it stands in STOP, with the
        reason."""
        fault = self.faults.get(name)
        if fault is None:
            return self.get(name).look()
        return Snapshot(
            module=name,
            node=self.site.node,
            peer="",
            state=State.STOP,
            status=Status.NOT_READY,
            reason=fault.message,
            since=self.clock.wall(),
            peer_state="UNKNOWN",
            peer_status="",
            waiting_for=fault.message,
            remedy=fault.hint,
        )

    def configurations(self) -> dict[str, ModuleConfig]:
        """The active configurations by module. One that cannot be read is left out: it cannot
        run either."""
        found = {}
        for name in folders.installed(self.paths):
            module = self.paths.module(name)
            if folders.is_configured(module):
                try:
                    found[name] = active_config(module)
                except (SafekitError, OSError) as error:
                    log.warning("%s: %s", name, error)
        return found

    async def take_down(self, name: str) -> None:
        """The module's automaton does not run any more (it should be in STOP)."""
        self.faults.pop(name, None)
        await self._take_down(name)

    async def _take_down(self, name: str) -> None:
        self._modules.pop(name, None)
        task = self._running.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def renew(self, name: str) -> None:
        """Bring a module up again with what is configured now; a fault is kept, not raised."""
        async with self._renewing:
            await self._take_down(name)
            if folders.is_configured(self.paths.module(name)):
                await self._bring_up(name)
            else:
                self.faults.pop(name, None)

    async def _bring_up(self, name: str) -> None:
        """What prevents it is kept and shown, not raised."""
        before = self.faults.pop(name, None)
        try:
            module = await self._make(name)
        except (SafekitError, OSError) as error:
            fault = error if isinstance(error, SafekitError) else LocalFault(str(error))
            self.faults[name] = fault
            if str(before) != str(fault):
                log.error("%s cannot be brought up: %s", name, fault)
            return
        self._modules[name] = module
        self._running[name] = self._tasks.create_task(module.run(), name=f"module {name}")
        # The automaton has turned once: what is asked next finds it at work.
        await asyncio.sleep(0)

    def knows(self, name: str) -> bool:
        """Whether `name` is configured here, up or not."""
        return name in self._modules or name in self.faults

    async def refresh_site(self) -> None:
        """Settings, cluster and key as they are on disk now. Raises ConfigError, LocalFault."""
        self.site = await asyncio.to_thread(site.load, self.paths)
        self.on_site()

    async def reload(self) -> None:
        """Read settings, cluster and key again; modules in STOP follow. Raises ConfigError and
        LocalFault, and then nothing has changed."""
        await self.refresh_site()
        for name in folders.installed(self.paths):
            module = self._modules.get(name)
            if module is None or module.snapshot.state is State.STOP:
                await self.renew(name)

    async def begin(self) -> None:
        """Bring up what is configured, and start what is to be started now."""
        first = boot.first_of_boot(self.paths, boot_id())
        for name in folders.installed(self.paths):
            paths = self.paths.module(name)
            if folders.is_configured(paths):
                await asyncio.to_thread(boot.end_left_scripts, paths)
                self._undecided.add(name)
                await self.renew(name)
        self._start_at_boot(first)
        self._tasks.create_task(self._mend(first), name="mend")

    async def _mend(self, first: bool) -> None:
        """Try again what could not be brought up: an address or a name may come late at boot."""
        while True:
            await asyncio.sleep(MEND_EVERY_S)
            for name in list(self.faults):
                await self.renew(name)
            self._start_at_boot(first)

    def _start_at_boot(self, first: bool) -> None:
        for module in self:
            if module.name not in self._undecided:
                continue
            self._undecided.discard(module.name)
            config = module.plan.config
            who = boot.wanted_by(
                boot=config.boot,
                flag=bootflag.boot_flag(module.plan.paths),
                started=module.started_before,
                boot_id=boot_id(),
                was_active=module.was_active,
                first_of_boot=first,
            )
            if who:
                delay_s = config.boot_delay_s if who == boot.AT_BOOT else 0.0
                start = self._start_later(module, who, delay_s)
                self._tasks.create_task(start, name=f"boot {module.name}")

    async def stop_all(self, who: str, going_down: bool) -> None:
        """Stop what runs, the last one first, each within its limits."""
        for module in self:
            module.going_down = going_down
        for module in reversed(list(self)):
            if module.snapshot.state is State.STOP:
                continue
            module.post(ActionRequested("shutdown", who))
            if not await module.until(State.STOP, stop_limit_s(module)):
                text = "The stop took too long and is abandoned"
                module.voice.say("heart", Level.CRITICAL, text)

    async def close(self) -> None:
        """Take everything down."""
        for name in list(self._modules):
            await self.take_down(name)

    async def _make(self, name: str) -> Module:
        paths = self.paths.module(name)
        if self.site.cluster is None or self.site.key is None:
            # An administrator may have carried the key here meanwhile.
            await self.refresh_site()
        cluster, _ = self.site.require()
        module_id = folders.module_id(paths)
        if module_id is None:
            raise LocalFault(
                f"module {name} has lost its id", f"safekit module install -r -m {name}"
            )
        await asyncio.to_thread(reset.settle, paths)
        config = active_config(paths)
        file = str(paths.safeconf)
        peer = check_against(config, cluster, self.site.node, file=file)
        plan = await asyncio.to_thread(
            plan_module, paths, module_id, config, cluster, self.site.node, peer
        )
        return Module(self.site, plan, self._runner, self.clock, self.view)

    async def _start_later(self, module: Module, who: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if self._modules.get(module.name) is module and module.snapshot.state is State.STOP:
            module.post(ActionRequested("start", who))


def active_config(paths: ModulePaths) -> ModuleConfig:
    """The configuration in force. Raises ConfigError, OSError."""
    return userconfig.parse(paths.safeconf.read_bytes(), str(paths.safeconf), {})


def stop_limit_s(module: Module) -> float:
    """How long a stop of this module may take at most."""
    user = module.plan.config.user
    scripts_s = 0.0 if user is None else user.nicestoptimeout_s + user.forcestoptimeout_s
    return STOP_MARGIN_S + _STOP_SCRIPTS * scripts_s
