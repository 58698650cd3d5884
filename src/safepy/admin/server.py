"""The local control socket: who may speak, one line in, one line out (protocol S12).

Every connection is a task of its own that carries out one request after the other, so a client
that hangs, floods or dies harms nobody but itself. Errors meant for the operator, and what a
disk refuses, become replies; anything else is a bug: it is logged in full and answered with one
line.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import ipaddress
import logging
import os
import pwd
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from safepy.admin.api import perform, prepare
from safepy.admin.manager import Manager
from safepy.errors import LocalFault, RequestRefused, SafekitError
from safepy.wire.admin import (
    MAX_REQUEST_BYTES,
    Reply,
    Request,
    decode_request,
    encode_reply,
)

log = logging.getLogger(__name__)

#: A client that asks nothing, or does not take its answer, is sent away after this long.
IDLE_S = 60.0
WRITE_S = 30.0
MAX_CLIENTS = 128

#: What a disk says that no program can help, and what an administrator can do about it.
_DISK_HINTS = {
    errno.ENOSPC: "make room (df -h, df -i), then give the command again",
    errno.EDQUOT: "make room (quota), then give the command again",
    errno.EROFS: "see dmesg for why it is read-only; mount it writable, then try again",
    errno.EIO: "the disk fails: see dmesg",
}

_UCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux 4.13; the socket module has no name for it
_GROUPS_BYTES_MAX = 1024  # all that getsockopt of Python can take


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end, as the kernel vouches for it."""

    pid: int
    uid: int
    groups: frozenset[int]


class AdminServer:
    """Serves a manager on a Unix socket until closed.

    `group` names the users besides root who may command; empty means root only.
    """

    def __init__(self, manager: Manager, path: str, group: str = "") -> None:
        self._manager = manager
        self._path = path
        self._group = group
        self._gid: int | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Answer, also what came since `start` with `hold`."""
        self._open.set()

    async def start(self, hold: bool = False) -> None:
        """The socket accepts commands. `hold`: they wait for `open`, so that nobody is told of a
        module that is just being brought up that it does not exist.

        Raises:
            LocalFault: the folder cannot be made safe, or another daemon answers there.
        """
        if not hold:
            self.open()
        try:
            self._gid = grp.getgrnam(self._group).gr_gid if self._group else None
        except KeyError:
            raise LocalFault(f"there is no group {self._group!r} to administer safekit") from None
        try:
            listener = _listen(self._path, self._gid)
        except OSError as error:
            raise LocalFault(f"cannot open the control socket {self._path}: {error}") from error
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=MAX_REQUEST_BYTES
        )

    async def close(self) -> None:
        """No command is accepted any more; those under way are cancelled."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(
            self._converse(reader, writer), name="admin client"
        )
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            caller = _caller(writer.get_extra_info("socket"))
            self._admit(caller)
            while True:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readuntil(b"\n")
                await self._open.wait()
                await _send(writer, await self._answer(line, caller))
        except SafekitError as refusal:
            with contextlib.suppress(OSError, TimeoutError):
                await _send(writer, _failure(refusal))
        except asyncio.LimitOverrunError:
            with contextlib.suppress(OSError, TimeoutError):
                await _send(writer, _failure(RequestRefused("the request is too long")))
        except (asyncio.IncompleteReadError, OSError, TimeoutError) as error:
            log.debug("control client left: %r", error)
        finally:
            writer.close()

    def _admit(self, caller: Caller) -> None:
        if len(self._clients) > MAX_CLIENTS:
            raise RequestRefused("too many commands at once", "try again")
        allowed = caller.uid in (0, os.geteuid()) or self._gid in caller.groups
        if not allowed:
            log.warning("uid %d (pid %d) may not command safekit", caller.uid, caller.pid)
            raise RequestRefused("permission denied", "safekit commands are for root")

    async def _answer(self, line: bytes, caller: Caller) -> Reply:
        try:
            request = decode_request(line)
            who = await _name(caller, request.user)
            verb, call = prepare(request, who)
            if not verb.recorded(call.args):
                return Reply(ok=True, data=await perform(self._manager, request, who))
            return await self._change(request, who, caller)
        except SafekitError as refusal:
            return _failure(refusal)
        except Exception as bug:
            if isinstance(bug, OSError) and bug.errno in _DISK_HINTS:
                return _failure(_disk_fault(bug))
            log.exception("a control request failed")
            return Reply(
                ok=False,
                error=f"internal error of safeadmin: {type(bug).__name__}",
                hint="see journalctl -u safeadmin",
                exit_code=1,
            )

    async def _change(self, request: Request, who: str, caller: Caller) -> Reply:
        """Carry out what changes something, and write it into the node's command log: what was
        typed, and `-u` with who did and from where (reference 15.6)."""
        argv = request.argv or [request.verb, *([request.module] if request.module else [])]
        argv = [*argv, "-u", whence(who, request.origin)]
        number = await self._manager.record_command(request.module, caller.pid, argv)
        exit_code = 1
        try:
            data = await perform(self._manager, request, who)
            exit_code = 0
        except SafekitError as refusal:
            exit_code = refusal.exit_code
            raise
        finally:
            await self._manager.record_command_end(number, exit_code)
        return Reply(ok=True, data=data)


def _disk_fault(error: OSError) -> LocalFault:
    where = f"{error.filename}: " if error.filename else ""
    log.warning("a command could not be carried out: %s", error)
    return LocalFault(f"{where}{error.strerror}", _DISK_HINTS[error.errno or 0])


def _listen(path: str, gid: int | None) -> socket.socket:
    """A listening socket that only root (and the group) can reach.

    The folder shuts others out before the socket exists, so no moment is unprotected.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(f"{folder} is not a directory of our own")
    if gid is not None:
        os.chown(folder, -1, gid)
    Path(folder).chmod(0o700 if gid is None else 0o710)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        if gid is not None:
            os.chown(path, -1, gid)
        Path(path).chmod(0o600 if gid is None else 0o660)
        listener.listen(MAX_CLIENTS)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Take away the socket a dead daemon left; a living one keeps it and we give up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError("another safeadmin answers there")


def _caller(connection: socket.socket) -> Caller:
    """Pid, user and groups of the peer, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        packed = b""  # in more than 256 groups: only the primary one counts
    groups = struct.unpack(f"{len(packed) // 4}I", packed)
    return Caller(pid, uid, frozenset((gid, *groups)))


async def _name(caller: Caller, claimed: str) -> str:
    """Who stands in the log. Only root may name somebody else (`admin@10.0.0.1`)."""
    if caller.uid == 0:
        if claimed and (len(claimed) > 128 or not claimed.isprintable()):
            raise RequestRefused("the name of the user is not printable text")
        return claimed or "root"
    try:  # may ask a directory server, hence not in the loop
        return (await asyncio.to_thread(pwd.getpwuid, caller.uid)).pw_name
    except KeyError:
        return f"uid {caller.uid}"


def whence(who: str, origin: str) -> str:
    """`root@10.0.0.7`: the address is what the client says of its own session, and only shown."""
    if not origin or "@" in who:
        return who
    try:
        return f"{who}@{ipaddress.ip_address(origin)}"
    except ValueError:
        return who


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(encode_reply(reply))
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


def _failure(error: SafekitError) -> Reply:
    return Reply(ok=False, error=error.message, hint=error.hint, exit_code=error.exit_code)
