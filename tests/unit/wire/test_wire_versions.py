"""F55: heartbeats of another version are dropped, whoever is the newer one."""

from __future__ import annotations

import pytest

from safepy.errors import PeerError
from safepy.model import Beat, PeerView, Record, State, Status
from safepy.wire import heartbeat

KEY, SESSION = b"k" * 32, "5e" * 16


def beat() -> Beat:
    view = PeerView("n1", State.ALONE, Status.READY, Record(node="n1", peer="n2"))
    return Beat(SESSION, 1, "", 0, view)


@pytest.mark.parametrize(("theirs", "ours"), [(1, 2), (2, 1)])
def test_f55_a_heartbeat_of_another_version_is_none(
    monkeypatch: pytest.MonkeyPatch, theirs: int, ours: int
) -> None:
    monkeypatch.setattr(heartbeat, "VERSION", theirs)
    datagram = heartbeat.Sealer(KEY, "m", "n1", SESSION).seal(1, beat())
    opener = heartbeat.Opener(KEY, "m", "n1")
    assert opener.open(1, datagram).view.node == "n1"
    monkeypatch.setattr(heartbeat, "VERSION", ours)
    with pytest.raises(PeerError, match="of this version"):
        opener.open(1, datagram)
    # The number is sealed: nobody on the way makes one of ours of it.
    forged = datagram[:4] + bytes([ours]) + datagram[5:]
    with pytest.raises(PeerError, match="not authentic"):
        opener.open(1, forged)
