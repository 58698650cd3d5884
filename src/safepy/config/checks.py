"""`<check>` and what stands in it: elements to `schema.Checks` (reference: userconfig 15).

`disk` and `delay` are ours. An `action` makes a rule (`t_IDENT` and so on); the kinds without one
have a shipped rule for their whole class.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from safepy.config import xml
from safepy.config.names import HOST_NAME, LABEL, LABEL_RULE, NAME, NAME_RULE
from safepy.config.schema import (
    Check,
    Checks,
    CustomCheck,
    DelayCheck,
    DiskCheck,
    IntfCheck,
    IpCheck,
    ModuleCheck,
    PingCheck,
    Rfs,
    SplitbrainCheck,
    TcpCheck,
)
from safepy.config.values import Values, Words, check_attributes

WHENS: tuple[str, ...] = ("pre", "prim", "second", "both")
#: A light module has neither of the two roles.
LIGHT_WHENS: tuple[str, ...] = ("pre", "both")
#: What waits goes on when the resource is up, so its checker has to live in WAIT: only `pre` does.
PRE_ACTIONS = ("wait", "noaction")
ACTIONS = ("stop", "stopstart", "restart", "noaction")
#: Each one is a task, a socket or a process of its own.
MAX_CHECKS = 64
MAX_WITNESSES = 8
MAX_ARGUMENT_CHARACTERS = 4096
MAX_PATH_CHARACTERS = 1024

_KINDS = ("tcp", "ping", "intf", "ip", "custom", "module", "splitbrain", "disk", "delay")
VOCABULARY = {
    # An example of SafeKit nests the element in itself (reference: userconfig 25).
    "check": Words(children=("check", *_KINDS)),
    "tcp": Words(attributes=("ident", "when", "action"), children=("to",)),
    "ping": Words(attributes=("ident", "when", "action"), children=("to",)),
    "intf": Words(attributes=("ident", "when"), children=("to",)),
    "ip": Words(attributes=("ident", "when"), children=("to",)),
    "custom": Words(attributes=("ident", "when", "exec", "arg", "action")),
    "module": Words(attributes=("name", "ident", "when"), children=("to",)),
    "splitbrain": Words(attributes=("ident", "when", "exec", "arg")),
    "disk": Words(attributes=("ident", "when", "action"), children=("to",)),
    "delay": Words(attributes=("when", "action"), children=("to",)),
    # Which of them stand where: see TO_VOCABULARY.
    "to": Words(
        attributes=(
            *("addr", "port", "interval", "timeout", "local_addr", "secure"),
            *("dir", "minfree", "maxlatency", "max", "conflict"),
        )
    ),
}
TO_VOCABULARY = {
    "tcp": Words(attributes=("addr", "port", "interval", "timeout")),
    "ping": Words(attributes=("addr", "interval", "timeout")),
    "intf": Words(attributes=("local_addr", "interval")),
    "ip": Words(attributes=("addr", "interval", "conflict")),
    "module": Words(attributes=("addr", "port", "interval", "timeout", "secure")),
    "disk": Words(attributes=("dir", "minfree", "maxlatency", "interval", "timeout")),
    "delay": Words(attributes=("max", "interval")),
}

_LOOKS_NUMERIC = re.compile(r"[0-9.]+\Z")
_ADDRESS_RULE = "is an IPv4 or IPv6 address, or a name"
_ROOM = re.compile(r"([0-9]{1,15})(%|[KMGT])?")
_ROOM_RULE = "are a share as in 5%, or bytes as in 500M or 2G (K, M, G, T), 0 for any"
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DIRECTORY = re.compile(r"/[^\s\x00-\x1f\x7f]{0,1023}")
_DIRECTORY_RULE = 'absolute paths without spaces and without ".."'
#: The web services of two nodes have no certificates that the other one could verify.
_SECURE = "is off, HTTPS between web services is not supported yet by this version"


def parse_checks(element: xml.Element, file: str, mode: str, rfs: Rfs | None) -> Checks:
    """The checks of a module with this mode and replication. Raises ConfigError."""
    found: list[Check] = []
    for child in _flat(element):
        check = _PARSERS[child.tag](_Given(child, file, mode, rfs))
        if check.resource in (other.resource for other in found):
            text = f"<{child.tag}>: {check.resource} is there a second time, allowed is once"
            raise xml.error(file, child.line, text)
        found.append(check)
        if len(found) > MAX_CHECKS:
            text = f"<{child.tag}>: allowed are at most {MAX_CHECKS} checks in a module"
            raise xml.error(file, child.line, text)
    second = [child for child in _flat(element) if child.tag == "splitbrain"][1:]
    if second:
        text = "<splitbrain> a second time: allowed is one, with all witnesses in arg"
        raise xml.error(file, second[0].line, text)
    return tuple(found)


def _flat(element: xml.Element) -> list[xml.Element]:
    found: list[xml.Element] = []
    for child in element.children:
        found += _flat(child) if child.tag == "check" else [child]
    return found


class _Given:
    """One check's element, its `<to>`, and what surrounds it."""

    def __init__(self, element: xml.Element, file: str, mode: str, rfs: Rfs | None) -> None:
        self.mode = mode
        self.rfs = rfs
        self.values = Values(element, file)
        targets = element.named("to")
        if len(targets) > 1:
            text = f"<to> a second time in <{element.tag}>: allowed is one"
            raise xml.error(file, targets[1].line, text)
        self._to = Values(targets[0], file) if targets else None
        for target in targets:
            check_attributes(target, file, TO_VOCABULARY[element.tag])

    @property
    def to(self) -> Values | None:
        return self._to

    def target(self) -> Values:
        if self._to is None:
            element = self.values.element
            text = f"<{element.tag}>: <to> is missing, allowed is exactly one"
            raise xml.error(self.values.file, element.line, text)
        return self._to

    def ident(self) -> str:
        return self.values.matching("ident", LABEL, LABEL_RULE)

    def when(self, default: str | None = None, fixed: bool = False, pre: bool = True) -> str:
        """`fixed`: nothing but the default may stand there; not `pre`: WAIT has no such check."""
        allowed = LIGHT_WHENS if self.mode == "light" else WHENS
        if not pre:
            allowed = tuple(when for when in allowed if when != "pre")
        if fixed and default is not None:
            allowed = (default,)
        return self.values.choice("when", allowed, default)

    def action(self, when: str, default: str) -> str:
        """The reference's default where it can be used with this `when`; for `pre` only a wait
        can be, so there it needs no words (15.1, 15.2)."""
        allowed = PRE_ACTIONS if when == "pre" else ACTIONS
        if default not in allowed:
            if when != "pre" and "action" not in self.values.element.attributes:
                hint = f'the default {default} is possible only with when="pre"'
                raise self.values.wrong("action", "are " + ", ".join(allowed), hint)
            default = "wait"
        if self.values.element.attributes.get("action") == "wait" and when != "pre":
            hint = 'wait is possible only with when="pre"'
            raise self.values.wrong("action", "are " + ", ".join(allowed), hint)
        return self.values.choice("action", allowed, default)

    def interval_s(self, default: float = 10) -> float:
        return self._time_s("interval", default)

    def timeout_s(self, default: float = 5) -> float:
        return self._time_s("timeout", default)

    def _time_s(self, attribute: str, default: float) -> float:
        return default if self._to is None else self._to.time_s(attribute, "s", 1, 86_400, default)


