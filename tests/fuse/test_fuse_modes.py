"""How much is looked at when two workers meet again: zones, names, or everything."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from tree_picture import differences, picture
from worker_pair import HandledWorker, Job, Pair, join, pair_up, release_held

from safepy.core.replica.intent import BLOCK_BYTES
from safepy.storage.intentlog import BLOCKS
from safepy.worker import messages

pytestmark = pytest.mark.kernel

FILES = int(os.environ.get("SAFEPY_MODES_FILES", "1500"))
ZONE = 128 * 1024
#: The target reads its intent log to say what it knows, and again to reset it.
LOGS_READ = 2 * BLOCKS * BLOCK_BYTES


def chosen(worker: HandledWorker) -> tuple[str, str]:
    report = worker.wait(lambda r: isinstance(r, messages.SyncChosen), 60)
    assert isinstance(report, messages.SyncChosen)
    return report.mode, report.reason


def stop_following(worker: HandledWorker, epoch: int) -> None:
    worker.step(lambda n: messages.StopFollowing(n, epoch))
    worker.exit()


def reunite(
    source: HandledWorker, target: HandledWorker, epoch: int
) -> tuple[tuple[str, str], int]:
    """The target follows the source, which serves ALONE in `epoch`; both end in epoch + 1. The
    mode, its reason, and how many bytes both have read for it."""
    before = bytes_read(source) + bytes_read(target)
    source.send(messages.AllowFollower(epoch, False, "zones", "the records fit"))
    target.step(lambda n: messages.Follow(n, epoch, False))
    mode = chosen(source)
    join(source, target, epoch)
    read = bytes_read(source) + bytes_read(target) - before
    assert differences(picture(source.public), picture(target.public)) == []
    return mode, read


def bytes_read(worker: HandledWorker) -> int:
    """By all system calls of the process so far."""
    for line in Path(f"/proc/{worker.process.pid}/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    raise AssertionError("no rchar")


def fill(root: Path, count: int = FILES) -> None:
    for number in range(count):
        folder = root / f"d{number % 20}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(b"%d" % number * 100)
    for number in range(25):
        (root / f"big{number}").write_bytes(bytes([number]) * (4 * ZONE))


def serve_alone(worker: HandledWorker, epoch: int) -> None:
    worker.step(lambda n: messages.Serve(n, epoch))
    worker.open_gate("alone", epoch)


def write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def overwrite_unseen(path: Path, offset: int, data: bytes) -> None:
    """As a program would that sets the times back: size and mtime are what they were."""
    before = path.stat()
    write_at(path, offset, data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_secondary_that_was_stopped_gets_the_zones_that_changed(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath)
    epoch = pair_up(a, b)
    stop_following(b, epoch)
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    Job(
        lambda: [write_at(a.public / f"big{n}", (n % 4) * ZONE + 7, b"new") for n in range(10)]
    ).finish(a)
    b = pair.worker("b")
    mode, read = reunite(a, b, epoch)
    assert mode == ("zones", "the records fit")
    # Ten zones, read on both nodes to compare, to send and to receive: of ten times as many.
    assert read - LOGS_READ < 15 * ZONE * 4


def test_what_changed_while_the_secondary_was_stopped_is_found(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    stop_following(b, epoch)
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    overwrite_unseen(b.public / "big1", 2 * ZONE, b"changed in STOP")
    (b.public / "d1" / "f1").unlink()
    (b.public / "d2" / "unknown").write_bytes(b"made in STOP")
    (b.public / "d3").rename(b.public / "d3-renamed")
    os.chmod(b.public / "d4", 0o700)
    b = pair.worker("b")
    assert reunite(a, b, epoch)[0][0] == "zones"


def test_what_changed_while_the_only_node_was_stopped_is_found(pair: Pair) -> None:
    """Also what was marked before its stop is still known after it."""
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    stop_following(b, epoch)
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    Job(lambda: write_at(a.public / "big2", 5, b"before the stop")).finish(a)
    Job(lambda: a.step(lambda n: messages.Quiesce(n, epoch))).finish()
    a.step(lambda n: messages.Demote(n, epoch))
    a.exit()
    overwrite_unseen(a.public / "big1", ZONE, b"changed in STOP")
    (a.public / "d1" / "f1").unlink()
    (a.public / "new").mkdir()
    (a.public / "new" / "file").write_bytes(b"made in STOP")
    a, b = pair.worker("a"), pair.worker("b")
    serve_alone(a, epoch)
    Job(lambda: write_at(a.public / "big3", 5, b"after the stop")).finish(a)
    assert reunite(a, b, epoch)[0][0] == "zones"


def test_a_primary_that_crashed_is_compared_where_its_log_says(pair: Pair) -> None:
    """K1, K2, K6: what only it has is overwritten, also where size and time hide it."""
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    Job(lambda: write_at(a.public / "big1", ZONE, b"logged")).finish(a, b)
    a.kill()
    a.close()
    overwrite_unseen(a.public / "big1", ZONE, b"never acknowledged")
    overwrite_unseen(a.public / "big5", ZONE, b"nobody could know")
    b.step(lambda n: messages.StopFollowing(n, epoch))
    epoch += 1
    serve_alone(b, epoch)
    Job(lambda: (b.public / "d1" / "more").write_bytes(b"written by the survivor")).finish(b)
    a = pair.worker("a")
    b.send(messages.AllowFollower(epoch, False, "zones", ""))
    a.step(lambda n: messages.Follow(n, epoch, False))
    mode, reason = chosen(b)
    assert mode == "walk"
    assert "without a stop" in reason
    join(b, a, epoch)
    found = differences(picture(b.public), picture(a.public))
    # Only what the log cannot know of: nobody wrote there through the mount.
    assert found and all("big5" in line for line in found)


def test_a_secondary_that_crashed_gets_what_no_checkpoint_covers(pair: Pair) -> None:
    """K3: acknowledged is not durable there."""
    a, b = pair.worker("a", checkpoint_interval_s=0.2), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    Job(lambda: write_at(a.public / "big1", 0, b"before the checkpoint")).finish(a, b)
    for number in (1, 2):  # the second may begin while the first one's changes are still marked
        a.wait(lambda r: isinstance(r, messages.CheckpointWanted))
        a.send(messages.CheckpointBegun(epoch, number))
        b.wait(lambda r: isinstance(r, messages.CheckpointReached))
        b.send(messages.CheckpointRecorded(epoch, number))
        a.wait(lambda r: isinstance(r, messages.CheckpointReached))
        a.send(messages.CheckpointRecorded(epoch, number))
        write = f"after checkpoint {number}".encode()
        Job(lambda at=number, data=write: write_at(a.public / "big2", at * ZONE, data)).finish(a, b)
    b.kill()
    b.close()
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    # It lost its page cache: both what a checkpoint covered (it cannot have) and what none did.
    overwrite_unseen(b.public / "big1", 0, b"nobody looks here now")
    overwrite_unseen(b.public / "big2", 2 * ZONE, b"as it was before....")
    b = pair.worker("b")
    a.send(messages.AllowFollower(epoch, False, "zones", ""))
    b.step(lambda n: messages.Follow(n, epoch, False))
    assert chosen(a)[0] == "walk"
    join(a, b, epoch)
    found = differences(picture(a.public), picture(b.public))
    assert found and all("big1" in line for line in found)


def test_a_directory_that_was_renamed_is_not_copied(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    (a.beneath / "old").mkdir()
    for number in range(20):
        (a.beneath / "old" / f"large{number}").write_bytes(os.urandom(10 * ZONE))
    epoch = pair_up(a, b)
    stop_following(b, epoch)
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    Job(lambda: (a.public / "old").rename(a.public / "new")).finish(a)
    b = pair.worker("b")
    (mode, _), read = reunite(a, b, epoch)
    assert mode == "zones"
    assert read - LOGS_READ < 20 * 10 * ZONE / 4


def test_more_changes_than_can_be_marked_by_path_are_found_by_the_log(pair: Pair) -> None:
    """Also where size and time hide them."""
    few = "from safepy.core.replica.marks import Marks; Marks.__init__.__defaults__ = (10, 1024)"
    a, b = pair.worker("a", prelude=few), pair.worker("b")
    fill(a.beneath, 100)
    epoch = pair_up(a, b)
    stop_following(b, epoch)
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    changed = sorted(a.public.glob("d*/f*"))[:40]
    Job(lambda: [overwrite_unseen(path, 1, b"?") for path in changed]).finish(a)
    b = pair.worker("b")
    (mode, reason), _ = reunite(a, b, epoch)
    assert mode == "walk"
    assert "too much has changed" in reason


def test_after_a_hand_over_there_is_nothing_to_compare(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    Job(lambda: write_at(a.public / "big1", 5, b"before")).finish(a, b)
    Job(lambda: a.step(lambda n: messages.Quiesce(n, epoch))).finish(b)
    a.step(lambda n: messages.Demote(n, epoch))
    b.step(lambda n: messages.StopFollowing(n, epoch))
    epoch += 1
    serve_alone(b, epoch)
    Job(lambda: write_at(b.public / "big2", 5, b"after")).finish(b)
    (mode, _), read = reunite(b, a, epoch)
    assert mode == "zones"
    assert read - LOGS_READ < 10 * ZONE


def test_a_first_synchronisation_that_fails_leaves_everything_to_compare(pair: Pair) -> None:
    """I8, I9: also when the source's worker is another one by then."""
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    (b.beneath / "big1").write_bytes(b"\xff" * (4 * ZONE))
    os.utime(b.beneath / "big1", ns=(0, (a.beneath / "big1").stat().st_mtime_ns))
    epoch = 1
    serve_alone(a, epoch)
    a.send(messages.AllowFollower(epoch, False, "everything", "the first one"))
    b.step(lambda n: messages.Follow(n, epoch, False))
    assert chosen(a)[0] == "everything"
    b.kill()
    b.close()
    a.wait(lambda r: isinstance(r, messages.ResyncFailed))
    a.kill()
    a.close()
    a, b = pair.worker("a"), pair.worker("b")
    serve_alone(a, epoch)
    assert reunite(a, b, epoch)[0][0] == "everything"


