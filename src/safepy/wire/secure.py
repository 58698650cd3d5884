"""The encrypted stream between two workers: keys, hellos, records (S1, S3, F25).

Both sides send a hello with a fresh random nonce; the keys of the two directions come from both
nonces and the module's key, so a recorded stream opens nothing and a reflected one neither.
The first record each way proves the key and says who speaks. There is no clear-text mode.
Pure: nonces are given by the caller.
"""

from __future__ import annotations

import hashlib
import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safepy.errors import PeerError
from safepy.wire.framing import LENGTH, MAX_RECORD_BYTES
from safepy.wire.text import one_line

VERSION = 1
MAGIC = b"SFKS"
NONCE_BYTES = 32
TAG_BYTES = 16
_HELLO = struct.Struct(">4sHH32s")
HELLO_BYTES = _HELLO.size

#: Clear text that fits in one record, and the largest message (with its length) in it.
MAX_CLEAR_BYTES = MAX_RECORD_BYTES - TAG_BYTES
MAX_MESSAGE_BYTES = MAX_CLEAR_BYTES - 4
#: Largest record before the other side is known.
MAX_FIRST_RECORD_BYTES = 2048


class _First(msgspec.Struct, frozen=True):
    """What the first record of either side says. `purpose` is "live" or "transfer"; `stream_id`
    joins the transfers of one resynchronisation to its live stream; `detail` is free."""

    version: int
    node: str
    module: str
    epoch: int
    purpose: str
    stream_id: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        for name, characters_max in _FIRST_TEXTS:
            text = one_line(getattr(self, name), characters_max)
            msgspec.structs.force_setattr(self, name, text)


#: Together they stay below MAX_FIRST_RECORD_BYTES, whatever their characters are.
_FIRST_TEXTS = (("node", 64), ("module", 64), ("purpose", 16), ("stream_id", 32), ("detail", 240))


class Hello(_First, frozen=True, tag="hello"):
    """Who dials and why."""


class Welcome(_First, frozen=True, tag="welcome"):
    """The listener takes the stream."""


class Refused(_First, frozen=True, tag="refused"):
    """`detail` says why, for the log; `epoch` lets a stale dialer see that it is stale (I13)."""


_FIRST = msgspec.msgpack.Decoder(Hello | Welcome | Refused)


def encode_first(message: Hello | Welcome | Refused) -> bytes:
    return msgspec.msgpack.encode(message)


def decode_first(data: bytes) -> Hello | Welcome | Refused:
    """Raises PeerError for anything else, and for another protocol version."""
    try:
        message: Hello | Welcome | Refused = _FIRST.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError(f"first record cannot be read: {error}") from error
    if message.version != VERSION:
        raise PeerError(f"protocol version {message.version}, this node speaks {VERSION}")
    return message


def module_key(cluster_key: bytes, module: str) -> bytes:
    """The replication key of a module: every module has its own."""
    return _derive(cluster_key, b"", b"replication 1|" + module.encode())


def fingerprint(cluster_key: bytes) -> str:
    """What two administrators compare aloud: 16 hexadecimal digits in groups of four."""
    digits = hashlib.sha256(cluster_key).hexdigest()[:16]
    return ":".join(digits[at : at + 4] for at in range(0, 16, 4))


def pack_hello(nonce: bytes) -> bytes:
    """The only clear bytes of a stream; the answer to one has the same size (S3)."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError("a hello needs a nonce of 32 bytes")
    return _HELLO.pack(MAGIC, VERSION, 0, nonce)


def parse_hello(data: bytes) -> bytes:
    """The nonce. Raises PeerError when it is no hello of this version."""
    if len(data) != HELLO_BYTES:
        raise PeerError("not a safepy stream")
    magic, version, _, nonce = _HELLO.unpack(data)
    if magic != MAGIC:
        raise PeerError("not a safepy stream")
    if version != VERSION:
        raise PeerError(f"stream version {version}, this node speaks {VERSION}")
    assert isinstance(nonce, bytes)
    return nonce


class Sealer:
    """Encrypts the records of one direction; the counter is the nonce, so order is fixed."""

    __slots__ = ("_cipher", "_counter")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def seal(self, clear: bytes) -> bytes:
        """The whole record, length included. `clear` is at most MAX_CLEAR_BYTES."""
        if len(clear) > MAX_CLEAR_BYTES:
            raise ValueError(f"{len(clear)} bytes do not fit in a record")
        header = LENGTH.pack(len(clear) + TAG_BYTES)
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return header + self._cipher.encrypt(nonce, clear, header)


class Opener:
    """Decrypts the records of one direction, each once and in order."""

    __slots__ = ("_cipher", "_counter")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._counter = 0

    def open(self, record: bytes) -> bytes:
        """The clear text of a record without its length.

        Raises PeerError when a bit is wrong, the key is another, or the order is.
        """
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        try:
            return self._cipher.decrypt(nonce, record, LENGTH.pack(len(record)))
        except InvalidTag as error:
            raise PeerError("record is not authentic (other cluster key, or damaged)") from error


def stream_ciphers(
    key: bytes, dialer_nonce: bytes, listener_nonce: bytes, *, dialer: bool
) -> tuple[Sealer, Opener]:
    """The two directions of one stream, as this side uses them. `key` is the module's."""
    salt = dialer_nonce + listener_nonce
    from_dialer = _derive(key, salt, b"stream 1|from dialer")
    from_listener = _derive(key, salt, b"stream 1|from listener")
    if dialer:
        return Sealer(from_dialer), Opener(from_listener)
    return Sealer(from_listener), Opener(from_dialer)


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)
