"""What the command line calls: one connection, one request, one reply. Blocking, no asyncio."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from safepy.admin.limits import limit_s, looks
from safepy.errors import DaemonAbsent, RequestRefused, SafekitError
from safepy.wire.admin import MAX_REPLY_BYTES, Request, decode_reply, encode_request

#: How long a command waits for a daemon that is just being started.
WAIT_S = 10.0
_RETRY_S = 0.1
_CHUNK_BYTES = 64 * 1024
#: What to do when no answer comes.
_HINT_LOOK = "systemctl status safeadmin shows whether it hangs; systemd restarts it then"
_HINT_CHANGE = "the command may still be under way: see safekit state, safekit cmdlog"


class Client:
    """Asks the daemon behind the socket at `path`.

    `argv` is what was typed, for the command log. `wait_s` is how long to wait for a daemon
    that does not listen yet; meanwhile dots go to standard error. `answer_s` is how long to wait
    for an answer, by default what `admin.limits` says of the verb.
    """

    def __init__(
        self,
        path: str,
        argv: Sequence[str] = (),
        wait_s: float = WAIT_S,
        answer_s: float | None = None,
    ) -> None:
        self._answer_s = answer_s
        self._path = path
        self._argv = [text.encode("utf-8", "backslashreplace").decode() for text in argv]
        self._wait_s = wait_s

    def call(self, verb: str, module: str = "", **args: Any) -> Any:
        """The answer, as the type that `admin.api.VERBS` names for this verb.

        Raises:
            DaemonAbsent: nobody listens, or it ended before it answered.
            SafekitError: what the daemon refused, in its words.
        """
        line = encode_request(Request(verb, module, args, argv=self._argv, origin=_origin()))
        with self._connect() as connection:
            wait_s = limit_s(verb) if self._answer_s is None else self._answer_s
            hint = _HINT_LOOK if looks(verb) else _HINT_CHANGE
            reply = decode_reply(_exchange(connection, line, wait_s, hint))
        if not reply.ok:
            failure = SafekitError(reply.error, reply.hint)
            failure.exit_code = reply.exit_code or 1
            raise failure
        if reply.data is None or isinstance(reply.data, str | int):
            return reply.data  # a command that only says "do it" needs no types
        return _typed(verb, reply.data)

    def _connect(self) -> socket.socket:
        """A connection, after waiting for the daemon if need be (reference 13.10)."""
        deadline = time.monotonic() + self._wait_s
        dots = 0.0
        waiting = False
        try:
            while True:
                connection = self._try()
                if connection is not None:
                    return connection
                now = time.monotonic()
                if now >= deadline:
                    raise DaemonAbsent(
                        "safeadmin administrator daemon not running", "systemctl start safeadmin"
                    )
                if now >= dots:
                    sys.stderr.write("." if waiting else "Waiting for safeadmin .")
                    sys.stderr.flush()
                    waiting, dots = True, now + 1.0
                time.sleep(min(_RETRY_S, deadline - now))
        finally:
            if waiting:
                sys.stderr.write("\n")

    def _try(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(2.0)
            connection.connect(self._path)
        except PermissionError:
            connection.close()
            raise RequestRefused("permission denied", "safekit commands are for root") from None
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError):
            connection.close()  # not there yet, or too busy to accept
            return None
        except OSError:
            connection.close()
            raise
        return connection


def _origin() -> str:
    """The address from which the session came, if sshd made it."""
    return next(iter(os.environ.get("SSH_CLIENT", "").split()), "")


def _typed(verb: str, data: object) -> Any:
    """The answer as the table of verbs says. Raises RequestRefused if it is another one."""
    import msgspec

    answer: Any
    if verb == "state":  # asked for most often, and the whole table costs 20 ms
        from safepy.model import Snapshot

        answer = list[Snapshot]
    else:
        from safepy.admin.api import VERBS

        answer = VERBS[verb].answer
    try:
        return None if answer is None else msgspec.convert(data, answer)
    except msgspec.ValidationError as error:
        raise RequestRefused(
            f"safeadmin gave an answer of another version: {error}",
            "restart it: systemctl restart safeadmin",
        ) from None


def _exchange(connection: socket.socket, line: bytes, limit_s: float, hint: str) -> bytes:
    """Send the line and return the reply's, within `limit_s`; `hint` is for who gets none."""
    deadline = time.monotonic() + limit_s
    received = bytearray()
    try:
        # Who is refused at the door finds it closed, and the reason waiting behind it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(line)
        while not received.endswith(b"\n"):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connection.recv(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError
            received += chunk
            if len(received) > MAX_REPLY_BYTES:
                raise RequestRefused("safeadmin gave an answer without end")
    except TimeoutError:
        raise DaemonAbsent(f"safeadmin did not answer within {limit_s:.3g} seconds", hint) from None
    except (ConnectionResetError, BrokenPipeError):
        raise DaemonAbsent(
            "safeadmin ended before it answered",
            "whether the command was carried out shows safekit state",
        ) from None
    return bytes(received)