def _tcp(given: _Given) -> Check:
    when = given.when()
    to = given.target()
    return TcpCheck(
        ident=given.ident(),
        when=when,
        action=given.action(when, "restart"),
        addr=_host(to, "addr"),
        port=_port(to),
        interval_s=given.interval_s(),
        timeout_s=given.timeout_s(),
    )


def _ping(given: _Given) -> Check:
    when = given.when("pre")
    return PingCheck(
        ident=given.ident(),
        when=when,
        action=given.action(when, "wait"),
        addr=_host(given.target(), "addr"),
        interval_s=given.interval_s(),
        timeout_s=given.timeout_s(),
    )


def _intf(given: _Given) -> Check:
    return IntfCheck(
        ident=given.ident(),
        when=given.when("pre", fixed=True),
        local_addr=_number(given.target(), "local_addr"),
        interval_s=given.interval_s(),
    )


def _ip(given: _Given) -> Check:
    return IpCheck(
        ident=given.ident(),
        when=given.when("both" if given.mode == "light" else "prim", pre=False),
        addr=_number(given.target(), "addr"),
        conflict=given.target().choice("conflict", ("log", "down"), "log"),
        interval_s=given.interval_s(),
    )


def _custom(given: _Given) -> Check:
    values = given.values
    when = given.when()
    path = values.text("exec", "")
    clean = path.isprintable() and path == path.strip() and not path.endswith("/")
    if not path or not clean or ".." in path.split("/") or len(path) > MAX_PATH_CHARACTERS:
        raise values.wrong("exec", 'is the path of a program, without ".."; bin/ need not be said')
    words = values.text("arg", "")
    if len(words) > MAX_ARGUMENT_CHARACTERS or "\0" in words:
        raise values.wrong("arg", f"are at most {MAX_ARGUMENT_CHARACTERS} characters")
    return CustomCheck(
        ident=given.ident(),
        when=when,
        action=given.action(when, "noaction"),
        path=path,
        arguments=tuple(words.split()),
    )


