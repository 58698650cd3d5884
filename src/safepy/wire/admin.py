"""What travels over the control socket: one JSON document a line, request and reply.

JSON escapes newlines, so a line feed ends a document and nothing else. Both sides check the
length before they look inside (protocol S4), although only root can connect (S12).
"""

from __future__ import annotations

from typing import Any

import msgspec

from safepy.errors import RequestRefused

#: The longest request; a file's content never travels here, only its path.
MAX_REQUEST_BYTES = 256 * 1024
#: The longest reply: the state of many modules with all their resources.
MAX_REPLY_BYTES = 16 * 1024 * 1024


class Request(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One wish. `args` are checked against the verb's own type by `admin.api`.

    `user` names who asks, for the log; believed only from root, who may speak for others.
    `argv` is what was typed, for the command log, and `origin` the address from which whoever typed
    it came (ssh), if he did.
    """

    verb: str
    module: str = ""
    args: dict[str, Any] = {}
    user: str = ""
    argv: list[str] = []
    origin: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer. When `ok` is false, `error` and `hint` are the words for the operator and
    `exit_code` is what the command line ends with."""

    ok: bool
    data: Any = None
    error: str = ""
    hint: str = ""
    exit_code: int = 0


_REQUEST = msgspec.json.Decoder(Request)
_REPLY = msgspec.json.Decoder(Reply)
#: The last one: brackets in brackets, a thousand times.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_request(request: Request) -> bytes:
    """The line, with its end.

    Raises:
        RequestRefused: an argument is not text, or the line would be too long.
    """
    try:
        line = msgspec.json.encode(request) + b"\n"
    except UnicodeEncodeError:
        raise RequestRefused("an argument is not valid UTF-8 text") from None
    if len(line) > MAX_REQUEST_BYTES:
        raise RequestRefused(
            f"the request is {len(line)} bytes long, at most {MAX_REQUEST_BYTES} are allowed"
        )
    return line


def decode_request(line: bytes) -> Request:
    """Raises RequestRefused with a sentence when the line is no request."""
    if len(line) > MAX_REQUEST_BYTES:
        raise RequestRefused(f"a request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        return _REQUEST.decode(line)
    except _UNREADABLE as error:
        raise RequestRefused(f"not a request: {error}") from None


def encode_reply(reply: Reply) -> bytes:
    """The line, with its end; a reply that grew too long becomes an error of one line."""
    line = msgspec.json.encode(reply) + b"\n"
    if len(line) > MAX_REPLY_BYTES:
        refusal = Reply(ok=False, error="the answer is too long", exit_code=1)
        return msgspec.json.encode(refusal) + b"\n"
    return line


def decode_reply(line: bytes) -> Reply:
    """Raises RequestRefused when the line is no reply (another program on the socket)."""
    try:
        return _REPLY.decode(line)
    except _UNREADABLE as error:
        raise RequestRefused(f"safeadmin gave an answer that is none: {error}") from None
