"""`<vip>` of a mirror: elements to `schema.Vip`, and the checks that follow from it (reference:
userconfig 10, 15.4, 21.1 to 21.3)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable

from safepy.config import xml
from safepy.config.names import HOST_NAME
from safepy.config.schema import (
    Checks,
    Cluster,
    IntfCheck,
    IpCheck,
    VipInterface,
    VirtualAddress,
)
from safepy.config.schema import Vip as Vip
from safepy.config.values import Values, Words

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: An address with the mask of its network, as an interface has it.
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_FARM = "it belongs to farm modules, which this version does not support yet: a mirror module"
VOCABULARY = {
    "vip": Words(
        attributes=("tcpreset",),
        children=("interface_list",),
        refused_attributes={"scriptcontrol": f"{_FARM} sets its addresses itself"},
        refused_children={"loadbalancing_list": f"{_FARM} shares no load"},
    ),
    "interface_list": Words(children=("interface",)),
    "interface": Words(
        attributes=("check", "arpreroute", "arpinterval", "arpelapse", "name"),
        children=("real_interface",),
        refused_children={
            "virtual_interface": "virtual MAC addresses are not supported, not for a mirror module "
            "either: use <real_interface>, clients learn the new place of the address by ARP"
        },
    ),
    "real_interface": Words(children=("virtual_addr",)),
    "virtual_addr": Words(attributes=("addr", "where", "check", "connections", "netmask")),
}

#: Each one costs a few packets and, with check="on", a checker.
MAX_ADDRESSES = 64
_NIC = re.compile(r"(?!\.{1,2}\Z)[^\s/:\x00-\x1f\x7f-\uffff]{1,15}")
_NIC_RULE = "the name of a network interface, as in ip link, without a label"
_ADDRESS_RULE = "are an IPv4 address, an IPv6 address, the name of a host"
_LOOKS_NUMERIC = re.compile(r"[0-9.]+\Z")
_ALIAS = "it is for farm modules; a mirror module has one_side_alias or one_side"
#: Of a network whose mask nobody knows.
_USUAL_PREFIX = {4: 24, 6: 64}
_GENERATED_INTERVAL_S = 10.0


def resolve_names(root: xml.Element, file: str, resolve: Callable[[str], Iterable[str]]) -> None:
    """Put addresses in the place of host names, also in the XML that becomes safeconf.xml: what
    the node takes at a take-over must not depend on a name service. `resolve` gives the addresses
    of a name and raises OSError. Raises ConfigError."""
    for element in root.walk():
        if element.tag != "virtual_addr":
            continue
        values = Values(element, file)
        name = _text(values)
        if _literal(name) is not None or not HOST_NAME.fullmatch(name):
            continue
        try:
            found = sorted(set(resolve(name)))
        except OSError as error:
            hint = f"{error.strerror or error}; an address is better than a name"
            raise values.wrong("addr", "is a name that can be resolved now", hint) from error
        if len(found) != 1:
            text = f"it has {', '.join(found) or 'none'}: write the address"
            raise values.wrong("addr", "is a name with exactly one address", text)
        element.replace("addr", found[0])


def parse_vip(element: xml.Element, file: str) -> Vip:
    """The values of `<vip>`. Raises ConfigError."""
    lists = element.named("interface_list")
    if len(lists) != 1:
        at = element.line if not lists else lists[1].line
        text = f"<vip>: found {len(lists)} <interface_list>, allowed is exactly one"
        raise xml.error(file, at, text)
    count = sum(each.tag == "virtual_addr" for each in lists[0].walk())
    if count > MAX_ADDRESSES:
        text = f"<vip>: found {count} addresses, allowed are at most {MAX_ADDRESSES}"
        raise xml.error(file, element.line, text)
    taken: list[str] = []
    interfaces = [_interface(child, file, taken) for child in lists[0].named("interface")]
    if not interfaces:
        text = "<interface_list>: <interface> is missing, allowed is one for each network"
        raise xml.error(file, lists[0].line, text)
    return Vip(tuple(interfaces), Values(element, file).switch("tcpreset", True))


def lines(root: xml.Element) -> dict[str, int]:
    """ "virtual_addr ADDRESS" to the line where it stands."""
    found = (each for each in root.walk() if each.tag == "virtual_addr")
    return {
        f"virtual_addr {_shortest(each.attributes.get('addr', ''))}": each.line for each in found
    }


def _interface(element: xml.Element, file: str, taken: list[str]) -> VipInterface:
    values = Values(element, file)
    interval_s = values.time_s("arpinterval", "s", 1, 86_400, 60)
    elapse_s = values.time_s("arpelapse", "s", 1, 31_536_000, 1200)
    name = values.matching("name", _NIC, _NIC_RULE) if "name" in element.attributes else ""
    addresses: list[VirtualAddress] = []
    for real in element.named("real_interface"):
        for child in real.named("virtual_addr"):
            address = _virtual(Values(child, file))
            if address.addr in taken:
                raise Values(child, file).wrong("addr", "is each address once")
            taken.append(address.addr)
            addresses.append(address)
    if not addresses:
        text = "<interface>: <virtual_addr> is missing in <real_interface>, allowed is at least one"
        raise xml.error(file, element.line, text)
    return VipInterface(
        tuple(addresses),
        name=name,
        check=values.switch("check", True),
        arpreroute=values.switch("arpreroute", False),
        arpinterval_s=interval_s,
        arpelapse_s=elapse_s,
    )


def _virtual(values: Values) -> VirtualAddress:
    if values.element.attributes.get("where") == "alias":
        raise values.wrong("where", "are one_side_alias, one_side", _ALIAS)
    where = values.choice("where", ("one_side_alias", "one_side"))
    text = _text(values)
    address = _literal(text)
    if address is None and (_LOOKS_NUMERIC.match(text) or not HOST_NAME.fullmatch(text)):
        raise values.wrong("addr", _ADDRESS_RULE)
    if address is not None and not _is_for_one_host(address):
        raise values.wrong("addr", "is an address of one host that others can reach")
    return VirtualAddress(
        addr=text if address is None else str(address),
        where=where,
        check=values.switch("check", True),
        connections=values.switch("connections", False),
        prefix=_prefix(values, address),
    )


def _text(values: Values) -> str:
    text = values.text("addr", "").strip()
    if not text:
        raise values.wrong("addr", _ADDRESS_RULE)
    return text


def _literal(text: str) -> Address | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


def _shortest(text: str) -> str:
    address = _literal(text.strip())
    return text.strip() if address is None else str(address)


def _is_for_one_host(address: Address) -> bool:
    return not (
        address.is_unspecified
        or address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or (isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None)
    )


def _prefix(values: Values, address: Address | None) -> int | None:
    """`netmask` as the length of the prefix; None: that of the interface's network."""
    if "netmask" not in values.element.attributes:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        hint = "the prefix of an IPv6 address is that of the interface's network"
        raise values.wrong("netmask", "is a netmask for IPv4 addresses only", hint)
    text = values.text("netmask")
    try:
        # A hostmask such as 0.0.0.255 would be taken as well, and mean something else.
        network = ipaddress.IPv4Network(f"0.0.0.0/{text}")
    except ValueError:
        raise values.wrong("netmask", "are masks such as 255.255.255.0") from None
    if "." not in text or str(network.netmask) != text or not network.prefixlen:
        raise values.wrong("netmask", "are masks such as 255.255.255.0")
    if address is not None and network.prefixlen < 31:
        inside = ipaddress.IPv4Network((int(address), network.prefixlen), strict=False)
        if address in (inside.network_address, inside.broadcast_address):
            raise values.wrong("netmask", f"is one in which {address} is the address of a host")
    return network.prefixlen


