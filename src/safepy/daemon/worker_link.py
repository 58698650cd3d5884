"""Between the core's words and the worker's: commands become orders, reports become events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec

from safepy.core import commands, events
from safepy.daemon.inspection import Inspection
from safepy.daemon.logs import Voice
from safepy.daemon.worker_handle import WorkerHandle, end_old_worker
from safepy.errors import LocalFault
from safepy.model import Disk, Level, Progress
from safepy.worker import messages

#: The worker unmounts, closes and seals the trees within this, or is killed. Millions of names take
#: minutes; one that hangs is ended much earlier, because it is silent (`WorkerHandle`).
EXIT_LIMIT_S = 3600.0
#: A worker that was killed is gone within this, unless the kernel itself hangs.
KILL_LIMIT_S = 5.0

log = logging.getLogger(__name__)

Step = (
    commands.Serve | commands.Quiesce | commands.Demote | commands.Follow | commands.StopFollowing
)
Order = (
    commands.OpenGate
    | commands.CloseGate
    | commands.ReleaseHeld
    | commands.AllowFollower
    | commands.Join
    | commands.Adopted
    | commands.ModifiedRecorded
    | commands.CheckpointBegun
    | commands.CheckpointRecorded
)


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How the worker of a module is started."""

    argv: Sequence[str]
    pid_path: str
    silence_s: float
    #: Its first order; `step_id` is filled in.
    setup: messages.Setup


