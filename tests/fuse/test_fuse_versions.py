"""F55: two workers of different protocol versions refuse each other, on every connection and
whichever of them is the newer one. The other version is the real code with another number."""

from __future__ import annotations

import pytest
from worker_pair import HandledWorker, Job, Pair

from safepy.worker import messages

pytestmark = pytest.mark.kernel

#: In the clear words that a connection begins with, and in the first sealed record.
CLEAR = "import safepy.wire.secure as secure; secure.VERSION = 2"
SEALED = """
import safepy.wire.secure as secure
pack, parse, secure.VERSION = secure.pack_hello, secure.parse_hello, 2
secure.pack_hello = lambda nonce: pack(nonce).replace(b"SFKS\\0\\2", b"SFKS\\0\\1", 1)
secure.parse_hello = lambda data: parse(data.replace(b"SFKS\\0\\1", b"SFKS\\0\\2", 1))
"""
#: The connections that carry content, alone.
TRANSFER = """
import struct
from safepy.net import blocking
from safepy.wire.secure import HELLO_BYTES, pack_hello
blocking.pack_hello = lambda nonce: struct.pack(">4sH", b"SFKS", 2) + pack_hello(nonce)[6:]
"""


def said(worker: HandledWorker, text: str) -> bool:
    return any(isinstance(each, messages.Log) and text in each.text for each in worker.reports)


@pytest.mark.parametrize("newer", ["a", "b"])
@pytest.mark.parametrize("channel", [CLEAR, SEALED], ids=["clear", "sealed"])
def test_f55_a_follower_of_another_version_is_refused(pair: Pair, newer: str, channel: str) -> None:
    a = pair.worker("a", prelude=channel if newer == "a" else "")
    b = pair.worker("b", prelude=channel if newer == "b" else "")
    (b.beneath / "mine").write_bytes(b"as it was")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    ours, theirs = (2, 1) if newer == "a" else (1, 2)
    words = f"version {theirs}, this node speaks {ours}"
    a.wait(lambda r: isinstance(r, messages.Log) and words in r.text)
    b.wait(lambda r: isinstance(r, messages.Log) and "cannot be followed yet" in r.text)
    Job(lambda: (a.public / "served").write_bytes(b"alone")).finish(a)
    unwanted = messages.SyncChosen | messages.CaughtUp | messages.AdoptRequested
    assert not [r for r in (*a.reports, *b.reports) if isinstance(r, unwanted)]
    assert (b.public / "mine").read_bytes() == b"as it was"
    assert not (b.public / "served").exists()


def test_f55_content_of_another_version_is_refused(pair: Pair) -> None:
    """The stream fits, the connections for content do not."""
    a, b = pair.worker("a"), pair.worker("b", prelude=TRANSFER)
    (b.beneath / "mine").write_bytes(b"as it was")
    a.step(lambda n: messages.Serve(n, 1))
    a.open_gate("alone", 1)
    a.send(messages.AllowFollower(1, False))
    b.step(lambda n: messages.Follow(n, 1, False))
    a.wait(lambda r: isinstance(r, messages.Log) and "version 2, this node speaks 1" in r.text)
    b.wait(lambda r: isinstance(r, messages.ResyncFailed))
    assert not [r for r in a.reports if isinstance(r, messages.CaughtUp)]
    assert (b.public / "mine").read_bytes() == b"as it was"