def test_ids_are_given_once_and_are_equal_on_both_nodes(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    (a.beneath / "older").write_bytes(b"x")
    pair_up(a, b)

    def work() -> None:
        (a.public / "folder").mkdir()
        (a.public / "file").write_bytes(b"x")
        (a.public / "older").rename(a.public / "renamed")

    Job(work).finish(a, b)
    idents = set()
    for name in ("folder", "file", "renamed"):
        one = os.getxattr(a.beneath / name, "trusted.safekit.id")
        assert one == os.getxattr(b.beneath / name, "trusted.safekit.id")
        idents.add(one)
        assert "trusted.safekit.id" not in os.listxattr(a.public / name)
    assert len(idents) == 3
    assert all(len(ident) == 16 for ident in idents)


def test_a_worker_without_a_usable_log_does_not_begin(pair: Pair) -> None:
    """F47."""
    (pair.base / "a" / "state" / "intent.log").mkdir(parents=True)
    with pytest.raises(AssertionError, match=r"intent.log"):
        pair.worker("a")


def test_the_state_directory_is_private(pair: Pair) -> None:
    state = pair.worker("a").folder / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in state.iterdir()} == {0o600}


LAST_FLUSH_FAILS = """
from safepy.worker import {module} as module
real, calls = module.sync_all, []
def sync_all(fds):
    calls.append(fds)
    if len(calls) > 1:
        raise OSError(5, "Input/output error")
    real(fds)
module.sync_all = sync_all
"""


