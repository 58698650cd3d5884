"""Each command becomes an action; what takes time ends as `StepDone`.

Commands are begun in the order given. Those that meet on the same thing (the record; mounts and
the worker's start and end) also end in that order, each behind a first-come lock. Orders to the
worker keep their order on its socket. What the world refuses (an errno, a failed script, a dead
worker) is a `StepDone` that is not ok; any other exception is a bug and ends the daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from safepy.core import commands, events
from safepy.core.commands import Command
from safepy.core.events import Event
from safepy.daemon.logs import Voice
from safepy.daemon.reporting import level_of, sentence
from safepy.daemon.trees import Trees
from safepy.daemon.worker_link import WorkerLink
from safepy.errors import SafekitError
from safepy.host.reboot import reboot
from safepy.model import Beat, Disk, Level, Record
from safepy.storage.record import RecordFile
from safepy.storage.resources import Resources

#: Classes of resources whose changes the module log shows, if they become up or down (reference
#: 12, 15.5); what the core sets to `init` is no news.
LOGGED = ("heartbeat", "heartbeatlocaladdr", "rfs", "splitbrain")

COUNTER = "heart.stopstartloop"

#: Of these "down" is nothing to tell.
USUALLY_DOWN = ("rfs.degraded", "rfs.syncat")

log = logging.getLogger(__name__)


class BeatSender(Protocol):
    def send(self, lane: str, beat: Beat) -> None: ...


#: No configuration asks for a watchdog yet.
NO_WATCHDOG = "This version cannot feed a hardware watchdog: this node is not guarded"


class HasStep(Protocol):
    @property
    def step_id(self) -> int: ...


class Scripts(Protocol):
    async def run(
        self, name: str, arguments: tuple[str, ...], force: bool, timeout_s: float | None
    ) -> None:
        """Raises ScriptError."""
        ...


class VirtualAddresses(Protocol):
    """Both raise LocalFault, and end within a bounded time."""

    async def set(self) -> None: ...
    async def remove(self) -> None: ...


class Checker(Protocol):
    def enable(self, checker_class: str, on: bool, /) -> None: ...


class Witnesses(Protocol):
    async def ask(self) -> None:
        """Raises LocalFault if none of them answers."""
        ...


@dataclass(slots=True)
class Parts:
    """What one module's executor acts on."""

    module: str
    voice: Voice
    record_file: RecordFile
    #: What is durable now; the executor keeps it up to date.
    record: Record
    resources: Resources
    beats: BeatSender
    scripts: Scripts
    checkers: tuple[Checker, ...]
    #: None without `<rfs>`.
    trees: Trees | None
    worker: WorkerLink | None
    #: None without `<splitbrain>`.
    witnesses: Witnesses | None = None
    #: None without `<vip>`.
    addresses: VirtualAddresses | None = None