class WorkerLink:
    """At most one worker at a time. `post` takes events; `on_alive` is told each second."""

    def __init__(
        self,
        module: str,
        plan: Callable[[], WorkerPlan],
        voice: Voice,
        post: Callable[[events.Event], None],
        on_alive: Callable[[], None],
    ) -> None:
        self._module = module
        self._plan = plan
        self._voice = voice
        self._post = post
        self._on_alive = on_alive
        self._handle: WorkerHandle | None = None
        self._wanted = False
        self._pending: dict[int, asyncio.Future[None]] = {}
        #: Of the resynchronisation that runs, as last heard.
        self.progress: Progress | None = None
        #: A synchronisation that has just ended.
        self.finished: Progress | None = None
        #: What the worker last said that it does, and what it was asked beside its orders.
        self.alive = messages.Alive(False, 0, 0, 0)
        self.inspection = Inspection(self._send)

    async def start(self, step_id: int) -> None:
        """A worker runs with its doors open. Raises LocalFault."""
        if self.running:
            return
        plan = self._plan()
        self._wanted = True
        self._handle = await WorkerHandle.start(
            self._module, plan.pid_path, plan.silence_s, self._heard, self._died, plan.argv
        )
        await self._ask(step_id, msgspec.structs.replace(plan.setup, step_id=step_id))

    async def stop(self, step_id: int) -> None:
        """No worker runs, not even one of an earlier daemon. Raises LocalFault."""
        handle = self._handle
        self._wanted = False
        if handle is not None and handle.alive:
            handle.send(messages.Exit(step_id))
            if not await handle.ended(EXIT_LIMIT_S):
                handle.kill("it did not exit")
                await handle.ended(KILL_LIMIT_S)
        self._handle = None
        await self.end_old()

    async def end_old(self) -> None:
        """A worker that outlived an earlier daemon is gone. Raises LocalFault."""
        await end_old_worker(self._plan().pid_path)

    @property
    def running(self) -> bool:
        return self._handle is not None and self._handle.alive

    def step(self, command: Step) -> asyncio.Future[None]:
        """Send the order now; the future ends with its `Done`, with LocalFault if that says so
        or if the worker dies first."""
        match command:
            case commands.Serve():
                return self._ask(command.step_id, messages.Serve(command.step_id, command.epoch))
            case commands.Quiesce():
                return self._ask(command.step_id, messages.Quiesce(command.step_id, command.epoch))
            case commands.Demote():
                return self._ask(command.step_id, messages.Demote(command.step_id, command.epoch))
            case commands.Follow():
                order = messages.Follow(
                    command.step_id, command.epoch, command.keep_aside, command.restored
                )
                return self._ask(command.step_id, order)
            case commands.StopFollowing():
                stop = messages.StopFollowing(command.step_id, command.epoch)
                return self._ask(command.step_id, stop)
            case _:
                assert_never(command)

    def order(self, command: Order, now_s: float) -> None:
        """Send an order that is not answered. Deadlines count from `now_s`, the moment of the
        decision on CLOCK_BOOTTIME: a pause in between makes them shorter, never longer."""
        match command:
            case commands.OpenGate():
                deadline_s = now_s + command.deadline_s
                self._send(messages.OpenGate(command.epoch, str(command.mode), deadline_s))
            case commands.CloseGate():
                self._send(messages.CloseGate(command.epoch))
            case commands.ReleaseHeld():
                self._send(messages.ReleaseHeld(command.epoch, now_s + command.deadline_s))
            case commands.AllowFollower():
                self._send(
                    messages.AllowFollower(
                        command.epoch,
                        command.keep_aside,
                        str(command.mode),
                        command.reason,
                        command.since,
                    )
                )
            case commands.Join():
                self._send(
                    messages.Join(
                        command.epoch,
                        command.gen,
                        command.base,
                        list(command.history),
                        command.checkpoint,
                    )
                )
            case commands.Adopted():
                self._send(messages.Adopted(command.epoch))
            case commands.ModifiedRecorded():
                self._send(messages.ModifiedRecorded(command.epoch))
            case commands.CheckpointBegun():
                self._send(messages.CheckpointBegun(command.epoch, command.number))
            case commands.CheckpointRecorded():
                self._send(messages.CheckpointRecorded(command.epoch, command.number))
            case _:
                assert_never(command)

    def tune(self) -> None:
        """The worker that runs, if any, goes on with what may change in the configuration."""
        setup = self._plan().setup
        self._send(
            messages.Tune(
                setup.acknowledge_on,
                setup.transfers,
                setup.reitimeout_s,
                setup.reidetail,
                setup.listen,
                setup.dial,
            )
        )

    def abandon(self) -> None:
        """The daemon gives up: nothing may be answered any more."""
        self._wanted = False
        if self._handle is not None:
            self._handle.kill("safeadmin ends")

    def _send(self, order: messages.Order) -> bool:
        return self._handle is not None and self._handle.send(order)

    def _ask(self, step_id: int, order: messages.Order) -> asyncio.Future[None]:
        answer = asyncio.get_running_loop().create_future()
        if self._send(order):
            self._pending[step_id] = answer
        else:
            answer.set_exception(LocalFault("no worker runs"))
        return answer

    def _died(self, reason: str) -> None:
        self._handle = None
        self.progress = self.finished = None
        self.alive = messages.Alive(False, 0, 0, 0)
        self._on_alive()
        self.inspection.worker_gone(reason)
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            if not answer.done():
                answer.set_exception(LocalFault(f"the worker died: {reason}"))
        if self._wanted:
            self._post(events.WorkerDied(reason))

    def _heard(self, report: messages.Report) -> None:
        match report:
            case messages.Done():
                self._done(report)
            case messages.Alive():
                self._alive(report)
            case messages.Log():
                self._voice.say(report.origin, _level(report.level), report.text)
            case messages.ReplicaLost():
                self._post(events.ReplicaLost(report.epoch, report.reason))
            case messages.SourceLost():
                self._post(events.SourceLost(report.epoch, report.reason))
            case messages.CaughtUp():
                self._post(events.CaughtUp(report.epoch))
            case messages.AdoptRequested():
                self._post(
                    events.AdoptRequested(
                        report.epoch,
                        report.gen,
                        report.base,
                        tuple(report.history),
                        report.checkpoint,
                    )
                )
            case messages.Joined():
                self._post(events.Joined(report.epoch))
            case messages.ResyncFailed():
                self._post(events.ResyncFailed(report.epoch, report.reason, report.fatal))
            case messages.FirstModification():
                self._post(events.FirstModification(report.epoch))
            case messages.SyncChosen():
                self._post(events.SyncChosen(report.epoch, report.mode, report.reason))
            case messages.CheckpointWanted():
                self._post(events.CheckpointWanted(report.epoch))
            case messages.CheckpointReached():
                self._post(events.CheckpointReached(report.epoch, report.number))
            case messages.VerifyProgress() | messages.VerifyDone() | messages.Estimated():
                self.inspection.heard(report)
            case messages.DiskFault():
                self._post(events.DiskFault(report.epoch, Disk(report.disk), report.reason))
            case messages.GateStale():
                self._post(events.GateStale(report.epoch))
            case _:
                assert_never(report)

    def _done(self, report: messages.Done) -> None:
        answer = self._pending.pop(report.step_id, None)
        if answer is None or answer.done():
            return
        if report.ok:
            answer.set_result(None)
        else:
            answer.set_exception(LocalFault(report.detail))

    def _alive(self, report: messages.Alive) -> None:
        if report.peer_heard:
            self._post(events.ReplicaHeard())
        self.alive = report
        self.progress, self.finished = self._told(report.progress), self._told(report.finished)
        self._on_alive()

    def _told(self, fields: dict[str, str | int | float | None] | None) -> Progress | None:
        try:
            return None if fields is None else msgspec.convert(fields, Progress)
        except msgspec.ValidationError as error:
            log.warning("%s: progress of the worker: %s", self._module, error)
            return None


def _level(letter: str) -> Level:
    try:
        return Level(letter)
    except ValueError:
        return Level.INFO
