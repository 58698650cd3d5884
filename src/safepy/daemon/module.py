"""One configured module on this node: its runtime and everything around it, put together."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace

from safepy.checkers.hostview import HostView
from safepy.checkers.mount import MountChecker
from safepy.config.schema import Rfs
from safepy.core import machine, restarts, status
from safepy.core.events import ActionRequested, Event, Reconfigured, SyncDue, Tick
from safepy.core.state import ModuleState, Params
from safepy.daemon.addresses import Addresses, orders
from safepy.daemon.beats import Beats
from safepy.daemon.checking import (
    Checking,
    Surroundings,
    door_of,
    witnesses_of,
)
from safepy.daemon.executor import Executor, Parts
from safepy.daemon.figures import Figures
from safepy.daemon.logs import Voice
from safepy.daemon.parameters import params_of
from safepy.daemon.plan import Plan, trees_of, worker_plan
from safepy.daemon.publishing import Published
from safepy.daemon.remembered import begin_resources, identified, setting
from safepy.daemon.renewing import Renewable
from safepy.daemon.reporting import Reporter
from safepy.daemon.runtime import Runtime
from safepy.daemon.scheduling import Scheduler
from safepy.daemon.scripting import ModuleScripts
from safepy.daemon.site import Site
from safepy.daemon.watching import Watching
from safepy.daemon.worker_link import WorkerLink, WorkerPlan
from safepy.errors import ScriptError
from safepy.host.clock import Clock
from safepy.host.scripts import ScriptRunner
from safepy.model import Active, Level, Record, Snapshot, State
from safepy.storage.modulelog import ModuleLog
from safepy.storage.record import RecordFile
from safepy.storage.resources import Resources
from safepy.web.probe import ReadySince
from safepy.wire.heartbeat import Opener, Sealer

#: A resource: the boot id in which the module was started, or "no".
STARTED = "heart.started"
NOT_STARTED = "no"
#: The pause that counts as sleep where no timeout of a lane says it (a light module).
PAUSE_S = 7.5


class Module(Published):
    """Lives from the daemon's start, or a configuration, to the next one."""

    def __init__(
        self, site: Site, plan: Plan, runner: ScriptRunner, clock: Clock, view: HostView
    ) -> None:
        """Raises LocalFault when the module's record is damaged or belongs to something else."""
        cluster, key = site.require()
        self.plan = plan
        self.name = plan.name
        self.cluster_id = cluster.cluster_id
        super().__init__(clock)
        self._boot_id = boot_id()
        self._session = secrets.token_hex(16)
        self._site = site
        self._view = view
        self.ready_since = ReadySince()
        #: What the other node hears of resources, and of which version of them.
        self._told: tuple[int, tuple[tuple[str, str], ...]] = (-1, ())
        #: The host or the daemon goes down: what was started stays noted as started.
        self.going_down = False
        paths, config = plan.paths, plan.config
        record_file = RecordFile(str(paths.record))
        record = identified(record_file.load(), cluster.cluster_id, plan)
        self.voice = Voice(self.name, ModuleLog(str(paths.log_db)))
        self.resources = Resources(str(paths.resource_db))
        #: What an earlier daemon noted (`boot.wanted_by`).
        self.started_before = self.resources.get(STARTED) or ""
        begin_resources(self.resources, plan)
        self.scripts = ModuleScripts(runner, site.paths, paths, config.user, self.voice)
        self.reporter = Reporter(self.resources, self.voice, self.post)
        self.trees = trees_of(paths, config)
        self._errd = Renewable(self._make_errd())
        self._checking = Renewable(self._make_checking())
        params = self._params()
        self._sealer = Sealer(key, self.name, plan.node, self._session)
        self._opener = Opener(key, self.name, plan.peer)
        self._beats = Renewable(self._make_beats())
        self.worker: WorkerLink | None = None
        self.figures = Figures(self.resources)
        if self.trees is not None:
            self.figures.begin()
            self.worker = WorkerLink(
                self.name, self._worker_plan, self.voice, self.post, self._worker_alive
            )
        self.addresses: Addresses | None = None
        if config.vip is not None:
            order = orders(config.vip, paths.state_dir)
            self.addresses = Addresses(self.name, config.vip, order, self.voice.say, self._note)
        syncat = "" if config.rfs is None else config.rfs.syncat
        self._scheduler = Scheduler(syncat, self._sync_due)
        self._mount_checker = self._mounts_to_check()
        self.parts = Parts(
            module=self.name,
            voice=self.voice,
            record_file=record_file,
            record=record,
            resources=self.resources,
            beats=self.beats,
            scripts=self.scripts,
            checkers=(self.errd, self.checking),
            trees=self.trees,
            worker=self.worker,
            witnesses=self._witnesses,
            addresses=self.addresses,
        )
        self._executor = Executor(self.parts, self.post, self.publish)
        self._runtime = Runtime(
            machine.initial(params, record, clock.boottime()),
            self._executor.perform,
            clock.boottime,
            self._pause_s(),
        )
        self.snapshot = self._take_snapshot()

    async def run(self) -> None:
        """Work until cancelled; then no worker lives. A bug is raised."""
        self.scripts.begin()
        self.post(Tick())
        try:
            async with asyncio.TaskGroup() as tasks:
                for what, work in (
                    ("executor", self._executor.run()),
                    ("heartbeats", self._beats.run()),
                    ("errd", self._errd.run()),
                    ("checkers", self._checking.run()),
                    ("syncat", self._scheduler.run()),
                    ("checktime", self._mount_checker.run()),
                    ("heart", self._runtime.run()),
                ):
                    tasks.create_task(work, name=f"{self.name} {what}")
                if self.addresses is not None:
                    tasks.create_task(self.addresses.run(), name=f"{self.name} addresses")
        finally:
            if self.worker is not None:
                self.worker.abandon()
            self.voice.close()
            self.resources.close()

    def post(self, event: Event) -> None:
        self._runtime.post(event)

    # What a changed configuration exchanges.

    @property
    def errd(self) -> Watching:
        return self._errd.part

    @property
    def checking(self) -> Checking:
        return self._checking.part

    @property
    def beats(self) -> Beats:
        return self._beats.part

    def _make_errd(self) -> Watching:
        made = Watching(
            self.plan.config.errd,
            self._view,
            self.reporter,
            self.voice,
            self.happened,
            self.scripts.handler,
            lambda: not self.in_maintenance,
            self.plan.paths.errdlist,
        )
        self.scripts.before = made.before_script
        if not setting(self.resources, "errd", True):
            made.suspend(True)
        return made

    def _make_checking(self) -> Checking:
        self._witnesses = witnesses_of(self.plan.config.checks, self.reporter.report)
        made = Checking(self.plan.config.checks, self._surroundings())
        made.suspend(not setting(self.resources, "checker", True))
        return made

    def _make_beats(self) -> Beats:
        return Beats(
            self.name,
            self.plan.lanes,
            self._sealer,
            self._opener,
            self.post,
            self._lane_trouble,
            self._told_resources,
        )

    def _pause_s(self) -> float:
        timeouts_s = [beat.timeout_s for beat in self.plan.config.heartbeats]
        return min(timeouts_s) / 4 if timeouts_s else PAUSE_S

    async def reconfigure(self, plan: Plan, forget: tuple[str, ...] = ()) -> None:
        """Go on with this configuration, which differs only in what may change while the module
        runs (`config/dynamic.py`). `forget`: resources that are settings of an operator, which it
        undoes (reference 9.6). Ends when all parts are exchanged; the core is told last, and
        enables in the new parts what was enabled in the old ones."""
        before, self.plan = self.plan, plan
        for name in forget:
            self.resources.drop(name)
        for check in set(before.config.checks) - set(plan.config.checks):
            self.resources.drop(check.resource)
        begin_resources(self.resources, plan, keep=True)
        self.scripts.renew(plan.config.user)
        await self._errd.renew(self._make_errd())
        await self._checking.renew(self._make_checking())
        self.parts.checkers = (self.errd, self.checking)
        self.parts.witnesses = self._witnesses
        if plan.lanes != before.lanes:
            await self._beats.renew(self._make_beats())
            self.parts.beats = self.beats
        if self.worker is not None:
            self.worker.tune()
        self._runtime.pause_s = self._pause_s()
        self.post(Reconfigured(self._params()))

    @property
    def in_maintenance(self) -> bool:
        """Nothing may happen by itself now."""
        found = self._runtime.state.maintenance
        return found is not None and self._clock.boottime() < found.until

    @property
    def now_s(self) -> float:
        """On the clock of the core."""
        return self._clock.boottime()

    async def happened(self, event: Event) -> None:
        """As `post`; returns when the core has dealt with it."""
        await self._runtime.happened(event)

    def publish(self) -> None:
        """Make the present state the one that everybody sees."""
        self._note_started()
        self.snapshot = self._take_snapshot()
        self.ready_since.seen(self.snapshot)
        if self.snapshot.state is State.STOP:
            self.errd.end_own_classes()
        self.shown()

    def look(self) -> Snapshot:
        """What is true now. `snapshot` is what the last change showed: enough for the probe, but
        a resource that a checker set since is not in it."""
        return self._take_snapshot()

    @property
    def record(self) -> Record:
        return self.parts.record

    @property
    def state(self) -> ModuleState:
        """All that the core knows; a value, which nobody may change."""
        return self._runtime.state

    @property
    def loop(self) -> tuple[int, bool]:
        """What detectors asked for in the present interval, and whether it was too much (9.4)."""
        state, now_s = self._runtime.state, self._clock.boottime()
        params = state.params
        reached = restarts.reached(state.loop, now_s, params.maxloop, params.loop_interval_s)
        return state.loop.count, reached

    async def force_stop(self, limit_s: float) -> None:
        """The forced stop scripts have run, and nothing of ours is mounted. Raises LocalFault."""
        for name in ("stop_sec", "stop_prim", "stop_second", "stop_both"):
            with contextlib.suppress(ScriptError):  # it is in the log
                await self.scripts.run(name, ("WAIT", "STOP", "stop"), True, limit_s)
        if self.trees is not None:
            await asyncio.to_thread(self.trees.uncover)
        if self.addresses is not None:
            await self.addresses.remove()

    @property
    def was_active(self) -> bool:
        return self.parts.record.active is not Active.NONE

    def _note(self, resource: str, value: str, who: str) -> None:
        """A number that changes all the time: stored, and no line in the log."""
        self.resources.set(resource, value, who, log=False)

    def _note_started(self) -> None:
        """For the next start of the daemon (`boot.wanted_by`)."""
        state = self._runtime.state
        started = NOT_STARTED if state.state is State.STOP else self._boot_id
        if not self.going_down and self.resources.get(STARTED) != started:
            self.resources.set(STARTED, started, "safeadmin", log=False)
            self.resources.hurry()

    def _take_snapshot(self) -> Snapshot:
        clock = self._clock
        snapshot = status.snapshot(self._runtime.state, clock.wall(), clock.boottime())
        resources = {entry[0]: entry for entry in snapshot.resources}
        for resource in self.resources.all():
            resources[resource.name] = (resource.name, resource.value, resource.time_s)
        return replace(
            snapshot,
            resources=tuple(resources[name] for name in sorted(resources)),
            progress=None if self.worker is None else self.worker.progress,
            notes=(*snapshot.notes, *self.beats.troubles.values(), *self.checking.notes()),
            dropped=self._dropped(),
        )

    def _dropped(self) -> tuple[tuple[str, int], ...]:
        old = self._runtime.state.links.dropped
        return (*self.beats.dropped(), *((("old or repeated", old),) if old else ()))

    def _told_resources(self) -> tuple[tuple[str, str], ...]:
        """What the other node hears: not what we know of it from itself."""
        if self._told[0] != self.resources.version:
            told = tuple(
                (each.name, each.value)
                for each in self.resources.all()
                if each.name not in ("state.remote", STARTED) and not each.name.startswith("rule.")
            )
            self._told = (self.resources.version, told)
        return self._told[1]

    def _lane_trouble(self, text: str) -> None:
        """Said in the log, and shown in the state until it is over; "": it is over."""
        if text:
            self.voice.say("heart", Level.CRITICAL, text)
        self.publish()

    def _params(self) -> Params:
        return params_of(
            self.plan, self.cluster_id, self._session, self._boot_id, self.resources, self._clock
        )

    def _worker_plan(self) -> WorkerPlan:
        assert self.trees is not None, "only modules with <rfs> have a worker"
        _, key = self._site.require()
        return worker_plan(self.plan, self.trees, key)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            report=self.reporter.report,
            say=self.voice.say,
            on_restarted=self._depended_restarted,
            changed=self.publish,
            programs=self.scripts.programs(),
            probe_port=self._site.settings.probe_port,
            witnesses=self._witnesses,
            real=lambda path: door_of(self.trees, path),
        )

    def _depended_restarted(self, module: str) -> None:
        """Of a `<module>` (reference: userconfig 15.6)."""
        self.voice.say("modulecheck", Level.EVENT, f"Module {module} was restarted")
        self.post(ActionRequested("stopstart", who="modulecheck", identity="modulecheck"))

    def _mounts_to_check(self) -> MountChecker:
        rfs = self.plan.config.rfs or Rfs(())
        return MountChecker(
            [entry.dir for entry in rfs.replicated],
            rfs.checktime_s,
            rfs.checkintv_s,
            lambda: self.snapshot.state in (State.ALONE, State.PRIM),
            self._mount_hangs,
        )

    def _mount_hangs(self, directory: str) -> None:
        """F16, where the worker's loop turns and its mount does not (reference 19.12)."""
        text = f"The replicated directory {directory} does not answer (checktime)"
        self.voice.say("nfsadmin", Level.CRITICAL, text)
        self.post(ActionRequested("stopstart", who="nfsadmin", identity="nfsadmin"))

    def _sync_due(self) -> None:
        if self.snapshot.state is not State.STOP:
            self.voice.say("heart", Level.EVENT, "The scheduled synchronisation is due (syncat)")
            self.post(SyncDue(True))

    def _worker_alive(self) -> None:
        """Progress is shown as it is heard: at most once a second."""
        assert self.worker is not None
        worker, now_s = self.worker, self._clock.monotonic()
        self.figures.heard(worker.alive, worker.progress, worker.finished, now_s)
        if self.worker.progress != self.snapshot.progress:
            self.publish()


def boot_id() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