class Executor:
    """Carries out the commands of one module. `run` owns its tasks."""

    def __init__(
        self, parts: Parts, post: Callable[[Event], None], publish: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._post = post
        self._publish = publish
        self._record_lock = asyncio.Lock()
        self._mount_lock = asyncio.Lock()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the tasks of the steps until cancelled; a bug in one of them is raised here."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.Event().wait()

    def perform(self, command: Command, now_s: float) -> None:
        """Begin `command`, which was decided at `now_s`."""
        parts = self._parts
        match command:
            case commands.SendBeat():
                parts.beats.send(command.lane, command.beat)
            case commands.SaveRecord():
                self._begin(command, self._save_record(command.record))
            case commands.RunScript():
                self._begin(
                    command,
                    parts.scripts.run(
                        command.name, command.arguments, command.force, command.timeout_s
                    ),
                )
            case commands.Cover():
                self._begin(command, self._cover())
            case commands.Uncover():
                self._begin(command, self._uncover())
            case commands.StartWorker():
                self._begin(command, self._start_worker(command.step_id))
            case commands.StopWorker():
                self._begin(command, self._stop_worker(command.step_id))
            case commands.SetAddresses():
                self._begin(command, None if parts.addresses is None else parts.addresses.set())
            case commands.RemoveAddresses():
                self._begin(command, None if parts.addresses is None else parts.addresses.remove())
            case commands.Ping() if parts.witnesses is not None:
                self._begin(command, parts.witnesses.ask())
            case commands.AskWitness() | commands.Fence() | commands.Ping():
                # The configuration offers no other arbiter yet, so nothing asks one.
                self._refuse(command)
            case commands.FeedWatchdog() | commands.DisarmWatchdog():
                parts.voice.say("heart", Level.CRITICAL, NO_WATCHDOG)
            case commands.Reboot():
                self._begin(command, reboot(command.reason))
            case commands.WatchProcesses():
                for checker in parts.checkers:
                    checker.enable(command.checker_class, command.on)
            case commands.Announce():
                parts.voice.say(command.origin, command.level, command.text)
            case commands.SetResource():
                self._set_resource(command)
            case commands.Publish():
                self._publish()
            case (
                commands.Serve()
                | commands.Quiesce()
                | commands.Demote()
                | commands.Follow()
                | commands.StopFollowing()
            ):
                # Sent now, so that it keeps its place among the orders that are not answered.
                self._begin(command, None if parts.worker is None else parts.worker.step(command))
            case (
                commands.OpenGate()
                | commands.CloseGate()
                | commands.ReleaseHeld()
                | commands.AllowFollower()
                | commands.Join()
                | commands.Adopted()
                | commands.ModifiedRecorded()
                | commands.CheckpointBegun()
                | commands.CheckpointRecorded()
            ):
                if parts.worker is not None:
                    parts.worker.order(command, now_s)
            case _:
                assert_never(command)

    def _refuse(self, command: HasStep) -> None:
        """Said at once: an arbiter that is not there must not look like one that is slow."""
        what = type(command).__name__
        self._post(events.StepDone(command.step_id, False, f"this version cannot carry out {what}"))

    def _begin(self, command: HasStep, action: Awaitable[None] | None) -> None:
        """Carry `action` out in a task of its own (None: it is vacuously true)."""
        if action is None:
            self._post(events.StepDone(command.step_id, True))
            return
        assert self._tasks is not None, "the executor runs before the core does"
        name = f"{self._parts.module} {type(command).__name__} {command.step_id}"
        self._tasks.create_task(self._finish(command, action), name=name)

    async def _finish(self, command: HasStep, action: Awaitable[None]) -> None:
        try:
            await action
        except (SafekitError, OSError) as error:
            what = type(command).__name__
            log.warning("%s: %s: %s", self._parts.module, what, error)
            self._post(events.StepDone(command.step_id, False, str(error)))
        else:
            self._post(events.StepDone(command.step_id, True))

    async def _save_record(self, record: Record) -> None:
        parts = self._parts
        async with self._record_lock:
            fresh = parts.record.disk is Disk.UNCONFIGURED
            if parts.trees is not None and fresh and record.disk is not Disk.UNCONFIGURED:
                await asyncio.to_thread(parts.trees.put_marks)
            await asyncio.to_thread(parts.record_file.save, record)
            parts.record = record

    async def _cover(self) -> None:
        parts = self._parts
        async with self._mount_lock:
            if parts.worker is not None and not parts.worker.running:
                await parts.worker.end_old()
            if parts.trees is not None:
                marked = parts.record.disk is not Disk.UNCONFIGURED
                await asyncio.to_thread(parts.trees.cover, marked)
                if parts.worker is None or not parts.worker.running:
                    for sentence in await asyncio.to_thread(parts.trees.check_open_files):
                        parts.voice.say("rfsplug", Level.EVENT, sentence)

    async def _uncover(self) -> None:
        async with self._mount_lock:
            if self._parts.trees is not None:
                await asyncio.to_thread(self._parts.trees.uncover)

    async def _start_worker(self, step_id: int) -> None:
        async with self._mount_lock:
            if self._parts.worker is not None:
                await self._parts.worker.start(step_id)
                if self._parts.trees is not None:
                    self._parts.trees.taken_over()

    async def _stop_worker(self, step_id: int) -> None:
        async with self._mount_lock:
            if self._parts.worker is not None:
                await self._parts.worker.stop(step_id)
            if self._parts.trees is not None:
                await asyncio.to_thread(self._parts.trees.detach_dead)

    def _set_resource(self, command: commands.SetResource) -> None:
        parts = self._parts
        if command.name == COUNTER:
            # The history shows every detection, though the value is when counting began (9.4).
            parts.resources.set(command.name, command.value, command.who, True)
            parts.resources.hurry()
        elif parts.resources.set(command.name, command.value, command.who):
            if command.name.partition(".")[0] not in LOGGED or command.value not in ("up", "down"):
                return
            if command.name in USUALLY_DOWN and command.value == "down":
                return
            level = level_of(command.name, command.value)
            if level is not None:
                text = sentence(command.name, command.value, command.who)
                parts.voice.say(command.who, level, text)
