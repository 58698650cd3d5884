"""Who else has an address? The question that claims nothing, and its answer: an ARP probe for IPv4
(RFC 5227), a neighbour solicitation from nobody for IPv6 (RFC 4862, 5.4)."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

FRAME_BYTES_MAX = 2048
_ARP_TYPE, _IPV6_TYPE = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_REPLY = 2
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
#: Version and flow, payload length, next header, hop limit, source, target.
_IPV6 = struct.Struct("!IHBB16s16s")
#: Type, code, checksum, flags, the address that it is about.
_ABOUT = struct.Struct("!BBHI16s")
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
#: No router lets a packet through with it: it came from this wire.
_HOPS = 255
_HARDWARE_OPTION = 2
_NOBODY = bytes(16)
#: Of an IPv6 address, whoever has it listens here.
_SOLICITED = bytes.fromhex("ff0200000000000000000001ff")

_SO_ATTACH_FILTER = 26
#: Classic BPF: only advertisements are woken up for, on a wire that may carry a million packets.
_ONLY_ADVERTISEMENTS = b"".join(
    struct.pack("=HBBI", *each)
    for each in (
        (0x30, 0, 0, _ETHERNET.size + 6),  # the next header
        (0x15, 0, 3, _ICMPV6),
        (0x30, 0, 0, _ETHERNET.size + _IPV6.size),  # the type
        (0x15, 0, 1, _ADVERTISEMENT),
        (0x06, 0, 0, FRAME_BYTES_MAX),
        (0x06, 0, 0, 0),
    )
)


def listening(interface: str, version: int) -> socket.socket:
    """Sends frames on the interface, and hears what may be answers. Raises OSError."""
    kind = _ARP_TYPE if version == 4 else _IPV6_TYPE
    # Bound to nothing yet: it hears nothing before its filter is there.
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        link.setblocking(False)
        if version == 6:
            program = ctypes.create_string_buffer(_ONLY_ADVERTISEMENTS)
            length = len(_ONLY_ADVERTISEMENTS) // 8
            link.setsockopt(
                socket.SOL_SOCKET,
                _SO_ATTACH_FILTER,
                struct.pack("@HP", length, ctypes.addressof(program)),
            )
        link.bind((interface, kind))
    except OSError:
        link.close()
        raise
    return link


def question(mine: bytes, wanted: Address) -> bytes:
    """The frame that asks who has `wanted`. `mine`: the hardware address of who asks."""
    if wanted.version == 4:
        head = _ETHERNET.pack(_BROADCAST, mine, _ARP_TYPE)
        return head + _ARP.pack(1, 0x0800, 6, 4, 1, mine, b"\0" * 4, b"\0" * 6, wanted.packed)
    group = _SOLICITED + wanted.packed[-3:]
    bare = _ABOUT.pack(_SOLICITATION, 0, 0, 0, wanted.packed)
    pseudo = _NOBODY + group + struct.pack("!II", len(bare), _ICMPV6)
    asked = _ABOUT.pack(_SOLICITATION, 0, checksum(pseudo + bare), 0, wanted.packed)
    head = _ETHERNET.pack(b"\x33\x33" + group[-4:], mine, _IPV6_TYPE)
    return head + _IPV6.pack(6 << 28, len(asked), _ICMPV6, _HOPS, _NOBODY, group) + asked


def answer(frame: bytes, wanted: Address) -> bytes | None:
    """The hardware address that says it has `wanted`, if `frame` is such an answer."""
    body = frame[_ETHERNET.size :]
    return _arp_answer(body, wanted) if wanted.version == 4 else _advertised(frame, body, wanted)


def _arp_answer(body: bytes, wanted: Address) -> bytes | None:
    if len(body) < _ARP.size:
        return None
    kind, protocol, hardware, length, operation, sender, its_address, _, _ = _ARP.unpack_from(body)
    if (kind, protocol, hardware, length, operation) != (1, 0x0800, 6, 4, _REPLY):
        return None
    return bytes(sender) if its_address == wanted.packed else None


def _advertised(frame: bytes, body: bytes, wanted: Address) -> bytes | None:
    if len(body) < _IPV6.size + _ABOUT.size:
        return None
    _, length, next_header, hops, _, _ = _IPV6.unpack_from(body)
    kind, code, _, _, about = _ABOUT.unpack_from(body, _IPV6.size)
    if (next_header, hops, kind, code) != (_ICMPV6, _HOPS, _ADVERTISEMENT, 0):
        return None
    if about != wanted.packed:
        return None
    option = body[_IPV6.size + _ABOUT.size : _IPV6.size + length][:8]
    if len(option) == 8 and option[:2] == bytes((_HARDWARE_OPTION, 1)):
        return option[2:]
    return frame[6:12]


def checksum(data: bytes) -> int:
    """Of the internet (RFC 1071), of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
