"""userconfig.xml: bytes to `schema.ModuleConfig` (reference: userconfig 2 to 14).

A mistake is refused with file, line, element, attribute, what was found and what is allowed, on
one line. What the reference knows and this version does not carry out yet is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from safepy.config import agreement, checks, errd, macros, modes, rfs, vhost, vip, xml
from safepy.config.failover import element as failover
from safepy.config.names import LABEL, LABEL_RULE, VARIABLE, VARIABLE_RULE, is_name
from safepy.config.schema import Errd, Heartbeat, ModuleConfig, User
from safepy.config.values import Values, Words, at_most, check_words

VOCABULARY = {
    "safe": Words(children=("macro", "service")),
    "macro": Words(attributes=("name", "value")),
    "service": Words(
        attributes=(
            *("mode", "boot", "boot_delay", "defaultprim", "failover"),
            *("maxloop", "loop_interval", "automatic_reboot"),
        ),
        children=("heart", "vip", "rfs", "user", "vhost", "errd", "check", "failover"),
        later_children=("farm",),
    ),
    "heart": Words(
        attributes=("port", "pulse", "timeout", "permanent_arp"),
        children=("heartbeat",),
    ),
    "heartbeat": Words(
        attributes=("name", "ident", "pulse", "timeout"), later_children=("server",)
    ),
    **rfs.VOCABULARY,
    **vip.VOCABULARY,
    **checks.VOCABULARY,
    **errd.VOCABULARY,
    **vhost.VOCABULARY,
    **failover.VOCABULARY,
    "user": Words(
        attributes=("nicestoptimeout", "forcestoptimeout", "logging", "userlogsize"),
        children=("var",),
    ),
    "var": Words(attributes=("name", "value")),
}

#: Below this the gate's deadline, a third of the timeout, could pass between two pulses.
MIN_PULSES_IN_TIMEOUT = 4
MAX_HEARTBEATS = 8
#: Of all variables together: the kernel passes 128 KiB in one, and two MiB in all.
MAX_VARIABLES_BYTES = 1 << 16
#: What the scripts are told by the daemon itself; a variable must not lie about it.
RESERVED_VARIABLES = frozenset(
    {"SAFE", "SAFEVAR", "SAFEBIN", "SAFEMODULE", "SAFEUSERBIN", "SAFEUSERCONF", "SAFEUSERVAR"}
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A configuration, the XML after macro replacement (safeconf.xml), and where things stand.

    `lines` maps "service", "heartbeat LAN", "flow", "proc NAME", "virtual_addr ADDRESS" and
    "replicated DIR" to line numbers.
    """

    config: ModuleConfig
    expanded_xml: bytes
    lines: Mapping[str, int]
    #: What an administrator should know although nothing is wrong.
    notes: tuple[str, ...] = ()


def parse(data: bytes, file: str, environment: Mapping[str, str]) -> ModuleConfig:
    """The configuration in `data`; `file` is only for messages. Raises ConfigError."""
    return read(data, file, environment).config


def read(
    data: bytes,
    file: str,
    environment: Mapping[str, str],
    resolve: Callable[[str], Iterable[str]] | None = None,
) -> Parsed:
    """As `parse`, with all that `safekit config` needs; `resolve` finds the addresses of the host
    names in `<vip>` (see `vip.resolve_names`). Raises ConfigError."""
    root = xml.parse(data, file, "safe")
    check_words(root, file, VOCABULARY)
    service = _only(root, "service", file)
    for macro in root.named("macro"):
        if root.children.index(macro) > root.children.index(service):
            text = "<macro> after <service>: allowed is only before it"
            raise xml.error(file, macro.line, text)
    macros.expand(root, file, environment)
    if resolve is not None:
        vip.resolve_names(root, file, resolve)
    config = _service(service, file)
    config = replace(config, digest=agreement.digest(config))
    notes = [note for element in service.named("rfs") for note in rfs.notes(element)]
    return Parsed(config, xml.serialise(root), _lines(root), tuple(notes))


def _lines(root: xml.Element) -> dict[str, int]:
    lines: dict[str, int] = {}
    for element in root.walk():
        if element.tag == "service":
            lines["service"] = element.line
        elif element.tag == "heartbeat":
            lines[f"heartbeat {element.attributes['name']}"] = element.line
        elif element.tag == "replicated":
            lines[f"replicated {PurePosixPath(element.attributes['dir'])}"] = element.line
        elif element.tag == "proc":
            lines[f"proc {element.attributes['name']}"] = element.line
        elif element.tag == "flow":
            lines["flow"] = element.line
    return lines | vip.lines(root)


def _only(parent: xml.Element, tag: str, file: str) -> xml.Element:
    found = _at_most_one(parent, tag, file)
    if found is None:
        text = f"<{parent.tag}>: <{tag}> is missing, allowed is exactly one"
        raise xml.error(file, parent.line, text)
    return found


def _at_most_one(parent: xml.Element, tag: str, file: str) -> xml.Element | None:
    found = parent.named(tag)
    if len(found) > 1:
        text = f"<{tag}> a second time in <{parent.tag}>: allowed is one"
        raise xml.error(file, found[1].line, text)
    return found[0] if found else None


