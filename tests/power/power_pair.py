"""Two real workers on one loop, on disks that lose power; a small daemon by hand for each.

Everything is the product's but three things: nothing is mounted (operations are given to the
primary as the mount would), the disks are those of `power_disk.py`, and who leads is decided here,
with the product's records, reunion table and choice of mode.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from power_disk import Disk, PowerCut

from safepy.core import records, syncmode
from safepy.core.replica import intent, ops
from safepy.core.reunion import reunion
from safepy.host.loop import Loop
from safepy.model import Active, PeerView, Record, State, Status
from safepy.model import Disk as Quality
from safepy.storage.record import RecordFile
from safepy.worker import messages
from safepy.worker.main import Worker
from safepy.worker.messages import Order, Report
from safepy.worker.serving import Serving

LIMIT_S = 20.0
KEY = "17" * 32
GATE_S = 3600.0
ADDRESS = {"a": "127.0.0.1", "b": "127.0.0.2"}


class Stuck(AssertionError):
    """What must happen did not."""


class Node:
    """One node between two losses of power. `record` is the durable one."""

    def __init__(self, pair: Pair, name: str, root: Path, disk: Disk) -> None:
        self.pair = pair
        self.name = name
        self.root = root
        self.disk = disk
        self.up = True
        self.reports: list[Report] = []
        self.faults: list[str] = []
        self._file = RecordFile(str(root / "state" / "record"))
        self.record = self._file.load()
        #: Before a join that is not confirmed yet.
        self.unjoined: Record | None = None
        self._step = 0
        self._started_checkpoint = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.control = ours
        self.worker = Worker(pair.loop, theirs)

    def set_up(self) -> None:
        pair, name, root = self.pair, self.name, self.root
        peer = pair.other(name)
        self.step(
            lambda number: messages.Setup(
                step_id=number,
                module="demo",
                node=name,
                peer=peer,
                key=KEY,
                listen=(ADDRESS[name], pair.ports[name]),
                dial=(ADDRESS[peer], pair.ports[peer]),
                paths=[str(root / "data")],
                doors=[str(root / "data")],
                acknowledge_on=pair.acknowledge_on,
                acl=False,
                transfers=1,
                locktimeout_s=60.0,
                sendtimeout_s=60.0,
                keep_dir=str(root / "kept"),
                state_dir=str(root / "state"),
                checkpoint_interval_s=0.02,
                kept_closed=True,
            )
        )

    # -- the daemon ----------------------------------------

    def save(self, record: Record) -> None:
        """Durable when this returns. Raises PowerCut."""
        self._file.save(record)
        self.record = record

    def send(self, order: Order) -> None:
        self.control.send(messages.encode(order))

    def step(self, make: Callable[[int], Order]) -> None:
        self._step += 1
        number = self._step
        self.send(make(number))
        done = self.wait(lambda r: isinstance(r, messages.Done) and r.step_id == number)
        assert isinstance(done, messages.Done)
        assert done.ok, done.detail

    def wait(self, wanted: Callable[[Report], bool]) -> Report:
        found: list[Report] = []

        def come() -> bool:
            for report in self.reports:
                if wanted(report):
                    self.reports.remove(report)
                    found.append(report)
                    return True
            return False

        self.pair.until(come, f"{self.name}: no such report")
        return found[0]

    def hear(self) -> None:
        """Take reports, and answer those that any daemon answers at once."""
        while self.up:
            try:
                data = self.control.recv(1 << 16)
            except BlockingIOError:
                return
            report = messages.REPORT.decode(data)
            match report:
                case messages.FirstModification(epoch):
                    self.save(records.modified(self.record))
                    self.send(messages.ModifiedRecorded(epoch))
                case messages.CheckpointWanted(epoch):
                    self.save(records.begin_checkpoint(self.record))
                    self.send(messages.CheckpointBegun(epoch, self.record.checkpoint_started))
                case messages.CheckpointReached(epoch, number):
                    self.save(records.complete_checkpoint(self.record, number, 0.0))
                    self.send(messages.CheckpointRecorded(epoch, number))
                    self.pair.checkpoints += 1
                case messages.DiskFault(_, _, reason):
                    self.faults.append(reason)
                case messages.Alive() | messages.Log() | messages.SourceLost():
                    pass
                case _:
                    self.reports.append(report)

    @property
    def serving(self) -> Serving:
        serving = self.worker._serving
        assert serving is not None
        return serving

    def serve(self, record: Record) -> None:
        """Lead: durable first, then the gate."""
        self.save(record)
        self.step(lambda n: messages.Serve(n, record.epoch))
        self._open("alone")

    def _open(self, mode: str) -> None:
        deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + GATE_S
        self.send(messages.OpenGate(self.record.epoch, mode, deadline_s))

    def take_over(self) -> None:
        epoch = self.record.epoch
        self.step(lambda n: messages.StopFollowing(n, epoch))
        self.serve(records.take_over(self.record, "s", "boot"))

    def left_alone(self) -> None:
        """The secondary is gone: claim, confirm, release (protocol I4)."""
        if not self.record.peer_behind:
            self.save(records.claim(self.record, "s", self.unjoined))
            self.unjoined = None
            self.save(records.confirm(self.record))
        deadline_s = time.clock_gettime(time.CLOCK_BOOTTIME) + GATE_S
        self.send(messages.ReleaseHeld(self.record.epoch, deadline_s))

    def view(self, state: State) -> PeerView:
        return PeerView(self.name, state, Status.READY, self.record)

    def close(self) -> None:
        self.up = False
        worker = self.worker
        if worker._listener is not None:
            worker._listener.close()
        streams = (
            worker._serving and worker._serving.follower.live,
            worker._following and worker._following._live,
        )
        for stream in streams:
            if stream is not None:
                stream.close()
        if worker._following is not None:
            worker._following._end_transfers()
            if worker._following._attempt is not None:
                worker._following._attempt.cancel()


class Pair:
    """The two nodes, whoever has power."""

    def __init__(self, watched: list[Disk], rng: random.Random, acknowledge_on: str) -> None:
        self.rng = rng
        self.acknowledge_on = acknowledge_on
        self.loop = Loop()
        self.base = Path(tempfile.mkdtemp(prefix="safepy-power-", dir="/dev/shm"))
        self.ports = _free_ports()
        self.checkpoints = 0
        self.cuts = 0
        #: Nodes that lost what they had in memory since the story was last compared.
        self.rebooted: set[str] = set()
        #: (mode, reason) of each synchronisation that came to its end.
        self.modes: list[tuple[str, str]] = []
        self._watched = watched
        self._count = 0
        self.nodes: dict[str, Node] = {}
        self.closed: list[Node] = []

    @staticmethod
    def other(name: str) -> str:
        return "b" if name == "a" else "a"

    def begin(self, fill: Callable[[Path], None]) -> None:
        """Both nodes installed; node a has data that were there before."""
        for name in "ab":
            root = self.base / f"{name}0"
            (root / "data").mkdir(parents=True)
            (root / "state").mkdir(mode=0o700)
            if name == "a":
                fill(root / "data")
            record = Record(cluster_id="c", module="demo", node=name, peer=self.other(name))
            RecordFile(str(root / "state" / "record")).save(record)
            self._start(name, root)

    def _start(self, name: str, root: Path) -> Node:
        disk = Disk(root)
        self._watched.append(disk)
        node = self.nodes[name] = Node(self, name, root, disk)
        node.set_up()
        return node

    def close(self) -> None:
        for node in (*self.nodes.values(), *self.closed):
            node.close()
        self._watched.clear()
        for node in (*self.nodes.values(), *self.closed):
            node.control.close()
        self.loop.close()
        shutil.rmtree(self.base, ignore_errors=True)

    # -- the loop ----------------------------------------

    def turn(self) -> None:
        try:
            self.loop.turn(0.005)
        except PowerCut:
            self.notice()
        for node in list(self.nodes.values()):
            if node.up:
                node.hear()
        self.notice()

    def notice(self) -> None:
        """Raises PowerCut if a node has lost power since."""
        dead = [n for n in self.nodes.values() if n.up and n.disk.dead]
        for node in dead:
            node.close()
            self.cuts += 1
        if dead:
            raise PowerCut

    def until(self, holds: Callable[[], bool], what: str) -> None:
        limit_s = time.monotonic() + LIMIT_S
        while not holds():
            if time.monotonic() > limit_s:
                raise Stuck(what)
            self.turn()

    # -- chapters of life ----------------------------------------

    def pair_up(self, source: Node, target: Node) -> None:
        """From ALONE and idle to PRIM and SECOND."""
        for node in (source, target):  # what they said in an earlier life means nothing now
            node.hear()
            node.reports.clear()
        choice = syncmode.choose(source.record, target.view(State.WAIT))
        source.send(
            messages.AllowFollower(source.record.epoch, False, choice.mode.value, choice.reason)
        )
        target.save(records.follow(target.record, source.record.epoch, "boot", True))
        target.step(lambda n: messages.Follow(n, source.record.epoch, False))
        source.wait(lambda r: isinstance(r, messages.CaughtUp))
        said = [r for r in source.reports if isinstance(r, messages.SyncChosen)]
        self.modes += [(r.mode, r.reason) for r in said]
        source.unjoined = source.record
        source.save(records.join(source.record, target.record.checkpoint_started))
        mine = source.record
        source.send(
            messages.Join(mine.epoch, mine.gen, mine.base, list(mine.history), mine.checkpoint)
        )
        asked = target.wait(lambda r: isinstance(r, messages.AdoptRequested))
        assert isinstance(asked, messages.AdoptRequested)
        target.save(
            records.adopt(
                target.record,
                asked.epoch,
                asked.gen,
                asked.base,
                tuple(asked.history),
                asked.checkpoint,
            )
        )
        target.send(messages.Adopted(asked.epoch))
        for node in (target, source):
            node.wait(lambda r: isinstance(r, messages.Joined))
        source.unjoined = None
        source._open("prim")

    def power_back(self, name: str) -> Node:
        """The node boots again with what its disk shows."""
        old = self.nodes[name]
        self.closed.append(old)
        self.rebooted.add(name)
        self._count += 1
        root = self.base / f"{name}{self._count}"
        _renumber(root / "state" / "intent.log", old.disk.after_cut(root, self.rng))
        node = self._start(name, root)
        record = node.record
        if records.is_unconfirmed_claim(record):
            node.save(records.unclaim(record))
        return node

    def recover(self) -> tuple[Node, Node]:
        """(source, target) of a pair again, whoever lost power. Raises PowerCut if one does so
        again meanwhile: then call it again."""
        dead = [name for name, node in self.nodes.items() if not node.up]
        alive = [node for node in self.nodes.values() if node.up]
        leads = [n for n in alive if n.worker._serving is not None]
        if not leads and alive and _may_take_over(alive[0]):
            alive[0].take_over()
            leads = alive
        elif leads:
            leads[0].left_alone()
        for name in dead:
            self.power_back(name)
        source = leads[0] if leads else self._elect(set(dead))
        target = self.nodes[self.other(source.name)]
        if target.worker._following is not None:
            epoch = target.record.epoch
            target.step(lambda n: messages.StopFollowing(n, epoch))
        if target.record.disk is Quality.UPTODATE:
            target.save(records.outdated(target.record))
        self.pair_up(source, target)
        return source, target

    def _elect(self, lost_memory: set[str]) -> Node:
        a, b = self.nodes["a"], self.nodes["b"]
        for node in (a, b):
            if node.worker._following is not None:
                node.step(lambda n, e=node.record.epoch: messages.StopFollowing(n, e))
        for node in (a, b):
            if node.record.disk is Quality.UPTODATE and node.record.peer_behind:
                node.serve(records.lead(node.record, "s", "boot", same=True, forced=False))
                return node
        view = replace(b.view(State.WAIT), lost_volatile="b" in lost_memory)
        meeting = reunion(a.record, "a" in lost_memory, view)
        if meeting.source is None and meeting.row == "D1":
            source = a  # an operator says prim, on the node that has the data
        else:
            assert meeting.source is not None, f"nobody may lead: {meeting}"
            source = a if meeting.source else b
        other = self.nodes[self.other(source.name)]
        if other.record.disk is Quality.UPTODATE:
            other.save(records.outdated(other.record))
        source.serve(records.lead(source.record, "s", "boot", same=False, forced=False))
        return source


def _renumber(log: Path, numbers: dict[int, int]) -> None:
    """The log names files by inode number, which a copied tree cannot keep."""
    if not log.exists():
        return
    data = log.read_bytes()
    pieces = []
    for at in range(0, len(data), intent.BLOCK_BYTES):
        piece = data[at : at + intent.BLOCK_BYTES]
        block = intent.decode(piece)
        if block is not None:
            entries = tuple(
                replace(entry, inode=numbers.get(entry.inode, 0))
                if isinstance(entry, intent.Touched)
                else entry
                for entry in block.entries
            )
            piece = intent.encode(replace(block, entries=entries))
        pieces.append(piece)
    log.write_bytes(b"".join(pieces))


def _may_take_over(node: Node) -> bool:
    record = node.record
    synced = record.disk is Quality.UPTODATE and record.active is Active.SECONDARY
    following = node.worker._following
    return synced and following is not None and following._secondary is not None


def _free_ports() -> dict[str, int]:
    ports = {}
    for name, address in ADDRESS.items():
        with socket.socket() as probe:
            probe.bind((address, 0))
            ports[name] = probe.getsockname()[1]
    return ports


def lookup(node: Node, name: bytes) -> int:
    handle, _ = node.serving._trees[0].lookup(ops.ROOT, name)
    return handle


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """(permissions and type, content) of everything in a tree."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            found[str(path.relative_to(root))] = (path.lstat().st_mode, path.read_bytes())
    return found
