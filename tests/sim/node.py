"""A virtual node: power, a daemon around the real core, a worker twin, scripts, a disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from checkers import Checkers
from clock import Entry
from disk import Disk as NodeDisk
from twin import Worker

from safepy.core import commands as c
from safepy.core import events as e
from safepy.core.machine import initial, next_deadline, step
from safepy.core.state import ModuleState, Params, Phase
from safepy.model import Active, Disk, Record, State

if TYPE_CHECKING:
    from cluster import Cluster

WORKER_COMMANDS = (
    c.Serve,
    c.OpenGate,
    c.CloseGate,
    c.Quiesce,
    c.Demote,
    c.ReleaseHeld,
    c.AllowFollower,
    c.Join,
    c.Follow,
    c.Adopted,
    c.StopFollowing,
    c.ModifiedRecorded,
    c.CheckpointBegun,
    c.CheckpointRecorded,
)


class Node:
    def __init__(self, cluster: Cluster, params: Params) -> None:
        self.cluster = cluster
        self.clock = cluster.clock
        self.params = params
        self.name = params.node
        self.disk = NodeDisk()
        self.checkers = Checkers(self)
        self.powered = True
        self.frozen = False
        self.covered = False
        #: The virtual address is on this node; its interface is gone; it cannot be removed.
        self.has_address = False
        self.interface_gone = False
        self.address_sticks = False
        self.daemon_since = 0.0
        self.boots = 1
        self.runs = 0
        #: Seconds this node's clock stood still (a frozen virtual machine, F36).
        self.clock_lag = 0.0
        self.disk_full = self.record_fails = False
        #: The file system of the replicated directory is not mounted: an empty one shows (F48).
        self.unmounted = False
        self.full_means = Disk.OUTDATED
        self.save_s = (0.001, 0.01)
        self.script_s = (0.005, 0.3)
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.backlog: list[Callable[[], None]] = []
        self.state: ModuleState | None = None
        self.worker: Worker | None = None
        self.timer: Entry | None = None
        self.saving: Record | None = None
        self.trace: list[tuple[float, str]] = []

    # -- time ------------------------------------------------------------------------------------

    def clock_now(self) -> float:
        return self.clock.now - self.clock_lag

    def later(self, delay_s: float, call: Callable[[], object]) -> Entry:
        """A call of this node's processes: it waits while they are frozen, dies with them."""
        run, boots = self.runs, self.boots

        def due() -> None:
            if self.runs != run or self.boots != boots or not self.powered:
                return
            if self.frozen:
                self.backlog.append(due)
                return
            call()

        return self.clock.later(delay_s, due)

    # -- the daemon ------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        self.runs += 1
        params = replace(
            self.params,
            session=f"{self.name}-{self.runs}",
            boot_id=f"{self.name}-boot-{self.boots}",
            resources=self.checkers.begin(),
            checking=not self.checkers.suspended,
        )
        record = self.disk.record
        self.state = initial(params, record, self.clock_now())
        self.saving = None
        self.daemon_since = self.clock_now()
        self.happen(e.Tick())
        if record.active is not Active.NONE:
            self.happen(e.ActionRequested("start", "automatically"))

    def happen(self, event: e.Event) -> None:
        """One event for the core, now; the commands are carried out."""
        if self.state is None or not self.powered:
            return
        if self.frozen:
            self.backlog.append(lambda: self.happen(event))
            return
        before = self.state
        self.state, commands = step(self.state, event, self.clock_now())
        self.cluster.checks.nothing_new_was_left_out(self, before, event, self.state)
        self.cluster.stepped(self, before, self.state)
        for command in commands:
            self._carry_out(command)
        if self.timer is not None:
            self.timer.cancel()
        deadline = next_deadline(self.state)
        if deadline is None:
            self.timer = None
            return
        assert deadline >= self.state.now
        # A little late, as timers are.
        self.timer = self.later(deadline - self.clock_now() + 0.0005, lambda: self.happen(e.Tick()))

    def reconfigured(self) -> None:
        """The running module takes `params`, which have changed."""
        if self.state is not None:
            self.checkers.renewed()
        self.happen(e.Reconfigured(self.params))

    def _carry_out(self, command: c.Command) -> None:
        match command:
            case c.SendBeat():
                self.cluster.beat(self, self.checkers.beat(command))
            case c.SaveRecord():
                self._save(command)
            case c.RunScript():
                self._script(command)
            case c.AskWitness():
                self.note(f"  asks the witness for {command.epoch}")
                self.cluster.checks.asks_witness(self)
                self.cluster.arbiters.ask_witness(self, command)
            case c.Fence():
                self.note("  Fence")
                self.cluster.arbiters.fence(self, command)
            case c.Ping():
                self.cluster.arbiters.ping(self, command)
            case c.FeedWatchdog():
                self.cluster.arbiters.feed(self, command)
            case c.DisarmWatchdog():
                self.cluster.arbiters.disarm(self)
            case c.Cover() | c.Uncover():
                self.note(f"  {type(command).__name__}")
                self.covered = isinstance(command, c.Cover)
                if not self.covered:
                    self.cluster.checks.uncovers(self)
                ok = not self.covered or self.tree_is_ours()
                said = "" if ok else "this is not the tree that was replicated"
                self.later(0.002, lambda: self.happen(e.StepDone(command.step_id, ok, said)))
            case c.StartWorker():
                self.later(0.05, lambda: self._start_worker(command.step_id))
            case c.StopWorker():
                self._stop_worker(command.step_id)
            case c.Announce():
                self.note(f"{command.level.value} {command.text}")
            case c.SetResource():
                self.checkers.set(command.name, command.value)
                self.cluster.resource(self, command)
            case c.SetAddresses() | c.RemoveAddresses():
                self._address(command)
            case c.Reboot():
                self._reboot(command)
            case c.WatchProcesses():
                self.checkers.enable(command.checker_class, command.on)
            case c.Publish():
                pass
            case _:
                assert isinstance(command, WORKER_COMMANDS), command
                self._to_worker(command)

    def _address(self, command: c.SetAddresses | c.RemoveAddresses) -> None:
        """The kernel does one thing after the other, also after the daemon has died: a daemon
        that comes back finds an order carried out that it never heard of."""
        wanted = isinstance(command, c.SetAddresses)
        ok = not self.interface_gone if wanted else not self.address_sticks
        run, boots = self.runs, self.boots

        def done() -> None:
            if self.boots != boots or not self.powered:
                return
            if self.frozen:
                self.backlog.append(done)
                return
            if ok and self.has_address != wanted:
                self.has_address = wanted
                self.note("  the address is set" if wanted else "  the address is removed")
            if self.runs != run:
                return
            if ok and wanted:
                self.cluster.checks.address_set(self)
            self.happen(e.StepDone(command.step_id, ok, "" if ok else "no such device"))

        self.clock.later(0.02, done)

    def _reboot(self, command: c.Reboot) -> None:
        """In order: the modules are stopped, the power goes off, and what ran before runs again.
        What was counted is read from the resources."""
        self.note("  Reboot")
        self.later(0.01, lambda: self.happen(e.StepDone(command.step_id, True)))
        self.later(0.1, lambda: self.happen(e.ActionRequested("shutdown", "at shutdown")))

        def down() -> None:
            assert self.state is not None
            if self.shown is not State.STOP:
                self.later(0.1, down)
                return
            self._read_resources_later()
            self.power_off()
            self.clock.later(5.0, up)

        def up() -> None:
            self.power_on()
            self.later(0.5, lambda: self.happen(e.ActionRequested("start", "at boot time")))

        self.later(0.2, down)

    def tree_is_ours(self) -> bool:
        """The marker in the root of the tree (protocol 2.1, K14)."""
        return not self.unmounted

    def note(self, text: str) -> None:
        self.trace.append((self.clock.now, text))
        self.cluster.noted(self, text)

    def _to_worker(self, command: c.Command) -> None:
        worker = self.worker
        if not isinstance(command, c.OpenGate):
            self.note(f"  {type(command).__name__}")
        if worker is None or not worker.alive:
            step_id = getattr(command, "step_id", None)
            if step_id is not None:
                self.later(0.0005, lambda: self.happen(e.StepDone(step_id, False, "no worker")))
            return
        self.later(0.0002, lambda: worker.alive and worker.order(command))

    def _save(self, command: c.SaveRecord) -> None:
        record = command.record
        old = self.disk.record
        assert record.epoch >= old.epoch and record.promised >= old.promised
        assert self.saving is None, "two saves at once"
        self.saving = record

        def saved() -> None:
            self.saving = None
            if self.record_fails:
                self.happen(e.StepDone(command.step_id, False, "input/output error"))
                return
            self.disk.record = record
            self.cluster.saved(self, old, record)
            self.happen(e.StepDone(command.step_id, True))

        self.later(self.cluster.rng.uniform(*self.save_s), saved)

    def _script(self, command: c.RunScript) -> None:
        words = [command.name, *(["force"] if command.force else []), *command.arguments]
        self.note(f"  run {' '.join(words)}")
        if command.name.startswith("start_"):
            self.cluster.checks.application_starts(self)
        duration = self.cluster.rng.uniform(*self.script_s)
        ok = command.name not in self.failing
        if command.name in self.hanging:
            if command.timeout_s is None:
                return
            duration, ok = command.timeout_s, False
        self.later(duration, lambda: self.happen(e.StepDone(command.step_id, ok)))

    # -- the worker ------------------------------------------------------------------------------

    def _start_worker(self, step_id: int) -> None:
        if self.worker is None or not self.worker.alive:
            self.worker = Worker(self)
        self.note("  StartWorker")
        self.happen(e.StepDone(step_id, True))

    def _stop_worker(self, step_id: int) -> None:
        if self.worker is not None:
            self.worker.die()
            self.worker = None
        self.note("  StopWorker")
        self.later(0.01, lambda: self.happen(e.StepDone(step_id, True)))

    # -- faults ----------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        if self.worker is None or not self.worker.alive:
            return
        self.cluster.fails(self, power=False)
        self.worker.die()
        self.worker = None
        self.later(0.05, lambda: self.happen(e.WorkerDied("killed")))

    def kill_daemon(self, back_after_s: float | None = 1.0) -> None:
        """The worker dies with it; systemd starts it again."""
        if self.state is None:
            return
        self.cluster.fails(self, power=False)
        if self.worker is not None:
            self.worker.die()
            self.worker = None
        self._record_in_flight()
        self._read_resources_later()
        self.state = None
        self.runs += 1
        self.note("daemon killed")
        if back_after_s is not None:
            self.later(back_after_s, self.start_daemon)

    def _read_resources_later(self) -> None:
        """What the next run of the daemon finds in the resources."""
        assert self.state is not None
        known = self.state.maintenance
        if known is not None and known.until <= self.clock_now():
            known = None
        fault = self.state.fault if self.state.phase is Phase.STOPPED else ""
        loop = self.state.loop
        self.params = replace(self.params, loop=loop, fault=fault, maintenance=known)

    def _record_in_flight(self) -> None:
        if self.saving is not None and self.cluster.rng.random() < 0.5:
            self.cluster.saved(self, self.disk.record, self.saving)
            self.disk.record = self.saving
        self.saving = None

    def power_off(self) -> None:
        if not self.powered:
            return
        self.cluster.fails(self, power=True)
        if self.worker is not None:
            self.worker.die()
            self.worker = None
        self._record_in_flight()
        self.powered = self.frozen = self.covered = self.has_address = False
        self.cluster.arbiters.disarm(self)
        self.backlog.clear()
        self.state = None
        self.runs += 1
        self.disk.power_loss(self.cluster.rng)
        self.note("power off")

    def power_on(self) -> None:
        if self.powered:
            return
        self.powered = True
        self.boots += 1
        self.note("power on")
        self.start_daemon()

    def freeze(self) -> None:
        if self.powered and not self.frozen:
            self.cluster.fails(self, power=False)
            self.frozen = True
            self.frozen_at = self.clock.now
            self.note("frozen")

    def awake(self, clock_stood_still: bool = False, told: bool = True) -> None:
        if not self.frozen:
            return
        self.frozen = False
        gap = self.clock.now - self.frozen_at
        self.note(f"awake after {gap:.1f} s")
        if clock_stood_still:
            self.clock_lag += gap
            self.cluster.checks.slept_unnoticed(self)
        waiting, self.backlog = self.backlog, []
        if told and not clock_stood_still and self.state is not None:
            self.happen(e.Paused(gap))
        for call in waiting:
            call()

    # -- what is true ----------------------------------------------------------------------------

    @property
    def shown(self) -> State | None:
        return None if self.state is None else self.state.state

    def has(self) -> set[int]:
        """The writes that are here, applied or received."""
        received = () if self.worker is None else self.worker.received
        return self.disk.tree | {each.number for each in received if not each.checkpoint}

    @property
    def healthy(self) -> bool:
        """Could take over with everything that was acknowledged."""
        if self.state is None or self.frozen or not self.powered:
            return False
        if self.worker is None or not self.worker.alive:
            return False
        if self.disk_full or self.worker.unfit:
            return False
        in_sync = self.state.phase is Phase.FOLLOWING and self.state.synced
        return self.disk.record.disk is Disk.UPTODATE and (in_sync or self.state.serving)
