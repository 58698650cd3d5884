"""The heartbeat datagram: a `model.Beat`, sealed (protocol 9, S1 to S4).

Clear header (magic, version, session, lane number, counter), authenticated; then the beat as
msgpack under AES-GCM. The key is the cluster key's, for one module, one sender and one session;
the nonce is lane number and counter, which the sender never repeats in a session.

Only authenticity is decided here. Whether a beat is fresh, or a replay, is decided by
`core/links.py`.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from dataclasses import dataclass, replace

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safepy.errors import PeerError
from safepy.model import Beat, PeerView, State
from safepy.wire.text import one_line

VERSION = 1
SESSION_BYTES = 16
DATAGRAM_BYTES_MAX = 16 * 1024
#: Around it are the header, the seal, and the other fields of the beat (a few hundred bytes).
_VIEW_BYTES_MAX = DATAGRAM_BYTES_MAX - 512
LANES_MAX = 255

#: What every heartbeat begins with.
MAGIC = b"SFKB"
_HEADER = struct.Struct(f">4sB{SESSION_BYTES}sBQ")
_TAG_BYTES = 16
_SESSION_AT = len(MAGIC) + 1
_KEYS_MAX = 4
_ENCODE = msgspec.msgpack.Encoder().encode
#: Names, ids and wishes; whoever holds the key could put anything there.
_IS_WORD = re.compile(r"[\w.:@-]{0,128}\Z", re.ASCII).match
_HISTORY_MAX = 64
_HIGHEST = (1 << 63) - 1
#: Unix seconds, the end of the year 9999; also no infinity and no NaN.
_LAST_MOMENT = 253_402_300_800.0
_RESOURCE_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class _Body:
    """A `Beat` whose view is still, or already, bytes: most beats say the same as the last one."""

    session: str
    counter: int
    echo_session: str
    echo_counter: int
    view: msgspec.Raw


_BODY = msgspec.msgpack.Decoder(_Body)
_VIEW = msgspec.msgpack.Decoder(PeerView)


class ForeignKey(PeerError):
    """It looks like a heartbeat, but was not sealed with our key: noise, or another cluster key
    over there."""


class Sealer:
    """Seals the beats of one run of one node. `session` is 32 hexadecimal digits."""

    def __init__(self, cluster_key: bytes, module: str, sender: str, session: str) -> None:
        self.sender = sender
        self.session = session
        self._session = bytes.fromhex(session)
        if len(self._session) != SESSION_BYTES:
            raise ValueError(f"a session has {SESSION_BYTES} bytes")
        self._cipher = AESGCM(_key(cluster_key, module, sender, self._session))
        #: What was said last, and how it is written.
        self._said: PeerView | None = None
        self._written = msgspec.Raw()

    def seal(self, lane_number: int, beat: Beat) -> bytes:
        """The datagram. A beat's counter must be above that of every beat sealed before."""
        if beat.view is not self._said:
            self._said, self._written = beat.view, msgspec.Raw(_written(beat.view))
        header = _HEADER.pack(MAGIC, VERSION, self._session, lane_number, beat.counter)
        body = _ENCODE(
            _Body(beat.session, beat.counter, beat.echo_session, beat.echo_counter, self._written)
        )
        return header + self._cipher.encrypt(_nonce(lane_number, beat.counter), body, header)


def _written(view: PeerView) -> bytes:
    said = _ENCODE(view)
    if len(said) > _VIEW_BYTES_MAX:
        # Too many resources must not silence the node: what decides goes first.
        said = _ENCODE(replace(view, resources=()))
    return said


