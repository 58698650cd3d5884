"""One FUSE mount: its descriptor, the agreement with the kernel, requests in, replies out.

The descriptor never blocks; who owns the loop calls `serve` when it is readable. Replies may be
given in any order and at any time later, in the thread that serves. The mount is cached and
write-through: writeback caching and passthrough would let the kernel acknowledge writes that
nobody replicated (protocol 12), so they are never agreed on.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable

from safepy.errors import LocalFault
from safepy.fuse import protocol, replies
from safepy.fuse.opcodes import Opcode
from safepy.host import mounts

#: `(opcode, unique, node, uid, gid, body)`; the body is valid during the call only.
Handler = Callable[[int, int, int, int, int, memoryview], None]

#: Requests read in one turn at most, so that timers and the peer get their share of the loop.
REQUESTS_A_TURN = 64
#: Requests that the kernel sends without anybody waiting for them (readahead, writeback).
MAX_BACKGROUND = 64

INIT_LIMIT_S = 10.0

_WANTED = (
    protocol.ASYNC_READ
    | protocol.BIG_WRITES
    | protocol.DONT_MASK
    | protocol.DO_READDIRPLUS
    | protocol.READDIRPLUS_AUTO
    | protocol.ASYNC_DIO
    | protocol.NO_OPEN_SUPPORT
    | protocol.PARALLEL_DIROPS
    | protocol.MAX_PAGES
    | protocol.CACHE_SYMLINKS
    | protocol.HANDLE_KILLPRIV_V2
    | protocol.SETXATTR_EXT
    | protocol.INIT_EXT
)
_REQUIRED = protocol.BIG_WRITES | protocol.DONT_MASK | protocol.MAX_PAGES | protocol.NO_OPEN_SUPPORT

#: A reply finds no request any more: it was interrupted, or the connection ended.
_NOBODY_WAITS = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED})


class Session:
    """A mount over `mountpoint`. `acl`: the kernel enforces POSIX ACLs of the files.

    `flags` are what both sides agreed on, 0 before `mount`.
    """

    def __init__(self, mountpoint: str, acl: bool) -> None:
        self.mountpoint = mountpoint
        self.acl = acl
        self.flags = 0
        self.fd = -1
        self._buffer = bytearray(protocol.BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._vector = [self._buffer]

    @property
    def closed(self) -> bool:
        return self.fd < 0

    def mount(self) -> None:
        """Open the device, stand over the directory, and agree with the kernel.

        Raises LocalFault if the kernel refuses.
        """
        try:
            self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise LocalFault(f"/dev/fuse: {error.strerror}", "modprobe fuse") from error
        try:
            mounts.mount_fuse(self.fd, self.mountpoint, protocol.MAX_WRITE_BYTES)
            self._begin()
        except LocalFault:
            self.close()
            raise

    def _begin(self) -> None:
        """Answer INIT, which the kernel asks when the mount is made. Until then most calls wait,
        but some fail: an ACL could not be set on the root."""
        ready, _, _ = select.select([self.fd], [], [], INIT_LIMIT_S)
        size = os.readv(self.fd, self._vector) if ready else 0
        if size < protocol.HEADER_BYTES:
            raise LocalFault(f"the kernel does not begin to speak FUSE for {self.mountpoint}")
        _, opcode, unique, *_ = protocol.HEADER.unpack_from(self._buffer)
        if opcode != Opcode.INIT:
            raise LocalFault(f"the kernel speaks FUSE for {self.mountpoint} without a beginning")
        self._agree(unique, self._view[protocol.HEADER_BYTES : size])

    def serve(self, handler: Handler) -> bool:
        """Read what is there, at most `REQUESTS_A_TURN`, and hand it to `handler`.

        False: the mount is gone and the descriptor of no more use (`close` it). Raises
        ProtocolError on what is not a request, which ends the worker.
        """
        unpack = protocol.HEADER.unpack_from
        buffer, view = self._buffer, self._view
        for _ in range(REQUESTS_A_TURN):
            if self.fd < 0:
                return False
            try:
                size = os.readv(self.fd, self._vector)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue  # its caller was killed while we were reading
                if error.errno in _NOBODY_WAITS:
                    return False
                raise
            if size < protocol.HEADER_BYTES:
                raise protocol.ProtocolError(f"a FUSE request of {size} bytes")
            length, opcode, unique, node, uid, gid, _, extensions, _ = unpack(buffer)
            if length != size or protocol.HEADER_BYTES + extensions * 8 > size:
                raise protocol.ProtocolError(f"a FUSE request of {size} bytes claims {length}")
            end = size - extensions * 8
            handler(opcode, unique, node, uid, gid, view[protocol.HEADER_BYTES : end])
        return True

    def send(self, message: bytes) -> bool:
        """Write a whole reply or notification. False: nobody waits for it any more."""
        try:
            os.write(self.fd, message)
        except OSError as error:
            return self._refused(error)
        return True

    def reply(self, unique: int, body: bytes | memoryview) -> bool:
        """Answer with success and a body. False: nobody waits for it any more, and what the
        body would have given to the kernel (a lookup) was not given."""
        try:
            os.writev(self.fd, (replies.header(unique, len(body)), body))
        except OSError as error:
            return self._refused(error)
        return True

    def fail(self, unique: int, number: int) -> bool:
        """Answer with an errno; 0 is success without a body."""
        return self.send(replies.error(unique, number))

    def caller(self) -> tuple[int, int]:
        """(unique, thread id) of the request that is being handled; 0 if its caller cannot be
        seen from here."""
        return protocol.caller(self._buffer)

    def unmount(self, abort: bool) -> None:
        """With `abort`: at once. Every request that waits fails, the descriptor is closed.

        Without: the mount leaves its place, requests are served on until the last file is
        closed; then `serve` says False. The unmounting itself runs in a thread, because the
        kernel writes dirty pages back meanwhile, through `serve`.
        """
        if abort:
            mounts.unmount_fuse(self.mountpoint)
            self.close()
            return
        threading.Thread(
            target=mounts.detach_fuse,
            args=(self.mountpoint,),
            name="unmount",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Close the descriptor: a mount that is still there answers ENOTCONN from now on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _agree(self, unique: int, body: memoryview) -> None:
        asked = protocol.init(body)
        if asked.major != protocol.MAJOR or asked.flags & _REQUIRED != _REQUIRED:
            self.fail(unique, errno.EPROTO)
            raise LocalFault(
                f"the kernel speaks FUSE {asked.major}.{asked.minor} without what is needed",
                "Linux 5.11 or newer is needed",
            )
        self.flags = asked.flags & (_WANTED | (protocol.POSIX_ACL if self.acl else 0))
        self.reply(unique, replies.init(asked, self.flags, MAX_BACKGROUND))

    def _refused(self, error: OSError) -> bool:
        # EBADF: answers that come after `close` (a demotion) have nobody to go to.
        if error.errno in _NOBODY_WAITS or (error.errno == errno.EBADF and self.fd < 0):
            return False
        raise LocalFault(f"the kernel refuses a FUSE reply: {error.strerror}") from error