@pytest.mark.parametrize("side", ["source", "target"])
def test_k8_nobody_adopts_before_both_nodes_have_flushed(pair: Pair, side: str) -> None:
    """I12: the last flush fails, so the marks stay and the nodes do not join."""
    module = {"source": "synchronise", "target": "following"}[side]
    broken = LAST_FLUSH_FAILS.format(module=module)
    a = pair.worker("a", prelude=broken if side == "source" else "")
    b = pair.worker("b", prelude=broken if side == "target" else "")
    fill(a.beneath, 10)
    serve_alone(a, 1)
    a.send(messages.AllowFollower(1, False, "everything", ""))
    b.step(lambda n: messages.Follow(n, 1, False))
    a.wait(lambda r: isinstance(r, messages.ResyncFailed), 60)
    assert not [r for r in a.reports if isinstance(r, messages.CaughtUp)]
    assert not [r for r in b.reports if isinstance(r, messages.AdoptRequested)]


def interrupted(pair: Pair, source_prelude: str = "") -> tuple[HandledWorker, HandledWorker, int]:
    """Both nodes have everything, one file differs unseen. All is compared and ends with writers
    held: then the connection is cut. The source serves ALONE, both workers live on."""
    a, b = pair.worker("a", prelude=source_prelude), pair.worker("b")
    fill(a.beneath, 200)
    epoch = pair_up(a, b)
    b.step(lambda n: messages.StopFollowing(n, epoch))
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    overwrite_unseen(b.beneath / "big5", ZONE, b"only a comparison finds that")
    a.send(messages.AllowFollower(epoch, False, "everything", "by order"))
    b.step(lambda n: messages.Follow(n, epoch, False))
    assert chosen(a)[0] == "everything"
    a.wait(lambda r: isinstance(r, messages.CaughtUp), 60)
    b.step(lambda n: messages.StopFollowing(n, epoch))
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    return a, b, epoch


