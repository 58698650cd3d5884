"""`<rfs>` and what stands in it: elements to `schema.Rfs` (reference: userconfig 11 and 19)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from safepy.config import schedule, xml
from safepy.config.names import LABEL, LABEL_RULE
from safepy.config.schema import Replicated, Rfs
from safepy.config.values import Values, Words, at_most
from safepy.core.replica.patterns import Pattern

_WINDOWS = "it is for Windows nodes, and means nothing on Linux: take it out"

VOCABULARY = {
    "rfs": Words(
        attributes=(
            *("async", "nbrei", "acl", "locktimeout", "sendtimeout", "mountover", "scripts"),
            *("reitimeout", "reidetail", "reicommit", "reiallowedbw", "packetsize"),
            *("reipacketsize", "ruzone_blocksize", "namespacepolicy", "nbremconn"),
            *("mountoversuffix", "checktime", "checkintv", "syncdelta", "syncat"),
        ),
        children=("replicated", "flow"),
        refused_attributes=dict.fromkeys(
            ("iotimeout", "roflags", "allocthreshold", "nfsbox_options"), _WINDOWS
        ),
    ),
    "flow": Words(attributes=("name",), later_children=("server",)),
    "replicated": Words(attributes=("dir", "mode"), children=("tocheck", "notreplicated")),
    "tocheck": Words(attributes=("path",)),
    "notreplicated": Words(attributes=("path", "regexpath")),
}

#: Of older files: what they choose does not exist here. (`mountover` is in every template.)
WITHOUT_EFFECT = frozenset(
    {"packetsize", "ruzone_blocksize", "namespacepolicy", "nbremconn", "mountoversuffix"}
)

#: Each one is a mount of its own.
MAX_DIRECTORIES = 64
SYSTEM_DIRECTORIES = ("/proc", "/sys", "/dev", "/run")
#: The packet of a reintegration without `packetsize` and `reipacketsize` (11.1).
REI_PACKET_BYTES = 8 << 20
_PACKET_BYTES_MIN = 1024
_PACKET_BYTES_MAX = 1 << 30
#: The last path component of one entry, and the whole of it (PATH_MAX without its end).
_NAME_BYTES_MAX = 255
_PATH_BYTES_MAX = 4095

_DIRECTORY = re.compile(r"/[^\s\x00-\x1f\x7f]{1,1023}")
_DIRECTORY_RULE = 'absolute paths without spaces and without ".."'
_RELATIVE_RULE = 'is a path below the directory: relative, without "." and ".." in it'
_SUFFIX = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def parse_rfs(element: xml.Element, file: str, scripts_run: bool) -> Rfs:
    """The values of `<rfs>`; `scripts_run`: there is a `<user>`. Raises ConfigError."""
    values = Values(element, file)
    directories: list[Replicated] = []
    at_most(element, "replicated", MAX_DIRECTORIES, file)
    for child in element.named("replicated"):
        directories.append(_replicated(child, file, [other.dir for other in directories]))
    if not directories:
        text = "<rfs>: <replicated> is missing, allowed is one for each directory"
        raise xml.error(file, element.line, text)
    acknowledge_on = {"second": "receipt", "none": "apply"}
    callbacks = values.switch("scripts", False)
    if callbacks and not scripts_run:
        raise values.wrong("scripts", 'is "on" only together with <user/>', "no script runs else")
    packet_bytes = _accept_without_effect(values)
    return Rfs(
        replicated=tuple(directories),
        acknowledge_on=acknowledge_on[values.choice("async", ("second", "none"), "second")],
        transfers=values.integer("nbrei", 1, 64, 6),
        acl=values.switch("acl", False),
        locktimeout_s=values.time_s("locktimeout", "s", 1, 86_400, 100),
        sendtimeout_s=values.time_s("sendtimeout", "s", 1, 86_400, 30),
        reitimeout_s=values.time_s("reitimeout", "s", 1, 86_400, 150),
        reidetail=values.switch("reidetail", False),
        reicommit_bytes=values.integer("reicommit", 0, 1_000_000, 0) * packet_bytes,
        reiallowedbw_bytes_s=values.integer("reiallowedbw", 0, 1_000_000_000, 0) * 1024,
        # Up to one minute means off (19.10).
        syncdelta_s=_over_one_minute(values.time_s("syncdelta", "m", 0, 525_600, 0)),
        syncat=_schedule(values),
        callbacks=callbacks,
        checktime_s=values.time_s("checktime", "ms", 1_000, 86_400_000, 220_000),
        checkintv_s=values.time_s("checkintv", "s", 1, 86_400, 120),
        flow=_flow(element, file),
    )


def notes(element: xml.Element) -> list[str]:
    """What an administrator should know of a `<rfs>` that is accepted."""
    idle = WITHOUT_EFFECT.intersection(element.attributes)
    if "reicommit" in element.attributes:
        idle -= {"packetsize"}  # its unit depends on it
    return [
        f"line {element.line}: <rfs> attribute {name} is accepted, and has no effect here"
        for name in element.attributes
        if name in idle
    ]


def _over_one_minute(delta_s: float) -> float:
    return delta_s if delta_s > 60.0 else 0.0


def _accept_without_effect(values: Values) -> int:
    """Checks what old files may say and what has no meaning here: there is no NFS between the
    application and the disk, and nothing is renamed. Returns `reipacketsize` in bytes, which is
    the unit of `reicommit`."""
    low, high = _PACKET_BYTES_MIN, _PACKET_BYTES_MAX
    packet = values.integer("packetsize", low, high, 0)
    default = packet if 0 < packet < REI_PACKET_BYTES else REI_PACKET_BYTES
    rei_packet = values.integer("reipacketsize", low, high, default)
    if 0 < packet < rei_packet:
        raise values.wrong("reipacketsize", f"is at most packetsize, which is {packet}")
    zone = values.integer("ruzone_blocksize", low, high, rei_packet)
    if zone % rei_packet:
        raise values.wrong("ruzone_blocksize", f"are multiples of reipacketsize ({rei_packet})")
    values.choice("namespacepolicy", ("0", "1", "3", "4"), "4")
    values.integer("nbremconn", 1, 64, 1)
    values.choice("mountover", ("on", "off"), "off")
    suffix_rule = "at most 64 letters, digits and _.-"
    values.matching("mountoversuffix", _SUFFIX, suffix_rule, "_For_SafeKit_Replication")
    return rei_packet


def _schedule(values: Values) -> str:
    expression = values.text("syncat", "")
    if "syncat" in values.element.attributes:
        try:
            schedule.check(expression)
        except ValueError as error:
            allowed = 'are the five fields of crontab(5), as in "01 0 * * *"'
            raise values.wrong("syncat", allowed, xml.shown(str(error))) from error
    return " ".join(expression.split())


def _flow(element: xml.Element, file: str) -> str:
    """The lan of the legacy `<flow name>`; "" without (11.2)."""
    flows = element.named("flow")
    if len(flows) > 1:
        text = "<flow> a second time in <rfs>: allowed is one"
        raise xml.error(file, flows[1].line, text)
    return Values(flows[0], file).matching("name", LABEL, LABEL_RULE) if flows else ""


def _replicated(element: xml.Element, file: str, others: list[str]) -> Replicated:
    values = Values(element, file)
    text = values.matching("dir", _DIRECTORY, _DIRECTORY_RULE)
    path = PurePosixPath("/" + text.lstrip("/"))
    if ".." in path.parts:
        raise values.wrong("dir", f"are {_DIRECTORY_RULE}")
    if len(path.parts) == 1:
        raise values.wrong("dir", "is every directory but the root")
    for system in map(PurePosixPath, SYSTEM_DIRECTORIES):
        if path == system or system in path.parents:
            raise values.wrong("dir", f"is nothing in {system}, which the kernel provides")
    for other in map(PurePosixPath, others):
        if path == other:
            raise values.wrong("dir", "is each directory once")
        if other in path.parents or path in other.parents:
            raise values.wrong("dir", "is no directory inside another one", f"see {other}")
    mode = values.choice("mode", ("read_only",)) if "mode" in element.attributes else ""
    return Replicated(
        str(path),
        mode,
        tuple(_relative(Values(child, file)) for child in element.named("tocheck")),
        tuple(_left_out(Values(child, file)) for child in element.named("notreplicated")),
    )


def _relative(values: Values) -> str:
    """The attribute `path`: of an entry below a replicated directory."""
    text = values.text("path", "") if "path" in values.element.attributes else ""
    parts = text.rstrip("/").split("/")
    too_long = len(text.encode()) > _PATH_BYTES_MAX
    for part in parts:
        too_long = too_long or len(part.encode()) > _NAME_BYTES_MAX
        if part in ("", ".", "..") or not part.isprintable():
            raise values.wrong("path", _RELATIVE_RULE)
    if too_long:
        allowed = f"are at most {_NAME_BYTES_MAX} bytes a name and {_PATH_BYTES_MAX} in all"
        raise values.wrong("path", allowed)
    return "/".join(parts)


def _left_out(values: Values) -> tuple[str, str]:
    """One `<notreplicated>`, as `schema.Replicated` has it."""
    attributes = values.element.attributes
    if ("path" in attributes) == ("regexpath" in attributes):
        text = "<notreplicated>: allowed is one of the attributes path and regexpath"
        raise xml.error(values.file, values.element.line, text)
    if "path" in attributes:
        return "path", _relative(values)
    expression = values.text("regexpath")
    only = expression.startswith("!")
    pattern = expression[1:] if only else expression
    if not pattern:
        raise values.wrong("regexpath", "are POSIX extended regular expressions")
    try:
        Pattern(pattern)  # what the names are compared with: in linear time (protocol S11)
    except ValueError as error:
        allowed = "are POSIX extended regular expressions"
        raise values.wrong("regexpath", allowed, xml.shown(str(error))) from error
    return ("only" if only else "regex"), pattern
