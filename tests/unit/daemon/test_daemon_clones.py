"""A copied machine (protocol 2.1, D0, F57): what the operator sees of it, and what does not run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from one import MODULE_ID, One
from pair import MODULE, until

from safepy.config.paths import ModulePaths, Paths
from safepy.daemon.plan import heart_port
from safepy.daemon.site import load_key
from safepy.errors import SafekitError
from safepy.model import Beat, Disk, PeerView, Record, Snapshot, State, Status
from safepy.storage.record import RecordFile
from safepy.wire.heartbeat import Sealer

SESSION = "ee" * 16
LEFT = Record(module=MODULE, node="n1", peer="n2", epoch=9, promised=9, disk=Disk.UPTODATE)


def mirror(inside: str = "") -> str:
    return (
        '<safe><service mode="mirror"><heart pulse="200" timeout="2000">'
        f'<heartbeat name="default"/></heart>{inside}<user/></service></safe>'
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[One]:
    made = One(tmp_path.resolve())
    try:
        yield made
    finally:
        made.end()


def module_of(node: One) -> ModulePaths:
    return Paths(node.safe, node.var).module(MODULE)


def look(node: One) -> Snapshot:
    (snapshot,) = node.ask("state")
    assert isinstance(snapshot, Snapshot)
    return snapshot


def test_f57_another_node_with_the_name_of_this_one_is_an_alarm(node: One) -> None:
    node.begin(mirror())
    key = load_key(Paths(node.safe, node.var))
    assert key is not None
    sealer = Sealer(key, MODULE, "n1", SESSION)
    view = PeerView("n1", State.PRIM, Status.READY, replace(LEFT, gen="ab" * 16), serving=True)
    port = heart_port(MODULE_ID)
    said = "says that it is n1, which this node is: nothing is taken from it"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as copy:
        copy.bind((f"{node.address[:-1]}2", port))
        counter = 0

        def told() -> bool:
            nonlocal counter
            counter += 1
            copy.sendto(sealer.seal(0, Beat(SESSION, counter, "", 0, view)), (node.address, port))
            return bool(look(node).notes)

        until(told, node.story)
    (note,) = look(node).notes
    assert said in note and look(node).peer_state == "UNKNOWN"
    assert [line for line in node.lines(["C"]) if said in line], node.story()


@pytest.mark.parametrize("field", ["module", "node", "peer"])
def test_a_copied_state_folder_speaks_for_nobody_else(node: One, field: str) -> None:
    """2.1: a record with other names is refused, and says so until somebody decides."""
    node.begin(mirror())
    node.terminate()
    RecordFile(str(module_of(node).record)).save(replace(LEFT, **{field: "other"}))  # type: ignore[arg-type]
    node.start()
    assert f"is of {field} other, not of" in look(node).reason
    with pytest.raises(SafekitError, match=f"of {field} other"):
        node.act("start")
    RecordFile(str(module_of(node).record)).save(LEFT)
    node.terminate()
    node.start()
    node.become("STOP NotReady")


def test_a_refused_configuration_leaves_the_record(node: One) -> None:
    """Other directories begin a new record: not before the last script of the new configuration
    has agreed. Without its record a node with the newest data would take the other one's."""

    def xml(name: str) -> str:
        (node.root / name).mkdir()
        return mirror(f'<rfs><replicated dir="{node.root / name}"/></rfs>')

    node.begin(xml("a"))
    module = module_of(node)
    RecordFile(str(module.record)).save(LEFT)
    node.put(xml("b"))
    refusing = node.source / "bin" / "postconfig"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    with pytest.raises(SafekitError, match="postconfig"):
        node.configure()
    kept = RecordFile(str(module.record)).load()
    assert (kept.disk, kept.epoch) == (Disk.UPTODATE, 9)
    node.terminate()
    node.start()
    assert RecordFile(str(module.record)).load().disk is Disk.UPTODATE, "nor with the next start"
    refusing.unlink()
    assert node.configure()
    assert RecordFile(str(module.record)).load().disk is Disk.UNCONFIGURED
