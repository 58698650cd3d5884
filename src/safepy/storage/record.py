"""The generation record on disk: two fixed slots written in turn (protocol 2.1, F47).

A slot is 4 KiB: magic, format version, write counter, length, the record as JSON, zeros, and a
CRC32 over all that. A write fills the older slot, so the newer one stays whole whatever happens;
the file never changes its size, so a full disk cannot stop a change of state.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec

from safepy.errors import LocalFault
from safepy.model import Record
from safepy.storage.private import create_private

SLOT_BYTES = 4096
_MAGIC = b"SFKRECRD"
_VERSION = 1
_HEADER = struct.Struct(">8sIQI")
_CRC = struct.Struct(">I")
_PAYLOAD_BYTES_MAX = SLOT_BYTES - _HEADER.size - _CRC.size
_DECODER = msgspec.json.Decoder(Record)


@dataclass(frozen=True, slots=True)
class _Slot:
    counter: int
    record: Record


class RecordFile:
    """The record of one module at `path`. One caller at a time; `save` blocks on the disk."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> Record:
        """The newest durable record; a fresh UNCONFIGURED one if there is no file yet.

        Raises LocalFault when the file is there and neither slot is valid: that is never taken
        for "new", only an operator can go on (protocol 2.1).
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Record()
        except OSError as error:
            raise _fault(self.path, "cannot be opened", error) from error
        try:
            _, newest = self._newest(fd)
        finally:
            os.close(fd)
        return newest.record

    def save(self, record: Record) -> None:
        """Make `record` durable; it is once this returns. Raises LocalFault, and the record
        that was there before still is."""
        payload = msgspec.json.encode(record)
        if len(payload) > _PAYLOAD_BYTES_MAX:
            raise LocalFault(f"the generation record does not fit its slot: {len(payload)} bytes")
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._create(payload)
            return
        except OSError as error:
            raise _fault(self.path, "cannot be opened", error) from error
        try:
            index, newest = self._newest(fd)
            offset = (1 - index) * SLOT_BYTES
            _write_whole(fd, _pack(newest.counter + 1, payload), offset)
            os.fdatasync(fd)
        except OSError as error:
            raise _fault(self.path, "cannot be written", error) from error
        finally:
            os.close(fd)

    def _newest(self, fd: int) -> tuple[int, _Slot]:
        try:
            slots = [_unpack(os.pread(fd, SLOT_BYTES, n * SLOT_BYTES)) for n in (0, 1)]
        except OSError as error:
            raise _fault(self.path, "cannot be read", error) from error
        valid = [(slot.counter, n, slot) for n, slot in enumerate(slots) if slot is not None]
        if not valid:
            raise LocalFault(
                f"the generation record {self.path} is damaged: neither of its slots is valid",
                "deconfigure the module and configure it again; its data will be compared whole",
            )
        _, index, slot = max(valid, key=lambda entry: entry[0])
        return index, slot

    def _create(self, payload: bytes) -> None:
        """Both slots appear at once, written through (dependencies 2.6), by rename."""
        folder = os.path.dirname(self.path)
        temporary = f"{self.path}.new"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            fd = create_private(temporary)
            try:
                _write_whole(fd, _pack(1, payload) + bytes(SLOT_BYTES), 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, self.path)
            _sync_folder(folder)
        except OSError as error:
            raise _fault(self.path, "cannot be created", error) from error


def show(record: Record) -> dict[str, Any]:
    """The record as plain data for the CLI."""
    shown: dict[str, Any] = msgspec.to_builtins(record)
    return shown


def _pack(counter: int, payload: bytes) -> bytes:
    body = _HEADER.pack(_MAGIC, _VERSION, counter, len(payload)) + payload
    body = body.ljust(SLOT_BYTES - _CRC.size, b"\0")
    return body + _CRC.pack(zlib.crc32(body))


def _unpack(data: bytes) -> _Slot | None:
    if len(data) != SLOT_BYTES:
        return None
    body = data[: -_CRC.size]
    if _CRC.unpack_from(data, SLOT_BYTES - _CRC.size)[0] != zlib.crc32(body):
        return None
    magic, version, counter, length = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or length > _PAYLOAD_BYTES_MAX:
        return None
    try:
        record = _DECODER.decode(body[_HEADER.size : _HEADER.size + length])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return _Slot(counter, record)


def _write_whole(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fault(path: str, what: str, error: OSError) -> LocalFault:
    return LocalFault(f"the generation record {path} {what}: {os.strerror(error.errno or 0)}")