class Opener:
    """Opens the beats of one sender, whatever its session."""

    def __init__(self, cluster_key: bytes, module: str, sender: str) -> None:
        self._cluster_key = cluster_key
        self._module = module
        self.sender = sender
        # Keys of sessions that proved themselves; the one not heard for the longest time goes.
        self._ciphers: OrderedDict[bytes, AESGCM] = OrderedDict()
        #: What was said last, and what was made of it.
        self._said = b""
        self._believed: PeerView | None = None

    def under(self, sender: str) -> Opener:
        """One for the beats of another sender, with the same key."""
        return Opener(self._cluster_key, self._module, sender)

    def knows(self, datagram: bytes) -> bool:
        """Whether it names a session that has proved itself: then it costs little to open."""
        return datagram[_SESSION_AT : _SESSION_AT + SESSION_BYTES] in self._ciphers

    def open(self, lane_number: int, datagram: bytes) -> Beat:
        """The beat that came in on this lane. Raises PeerError for anything but an authentic
        datagram of this sender, module, lane and version; no other exception."""
        if not _HEADER.size + _TAG_BYTES <= len(datagram) <= DATAGRAM_BYTES_MAX:
            raise PeerError("heartbeat of a wrong size")
        magic, version, session, lane, counter = _HEADER.unpack_from(datagram)
        if magic != MAGIC or version != VERSION:
            raise PeerError("no heartbeat of this version")
        if lane != lane_number:
            raise PeerError("heartbeat of another lane")
        cipher = self._ciphers.get(session)
        known = cipher is not None
        if cipher is None:
            cipher = AESGCM(_key(self._cluster_key, self._module, self.sender, session))
        header, sealed = datagram[: _HEADER.size], datagram[_HEADER.size :]
        try:
            body = cipher.decrypt(_nonce(lane, counter), sealed, header)
        except InvalidTag:
            raise ForeignKey("heartbeat that is not authentic") from None
        if known:
            self._ciphers.move_to_end(session)
        else:
            self._remember(session, cipher)
        return self._decode(body, session, counter)

    def _remember(self, session: bytes, cipher: AESGCM) -> None:
        self._ciphers[session] = cipher
        while len(self._ciphers) > _KEYS_MAX:
            self._ciphers.popitem(last=False)

    def _decode(self, body: bytes, session: bytes, counter: int) -> Beat:
        try:
            beat = _BODY.decode(body)
            said = bytes(beat.view)
            view = self._believed
            if view is None or said != self._said:
                view = _believed(_VIEW.decode(said))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PeerError("heartbeat with a body that is none") from error
        if beat.session != session.hex() or beat.counter != counter or view.node != self.sender:
            raise PeerError("heartbeat whose body contradicts its header")
        self._said, self._believed = said, view
        return Beat(beat.session, beat.counter, beat.echo_session, beat.echo_counter, view)


def _believed(view: PeerView) -> PeerView:
    """The view with texts that may be shown. Raises PeerError for one that no node of ours says."""
    if not _is_plausible(view):
        raise PeerError("heartbeat with a record that is none")
    resources = tuple(
        (one_line(name, _RESOURCE_CHARACTERS_MAX), one_line(value, _RESOURCE_CHARACTERS_MAX))
        for name, value in view.resources
    )
    return view if resources == view.resources else replace(view, resources=resources)


def _is_plausible(view: PeerView) -> bool:
    """Whether what is decided by, and shown, has the form that a node of ours gives it (S4)."""
    record = view.record
    if view.state is State.UP:
        return False  # Of a light module, which has no other node.
    words = [record.cluster_id, record.module, record.node, record.peer, record.gen, record.base]
    words += [record.solo_role, record.last_role, record.boot_id]
    words += [record.marks_base, view.node, view.request, view.config_digest, view.held]
    words += [gen for _, gen in record.history]
    policy = record.policy
    words += [policy.mode, policy.role, policy.uid, policy.why.replace(" ", "_")]
    numbers = (record.epoch, record.promised, record.checkpoint, record.checkpoint_started)
    return (
        len(record.history) <= _HISTORY_MAX
        and all(map(_IS_WORD, words))
        and all(0 <= number <= _HIGHEST for number in numbers)
        and all(
            0 <= moment < _LAST_MOMENT
            for moment in (record.synced_at, view.copy_since, view.maintenance_until)
        )
    )


def _key(cluster_key: bytes, module: str, sender: str, session: bytes) -> bytes:
    info = b"heartbeat 1|" + module.encode() + b"|" + sender.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=session, info=info).derive(cluster_key)


def _nonce(lane_number: int, counter: int) -> bytes:
    return struct.pack(">IQ", lane_number, counter)