def again(a: HandledWorker, b: HandledWorker, epoch: int) -> tuple[int, int]:
    """Everything once more; how many bytes each has read."""
    before = bytes_read(a), bytes_read(b)
    a.send(messages.AllowFollower(epoch, False, "everything", "by order"))
    b.step(lambda n: messages.Follow(n, epoch, False))
    join(a, b, epoch)
    return bytes_read(a) - before[0], bytes_read(b) - before[1]


TREE_BYTES = 25 * 4 * ZONE


def test_what_an_interrupted_comparison_has_read_is_not_read_again(pair: Pair) -> None:
    a, b, epoch = interrupted(pair)
    Job(lambda: write_at(a.public / "big3", ZONE, b"changed since")).finish(a)
    Job(lambda: overwrite_unseen(a.public / "big4", ZONE, b"so that nothing shows it")).finish(a)
    read_here, read_there = again(a, b, epoch)
    assert differences(picture(a.public), picture(b.public)) == []
    # The two files that changed here, and the log there: not a tenth of the tree.
    assert read_here < TREE_BYTES / 5
    assert read_there - LOGS_READ < TREE_BYTES / 5


def test_a_target_that_crashed_reads_everything_again(pair: Pair) -> None:
    """What it had may not have been on its disk: a node knows what it has read in this life."""
    a, b, epoch = interrupted(pair)
    b.kill()
    b.close()
    overwrite_unseen(b.public / "big7", 2 * ZONE, b"it was never written")
    b = pair.worker("b")
    read_here, read_there = again(a, b, epoch)
    assert differences(picture(a.public), picture(b.public)) == []
    assert read_here < TREE_BYTES / 5
    assert read_there > TREE_BYTES


NOTHING_CHANGES = """
from safepy.dataplane.resync.memory import Memories
Memories.changed = lambda self, tree, inode: None
"""