# -- what follows from it --------------------------------------------------------------------------


def addresses(vip: Vip | None) -> tuple[VirtualAddress, ...]:
    """All of them, in the order in which they are set."""
    interfaces = () if vip is None else vip.interfaces
    return tuple(address for interface in interfaces for address in interface.addresses)


def home(address: str, here: Iterable[Interface]) -> Interface | None:
    """Of the addresses of this node, the first one whose network contains `address`, the smallest
    network before larger ones; None: there is no such network here."""
    wanted = ipaddress.ip_address(address)
    fitting = [each for each in here if wanted in each.network and each.ip != wanted]
    return max(fitting, key=lambda each: each.network.prefixlen, default=None)


def generated_checks(
    vip: Vip | None, cluster: Cluster, node: str, here: Iterable[Interface], written: Checks = ()
) -> Checks:
    """What `check="on"` stands for (21.2): `intf` for the link of the network, `ip` for the
    address. `here`: the addresses that this node has now. A resource that is written in `<check>`
    is not generated a second time."""
    mine = tuple(here)
    found: dict[str, IntfCheck | IpCheck] = {}
    for interface in () if vip is None else vip.interfaces:
        for address in interface.addresses:
            if interface.check:
                link = _link(address, cluster, node, mine)
                found.setdefault(link.resource, link)
        for address in interface.addresses:
            if address.check:
                present = IpCheck(
                    ident=address.addr,
                    when="prim",
                    interval_s=_GENERATED_INTERVAL_S,
                    addr=address.addr,
                )
                found.setdefault(present.resource, present)
    taken = {each.resource for each in written}
    return tuple(check for resource, check in found.items() if resource not in taken)


def _link(
    address: VirtualAddress, cluster: Cluster, node: str, here: tuple[Interface, ...]
) -> IntfCheck:
    wanted = ipaddress.ip_address(address.addr)
    fitting = home(address.addr, here)
    if fitting is None:
        local, prefix = _of_the_cluster(wanted, cluster, node), None
    else:
        local, prefix = str(fitting.ip), fitting.network.prefixlen
    length = prefix or address.prefix or _USUAL_PREFIX[wanted.version]
    ident = str(ipaddress.ip_interface(f"{wanted}/{length}").network.network_address)
    return IntfCheck(ident=ident, when="pre", interval_s=_GENERATED_INTERVAL_S, local_addr=local)


def _of_the_cluster(wanted: Address, cluster: Cluster, node: str) -> str:
    """The network is not there now, as when its interface comes late at boot: of this node's
    addresses in cluster.xml the one that is most alike, else the virtual address itself, which
    is nowhere: the link is down until somebody brings the interface up."""
    best, alike = str(wanted), -1
    for lan in cluster.lans:
        entry = lan.node(node)
        own = None if entry is None else _literal(entry.local)
        if own is None or own.version != wanted.version:
            continue
        same = wanted.max_prefixlen - (int(own) ^ int(wanted)).bit_length()
        if same > alike:
            best, alike = str(own), same
    return best
