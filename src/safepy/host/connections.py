"""The TCP connections whose local end is one address: how many there are, and an end to them.

sock_diag (7) by hand: the library has no word for ending connections, and it would make objects of
a hundred thousand of them that the kernel can filter and this file only counts.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import socket
import struct
from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48s")
_ATTRIBUTE = struct.Struct("=HH")
_BYTECODE = 1
_COMPARE_SOURCE = 7
_OPERATION = struct.Struct("=BBH")
_CONDITION = struct.Struct("=BBHi")
#: Offset and length of the socket's id (ports, addresses, cookie) in what is told of it.
_ID = slice(4, 52)
_MESSAGE_BYTES_MIN = 72
_BUFFER_BYTES = 256 << 10

#: ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING and
#: NEW_SYN_RECV: everything but what listens (10) and what is over (6, 7).
_ALIVE = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11, 12))
_ESTABLISHED = 1 << 1
#: The kernel was built without it, or this user may not.
_CANNOT = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)
_ROUNDS = 3

_numbers = itertools.count(1)


def count(address: str, limit_s: float = 2.0) -> int:
    """Established connections with this local address. Raises OSError."""
    with _diag(limit_s) as diag:
        return sum(1 for _ in _found(diag, address, _ESTABLISHED))


def reset(address: str, limit_s: float = 2.0) -> int:
    """No connection has this local address: both ends were told (the other one by RST, so the
    address has to be there still). Returns how many there were.

    Raises OSError; EOPNOTSUPP where the kernel cannot do it (CONFIG_INET_DIAG_DESTROY). Blocks.
    """
    ended = 0
    with _diag(limit_s) as diag:
        # A connection may be made while others end.
        for _ in range(_ROUNDS):
            alive = list(_found(diag, address, _ALIVE))
            if not alive:
                break
            ended += sum(_destroy(diag, family, which) for family, which in alive)
    return ended


def _diag(limit_s: float) -> socket.socket:
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
    diag.settimeout(limit_s)
    diag.bind((0, 0))
    return diag


def _found(diag: socket.socket, address: str, states: int) -> Iterator[tuple[int, bytes]]:
    """(family, id) of each socket. An IPv4 connection may belong to a socket of IPv6."""
    wanted = ipaddress.ip_address(address)
    families = [socket.AF_INET6] if wanted.version == 6 else [socket.AF_INET, socket.AF_INET6]
    for family in families:
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states, b"\0" * 48)
        request += _only_from(wanted)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        for told in _talk(diag, _SOCK_DIAG_BY_FAMILY, flags, request):
            yield told[0], told[_ID]


def _only_from(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """A filter that the kernel runs: the local address is this one."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # A port of -1 is any.
    condition = _CONDITION.pack(family, address.max_prefixlen, 0, -1) + address.packed
    length = _OPERATION.size + len(condition)
    # If it does not hold, go on beyond the end: that is a no.
    program = _OPERATION.pack(_COMPARE_SOURCE, length, length + 4) + condition
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), _BYTECODE) + program


def _destroy(diag: socket.socket, family: int, which: bytes) -> int:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF, which)
    try:
        for _ in _talk(diag, _SOCK_DESTROY, _NLM_F_REQUEST | _NLM_F_ACK, request):
            pass
    except OSError as error:
        if error.errno in _CANNOT:
            raise
        return 0  # It ended by itself.
    return 1


def _talk(diag: socket.socket, kind: int, flags: int, request: bytes) -> Iterator[bytes]:
    """Each answer to one request. Raises OSError."""
    number = next(_numbers) & 0x7FFFFFFF
    diag.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, number, 0) + request)
    while True:
        data = diag.recv(_BUFFER_BYTES)
        at = 0
        while at + _HEADER.size <= len(data):
            length, told, _, answers, _ = _HEADER.unpack_from(data, at)
            least = _HEADER.size + (4 if told == _NLMSG_ERROR else 0)
            if length < least or at + length > len(data):
                raise OSError(errno.EBADMSG, "the kernel's answer cannot be read")
            body = data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3
            if answers != number:
                continue  # of a request that was given up
            if told == _NLMSG_DONE:
                return
            if told == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body)
                if code:
                    raise OSError(-code, f"sock_diag: {errno.errorcode.get(-code, code)}")
                return
            if len(body) >= _MESSAGE_BYTES_MIN:
                yield body