def _service(element: xml.Element, file: str) -> ModuleConfig:
    values = Values(element, file)
    mode = values.choice("mode", ("mirror", "farm", "light"))
    modes.check(element, file, mode)
    defaultprim = values.text("defaultprim", "alone")
    if not is_name(defaultprim):
        raise values.wrong("defaultprim", "are alone, lastprim, the name of a node")
    user = _at_most_one(element, "user", file)
    watched = _at_most_one(element, "errd", file)
    replication = _at_most_one(element, "rfs", file)
    if watched is not None and user is None:
        text = "<errd> without <user>: allowed is <errd> only together with <user/>"
        raise xml.error(file, watched.line, text)
    heart = None if mode == "light" else _only(element, "heart", file)
    vhosts = _at_most_one(element, "vhost", file)
    check = _at_most_one(element, "check", file)
    virtual = _at_most_one(element, "vip", file)
    rfs_values = (
        None
        if replication is None
        else rfs.parse_rfs(replication, file, scripts_run=user is not None)
    )
    looked_at = () if check is None else checks.parse_checks(check, file, mode, rfs_values)
    rules = failover.parse_failover(_at_most_one(element, "failover", file), file, mode, looked_at)
    return ModuleConfig(
        heartbeats=() if heart is None else _heart(heart, file, replicates=replication is not None),
        mode=mode,
        boot=values.choice("boot", ("on", "off", "auto", "ignore"), "ignore"),
        boot_delay_s=values.time_s("boot_delay", "s", 0, 86_400, 0),
        failover=values.switch("failover", True),
        defaultprim=defaultprim,
        maxloop=values.integer("maxloop", 0, 1_000_000, 3),
        loop_interval_s=values.time_s("loop_interval", "h", 0, 87_600, 24),
        automatic_reboot=values.switch("automatic_reboot", False),
        port=0 if heart is None else Values(heart, file).integer("port", 1024, 65_535, 0),
        rfs=rfs_values,
        user=None if user is None else _user(user, file),
        errd=Errd() if watched is None else errd.parse_errd(watched, file, mode),
        checks=looked_at,
        rules=rules.rules,
        failover_period_s=rules.period_s,
        handle_time_s=rules.handle_time_s,
        vip=None if virtual is None else vip.parse_vip(virtual, file),
        vhosts=() if vhosts is None else vhost.parse_vhost(vhosts, file, mode),
    )


def _heart(element: xml.Element, file: str, replicates: bool) -> tuple[Heartbeat, ...]:
    pulse_ms, timeout_ms = _pulse_and_timeout(element, file, 700, 30_000)
    if Values(element, file).choice("permanent_arp", ("on", "off"), "off") == "on":
        raise Values(element, file).wrong(
            "permanent_arp", "is off", "no entry of the ARP table is made permanent by this version"
        )
    beats: list[Heartbeat] = []
    at_most(element, "heartbeat", MAX_HEARTBEATS, file)
    for child in element.named("heartbeat"):
        values = Values(child, file)
        lan = values.matching("name", LABEL, LABEL_RULE)
        ident = values.matching("ident", LABEL, LABEL_RULE, default=lan)
        if lan in (beat.lan for beat in beats):
            raise values.wrong("name", "is each lan once")
        if ident in (beat.ident for beat in beats):
            raise values.wrong("ident", "is each ident once")
        if ident == "flow" and not replicates:
            hint = "flow names the lan of the replication"
            raise values.wrong("ident", 'is "flow" only together with <rfs>', hint)
        pulse, timeout = _pulse_and_timeout(child, file, pulse_ms, timeout_ms)
        beats.append(Heartbeat(lan, ident, pulse / 1000, timeout / 1000))
    if not beats:
        text = "<heart>: <heartbeat> is missing, allowed is one for each lan"
        raise xml.error(file, element.line, text)
    return tuple(beats)


def _pulse_and_timeout(
    element: xml.Element, file: str, pulse_ms: int, timeout_ms: int
) -> tuple[int, int]:
    values = Values(element, file)
    pulse = round(values.time_s("pulse", "ms", 10, 600_000, pulse_ms) * 1000)
    timeout = round(values.time_s("timeout", "ms", 40, 3_600_000, timeout_ms) * 1000)
    if timeout < MIN_PULSES_IN_TIMEOUT * pulse:
        attribute = "timeout" if "timeout" in element.attributes else "pulse"
        allowed = f"is a timeout of at least {MIN_PULSES_IN_TIMEOUT} pulses"
        found = f"found are timeout {timeout}ms and pulse {pulse}ms"
        raise values.wrong(attribute, allowed, found)
    return pulse, timeout


def _user(element: xml.Element, file: str) -> User:
    values = Values(element, file)
    variables: dict[str, str] = {}
    used_bytes = 0
    for child in element.named("var"):
        var = Values(child, file)
        name = var.matching("name", VARIABLE, VARIABLE_RULE)
        if name in RESERVED_VARIABLES:
            raise var.wrong("name", "is no variable that the daemon sets itself")
        if name in variables:
            raise var.wrong("name", "is each name once")
        variables[name] = var.text("value")
        used_bytes += len(f"{name}={variables[name]}".encode())
        if used_bytes > MAX_VARIABLES_BYTES:
            allowed = f"are at most {MAX_VARIABLES_BYTES} bytes, all names and values together"
            raise var.wrong("name" if len(name) > len(variables[name]) else "value", allowed)
    return User(
        nicestoptimeout_s=values.time_s("nicestoptimeout", "s", 1, 86_400, 300),
        forcestoptimeout_s=values.time_s("forcestoptimeout", "s", 1, 86_400, 300),
        logging=values.choice("logging", ("userlog", "none"), "userlog"),
        userlogsize_kb=values.integer("userlogsize", 1, 1 << 20, 2048),
        variables=tuple(variables.items()),
    )
