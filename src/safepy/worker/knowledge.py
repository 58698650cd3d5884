"""What a node knows of differences between its trees and the other node's, over its whole life.

In `state_dir`: the intent log, the path marks of a clean stop, the seal of a clean stop, what was
found by it (`findings`), and `running`, which is there while the directories are covered or
mounted: without it and without a seal, somebody may have changed anything unseen.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from safepy.core.replica.intent import ALL_TREES, WHOLE, Entry, Everything, Recovered, Touched
from safepy.core.replica.suspects import Suspects, suspects_of
from safepy.dataplane.intent import WINDOW_MARKS, Intent
from safepy.dataplane.keeper import Keeper
from safepy.dataplane.pathmarks import PathMarks
from safepy.dataplane.resync.memory import Memories
from safepy.errors import LocalFault, PeerError
from safepy.host.loop import Loop
from safepy.storage import seal, statefile
from safepy.storage.backing import Tree
from safepy.storage.intentlog import IntentLog
from safepy.storage.statefile import Findings, SavedMarks
from safepy.storage.syscalls import sync_all
from safepy.wire import replication as wire
from safepy.worker.messages import Setup

#: More paths than that are found by a walk as fast.
PATHS_MAX = 10_000
#: More suspect files than that, and all are.
FILES_MAX = 100_000
#: Paths in one message.
PATHS_A_MESSAGE = 500

NO_STATE = "there is no state directory"
CRASHED = "this node's last run ended without a stop, and its directories were open since"
NO_SEAL = "it is not known what changed on this node while it was stopped"
MANY = "many files changed on this node while it was stopped"
OWN_SUSPECTS = "this node's intent log names content that may differ"
FRESH = "this node does not know all that changed on it"


class Knowledge:
    """One for each worker. `log(level, text)` goes to the module log; everything runs on the loop
    but the seal, which has a thread of its own."""

    def __init__(
        self, loop: Loop, setup: Setup, root_fds: Sequence[int], log: Callable[[str, str], None]
    ) -> None:
        self._loop = loop
        self._root_fds = root_fds
        self._say = log
        self._folder = setup.state_dir
        self._kept_closed = setup.kept_closed
        #: This node followed a primary and has had all from it ever since: its own changes from
        #: here on are all that differs.
        self.in_sync = False
        #: What synchronisations have read and written here, while this node was their target.
        self.memories = Memories()
        #: What the other node shall get from this one, once this one serves.
        self._owed: list[tuple[int, bytes]] = []
        self._findings = Findings(everything=NO_STATE)
        self._log: IntentLog | None = None
        self._known = not self._folder
        self._when_known: list[Callable[[], None]] = []
        self._stop_sealing = threading.Event()
        # What touches the disk goes here, one after the other: an fsync may take seconds.
        self._pool = ThreadPoolExecutor(1, "knowledge")
        if self._folder:
            self._log = IntentLog(self._path("intent.log"))

    def start(self, done: Callable[[str], None]) -> None:
        """Read what the last run left; then `done(problem)`, and only then anything else. `""`:
        none."""
        if not self._folder:
            done("")
            return

        def work() -> None:
            try:
                begun = self._begin()
            except LocalFault as fault:
                problem = str(fault)
                self._loop.post(lambda: done(problem))
            except Exception as bug:  # noqa: BLE001 - it ends the process
                self._loop.fail(bug)
            else:
                self._loop.post(lambda: self._began(begun, done))

        self._pool.submit(work)

    def when_known(self, then: Callable[[], None]) -> None:
        """`then()`, now or as soon as the seal was compared."""
        if self._known:
            then()
        else:
            self._when_known.append(then)

    # -- serving ------------------------------------------------------------------------------

    def keeper(
        self,
        trees: Sequence[Tree],
        session: bytes,
        on_durable: Callable[[], None],
        on_wanted: Callable[[], None],
        on_fault: Callable[[str], None],
        window_marks: int = WINDOW_MARKS,
    ) -> Keeper:
        """For a node that begins to serve. Raises LocalFault."""
        in_sync, self.in_sync = self.in_sync, False
        self.memories.clear()
        paths = PathMarks(len(trees), "" if in_sync else FRESH)
        for tree, path in self._owed:
            paths.add(tree, "full", path)
        self._owed = []
        if self._log is None:
            return Keeper(trees, paths, None)
        self._wait()
        recovered = self._log.open()
        saved = self._saved(recovered)
        if saved is not None:
            paths.incomplete = saved.incomplete
            paths.load(saved.trees)
        told = (on_durable, on_wanted, on_fault)
        intent = Intent(self._loop, self._log, recovered, trees, session, *told, window_marks)
        keeper = Keeper(trees, paths, intent)
        self.when_known(lambda: self._tell_findings(keeper))
        return keeper

    def owe(self, paths: Sequence[tuple[int, bytes]]) -> None:
        """These differ, and this node's content is the good one: once it serves, the other node
        gets it (`rfsverify --mend second`). Raises PeerError."""
        if len(self._owed) + len(paths) > FILES_MAX or any(
            not 0 <= tree < len(self._root_fds) for tree, _ in paths
        ):
            raise PeerError("differences that cannot be meant")
        self._owed += paths

    def joined(self) -> None:
        """The peer has adopted this node's state: what was found is made good (I8)."""
        self._settle()

    def end_serving(self, keeper: Keeper, clean: bool, equal: bool) -> None:
        """`clean`: everything is flushed. `equal`: the peer has everything, too. What cannot be
        saved is compared once more than needed."""
        intent, paths = keeper.intent, keeper.paths
        if intent is None:
            return
        intent.stop()
        if not clean:
            self._pool.submit(intent.join)
            return
        trees, incomplete = paths.saved(), paths.incomplete

        def save(sequence: int) -> None:
            statefile.save(self._path("marks"), SavedMarks(sequence, trees, incomplete))

        self._do("The marks of this run are not saved", lambda: intent.end(equal, save))

    def _saved(self, recovered: Recovered) -> SavedMarks | None:
        """The marks of a clean stop, if they are those of the log's end."""
        try:
            saved = statefile.load(self._path("marks"), SavedMarks)
        except LocalFault as fault:
            self._say("W", str(fault))
            return None
        if saved is None or saved.sequence != recovered.clean_sequence:
            return None
        return saved if len(saved.trees) <= len(self._root_fds) else None

    def _tell_findings(self, keeper: Keeper) -> None:
        findings, paths = self._findings, keeper.paths
        if not findings or keeper.intent is None:
            return
        paths.incomplete = paths.incomplete or findings.unknown
        for tree, path in findings.paths:
            paths.add_found(tree, path)
        keeper.intent.suspect(_entries(findings), lambda: None)

    # -- following ----------------------------------------------------------------------------

    def offer(self) -> tuple[list[Suspects], list[wire.SyncOffer]]:
        """What may differ of this node's files although nothing shows it, and what a source hears
        of this node before it compares. Raises LocalFault."""
        findings, logged = self._findings, self._logged()
        suspects = suspects_of([*_entries(findings), *logged], len(self._root_fds), False)
        reason = findings.everything or findings.unknown or (OWN_SUSPECTS if logged else "")
        if reason:
            return suspects, [wire.SyncOffer(False, (), True, reason)]
        starts = range(0, max(1, len(findings.paths)), PATHS_A_MESSAGE)
        parts = [tuple(findings.paths[at : at + PATHS_A_MESSAGE]) for at in starts]
        return suspects, [wire.SyncOffer(True, part, part is parts[-1]) for part in parts]

    def _logged(self) -> list[Entry]:
        self._wait()
        return [] if self._log is None else [entry for _, entry in self._log.open().entries]

    def changing(self) -> None:
        """A source begins to change this tree."""
        self.in_sync = False

    def adopted(self) -> None:
        """This node took the source's identity, after both flushed: its own marks go (I8, I11)."""
        self.in_sync = True
        self.memories.clear()
        log = self._log

        def reset() -> None:
            assert log is not None
            newest = log.open().newest
            log.reset(0 if newest is None else newest.window + 1, ())

        if log is not None:
            self._do("Marks stay that are not needed any more", reset)
        self._settle()

    # -- start and end ------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _do(self, what: str, work: Callable[[], object]) -> None:
        """Something that may wait for the disk, after all before it."""

        def run() -> None:
            try:
                work()
            except LocalFault as fault:
                trouble = f"{what}: {fault}"
                self._loop.post(lambda: self._say("W", trouble))
            except Exception as bug:  # noqa: BLE001 - it ends the process
                self._loop.fail(bug)

        self._pool.submit(run)

    def _wait(self) -> None:
        """For what was begun so far: the log has one user at a time."""
        self._pool.submit(lambda: None).result()

    def _begin(self) -> Findings | None:
        """What is known of the time in which nobody noted anything; None: the seal will tell."""
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise LocalFault(f"{self._folder} cannot be made: {error.strerror}") from error
        assert self._log is not None
        self._log.open()  # makes it, or says now that it cannot be used
        try:
            findings = statefile.load(self._path("findings"), Findings) or Findings()
        except LocalFault as fault:
            findings = Findings(everything=str(fault))
        if os.path.exists(self._path("seal")):
            self._findings = findings
            return None
        if os.path.exists(self._path("running")):
            # What it did itself is in its log, what it received is marked on the source since the
            # last checkpoint: whatever of that is lost here, nothing else differs (P5).
            if not self._kept_closed:
                findings.unknown = CRASHED
        else:
            findings.everything = NO_SEAL
        return findings

    def _began(self, findings: Findings | None, done: Callable[[str], None]) -> None:
        if findings is None:
            threading.Thread(target=self._compare, name="seal", daemon=True).start()
        else:
            self._found(findings, "")
        self._pool.submit(lambda: self._loop.post(lambda: done("")))  # once that is kept

    def _compare(self) -> None:
        """In a thread: it may take minutes."""
        findings = Findings(
            self._findings.everything,
            self._findings.unknown,
            list(self._findings.paths),
            list(self._findings.inodes),
        )
        trouble = ""
        try:
            changes = seal.compare(self._path("seal"), self._root_fds)
            for change in changes or ():
                if len(findings.paths) < PATHS_MAX:
                    findings.paths.append((change.tree, change.path))
                else:
                    findings.unknown = MANY
                if change.inode:
                    findings.inodes.append((change.tree, change.inode))
                    if len(findings.inodes) > FILES_MAX:
                        findings.everything = MANY
                        break
        except (LocalFault, OSError) as error:
            trouble = f"The seal of the last stop cannot be compared: {error}"
            findings.everything = NO_SEAL
        self._loop.post(lambda: self._found(findings, trouble))

    def _found(self, findings: Findings, trouble: str) -> None:
        self._findings = findings
        if trouble:
            self._say("W", trouble)
        elif findings.paths:
            self._say("I", f"{len(findings.paths)} names changed while the module was stopped")

        def keep() -> None:  # if it fails, the next start finds the same, or more
            if findings:
                statefile.save(self._path("findings"), findings)
            statefile.save(self._path("running"), b"")
            statefile.remove(self._path("seal"))

        self._do("What was found is not kept", keep)
        self._known = True
        waiting, self._when_known = self._when_known, []
        for then in waiting:
            then()

    def _settle(self) -> None:
        self._findings = Findings()
        if self._folder:
            found = self._path("findings")
            self._do(
                "What was found is kept for longer than needed", lambda: statefile.remove(found)
            )

    def seal(self, done: Callable[[], None]) -> None:
        """The worker exits in order: everything is flushed, the directories are covered. May take
        long; then `done()` on the loop."""
        if not self._folder or not self._known:
            done()  # not known yet what the last seal says: it stays
            return

        def work() -> None:
            trouble = ""
            self._wait()
            try:
                sync_all(self._root_fds)
                statefile.remove(self._path("running"))
                seal.write(self._path("seal"), self._root_fds, self._stop_sealing.is_set)
            except (LocalFault, OSError) as error:
                trouble = f"No seal is written, everything will be compared: {error}"

            def ended() -> None:
                if trouble:
                    self._say("W", trouble)
                done()

            self._loop.post(ended)

        threading.Thread(target=work, name="seal", daemon=True).start()

    def close(self) -> None:
        self._stop_sealing.set()
        if self._log is not None:
            self._log.close()


def new_session() -> bytes:
    """Names one run of a serving worker in the ids of what is made in it."""
    return secrets.token_bytes(8)


def _entries(findings: Findings) -> list[Entry]:
    if findings.everything:
        return [Everything(ALL_TREES)]
    return [Touched(tree, inode, 0, WHOLE) for tree, inode in findings.inodes]