def test_without_the_word_of_changes_the_copies_differ(pair: Pair) -> None:
    a, b, epoch = interrupted(pair, NOTHING_CHANGES)
    Job(lambda: overwrite_unseen(a.public / "big4", ZONE, b"so that nothing shows it")).finish(a)
    again(a, b, epoch)
    found = differences(picture(a.public), picture(b.public))
    assert found and all("big4" in line for line in found)


def test_a_secondary_that_crashed_gets_the_marked_zones(pair: Pair) -> None:
    """Its directories stayed closed. What no checkpoint covers may be lost there, names too."""
    a, b = pair.worker("a", checkpoint_interval_s=3600.0), pair.worker("b")
    fill(a.beneath)
    epoch = pair_up(a, b)

    def work() -> None:
        write_at(a.public / "big1", ZONE, b"not on its disk yet")
        (a.public / "d1" / "f1").rename(a.public / "d2" / "moved")
        (a.public / "new").mkdir()
        (a.public / "new" / "file").write_bytes(b"n" * 5000)
        (a.public / "d3" / "f3").unlink()

    Job(work).finish(a, b)
    b.kill()
    b.close()
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    # The power was cut: this is what its disk shows of that.
    overwrite_unseen(b.public / "big1", ZONE, bytes([1]) * 19)
    (b.public / "d2" / "moved").rename(b.public / "d1" / "f1")
    (b.public / "new" / "file").write_bytes(b"")
    (b.public / "d3" / "f3").write_bytes(b"3" * 100)
    b = pair.worker("b", kept_closed=True)
    mode, read = reunite(a, b, epoch)
    assert mode == ("zones", "the records fit")
    assert read - LOGS_READ < 20 * ZONE


@pytest.mark.parametrize("closed", [True, False])
def test_after_a_crash_directories_that_were_open_are_walked(pair: Pair, closed: bool) -> None:
    """Said to be closed when they were open: what somebody did meanwhile stays unseen."""
    a, b = pair.worker("a"), pair.worker("b")
    fill(a.beneath, 40)
    epoch = pair_up(a, b)
    first = b.folder / "state" / "findings"  # what its first start had found is made good
    until_s = time.monotonic() + 10
    while first.exists():
        assert time.monotonic() < until_s
        time.sleep(0.01)
    b.kill()
    b.close()
    a.wait(lambda r: isinstance(r, messages.ReplicaLost))
    epoch += 1
    release_held(a, epoch)
    (b.public / "d1" / "f1").unlink()
    b = pair.worker("b", kept_closed=closed)
    a.send(messages.AllowFollower(epoch, False, "zones", ""))
    b.step(lambda n: messages.Follow(n, epoch, False))
    assert chosen(a)[0] == ("zones" if closed else "walk")
    join(a, b, epoch)
    assert bool(differences(picture(a.public), picture(b.public))) is closed


def test_the_follower_says_as_well_how_much_is_looked_at(pair: Pair) -> None:
    a, b = pair.worker("a"), pair.worker("b")
    serve_alone(a, 1)
    a.send(messages.AllowFollower(1, False, "everything", "the first one"))
    b.step(lambda n: messages.Follow(n, 1, False))
    assert chosen(a) == chosen(b) == ("everything", "the first one")


def test_what_an_interrupted_synchronisation_had_taken_out_is_named(pair: Pair) -> None:
    """When its target is forced to lead: nothing of it is removed, it may be the only copy."""
    a = pair.worker("a")
    held = a.beneath / ".safekit-moved-0123" / "1"
    held.mkdir(parents=True)
    (held / "directory").mkdir()
    serve_alone(a, 1)
    a.wait(lambda r: isinstance(r, messages.Log) and ".safekit-moved-0123" in r.text)
    assert (a.public / ".safekit-moved-0123" / "1" / "directory").is_dir()