def _module(given: _Given) -> Check:
    values, to = given.values, given.to
    name = values.matching("name", NAME, NAME_RULE)
    addr = "" if to is None or "addr" not in to.element.attributes else _host(to, "addr")
    if to is not None and to.switch("secure", False):
        raise to.wrong("secure", _SECURE)
    port = 0 if to is None or "port" not in to.element.attributes else _port(to)
    ident = f"{name}_{addr or '127.0.0.1'}"
    if "ident" in values.element.attributes or not LABEL.fullmatch(ident):
        ident = given.ident()
    return ModuleCheck(
        ident=ident,
        when=given.when("pre", fixed=True),
        name=name,
        addr=addr,
        port=port,
        interval_s=given.interval_s(),
        timeout_s=given.timeout_s(),
    )


def _splitbrain(given: _Given) -> Check:
    values = given.values
    if given.mode != "mirror":
        text = '<splitbrain>: allowed only in a module with mode="mirror"'
        raise xml.error(values.file, values.element.line, text)
    values.choice("exec", ("ping",), "ping")
    words = values.text("arg", "").split()
    if not words or len(words) > MAX_WITNESSES or len(set(words)) != len(words):
        raise values.wrong("arg", f"are 1 to {MAX_WITNESSES} different addresses or names")
    return SplitbrainCheck(
        ident=given.ident(),
        when=given.when("pre", fixed=True),
        witnesses=tuple(_address(values, "arg", word) for word in words),
    )


def _disk(given: _Given) -> Check:
    to = given.to
    when = given.when("both")
    return DiskCheck(
        ident=given.ident(),
        when=when,
        action=given.action(when, "noaction"),
        dirs=_directories(given),
        **_room(to),
        maxlatency_s=2.0 if to is None else to.time_s("maxlatency", "ms", 0, 3_600_000, 2_000),
        interval_s=given.interval_s(),
        timeout_s=given.timeout_s(10),
    )


def _delay(given: _Given) -> Check:
    when = given.when("both")
    to = given.to
    return DelayCheck(
        ident="delay",
        when=when,
        action=given.action(when, "noaction"),
        max_s=1.0 if to is None else to.time_s("max", "ms", 50, 600_000, 1_000),
        interval_s=given.interval_s(),
    )


_PARSERS: dict[str, Callable[[_Given], Check]] = {
    "tcp": _tcp,
    "ping": _ping,
    "intf": _intf,
    "ip": _ip,
    "custom": _custom,
    "module": _module,
    "splitbrain": _splitbrain,
    "disk": _disk,
    "delay": _delay,
}


def _directories(given: _Given) -> tuple[str, ...]:
    """The one that is named, else all that are replicated."""
    to = given.to
    if to is None or "dir" not in to.element.attributes:
        if given.rfs is None:
            values = given.values if to is None else to
            text = f"<{values.element.tag}>: without <rfs>, allowed is only <disk> with <to dir>"
            raise xml.error(values.file, values.element.line, text)
        return tuple(entry.dir for entry in given.rfs.replicated)
    path = to.matching("dir", _DIRECTORY, _DIRECTORY_RULE)
    if ".." in path.split("/"):
        raise to.wrong("dir", f"are {_DIRECTORY_RULE}")
    return ("/" + path.strip("/"),)


def _room(to: Values | None) -> dict[str, int]:
    text = "5%" if to is None else to.text("minfree", "5%")
    found = _ROOM.fullmatch(text)
    if to is not None and (found is None or (found[2] == "%" and int(found[1]) > 99)):
        raise to.wrong("minfree", _ROOM_RULE)
    assert found is not None
    if found[2] == "%":
        return {"minfree_percent": int(found[1])}
    return {"minfree_bytes": int(found[1]) * _BYTES.get(found[2] or "", 1)}


def _port(values: Values) -> int:
    if "port" not in values.element.attributes:
        raise values.wrong("port", "are whole numbers from 1 to 65535")
    return values.integer("port", 1, 65_535, 0)


def _number(values: Values, attribute: str) -> str:
    """An address of this node: in numbers, since a name may mean any host."""
    text = values.element.attributes.get(attribute, "")
    try:
        address = ipaddress.ip_address(_bare(text))
    except ValueError:
        raise values.wrong(attribute, "is an IPv4 or IPv6 address") from None
    if address.is_unspecified or address.is_multicast:
        raise values.wrong(attribute, "is the address of one node")
    return str(address)


def _host(values: Values, attribute: str) -> str:
    return _address(values, attribute, values.element.attributes.get(attribute, ""))


def _address(values: Values, attribute: str, text: str) -> str:
    """An address as sockets take it, or a name: without the brackets of IPv6."""
    try:
        address = ipaddress.ip_address(_bare(text))
    except ValueError:
        if _LOOKS_NUMERIC.match(text) or not HOST_NAME.fullmatch(text):
            raise values.wrong(attribute, _ADDRESS_RULE) from None
        return text
    if address.is_unspecified or address.is_multicast:
        raise values.wrong(attribute, "is the address of one host")
    return str(address)


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
