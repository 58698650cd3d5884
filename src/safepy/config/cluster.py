"""cluster.xml: bytes to `schema.Cluster` (reference: userconfig 3, modules-states-commands 17)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import replace

import msgspec

from safepy.config import xml
from safepy.config.names import HOST_NAME, LABEL, LABEL_RULE, NAME, NAME_RULE
from safepy.config.schema import Cluster, Lan, LanNode
from safepy.config.values import Values, Words, check_words

VOCABULARY = {
    "cluster": Words(children=("lans",)),
    "lans": Words(attributes=("port", "pulse", "mlost_count", "slost_count"), children=("lan",)),
    "lan": Words(
        attributes=("name", "command"),
        children=("node",),
        # SafeKit before 8 had these; its later versions accept them without effect.
        ignored_attributes=("console", "framework", "connect"),
    ),
    "node": Words(attributes=("name", "addr", "laddr")),
}

MIN_NODES = 2
MAX_NODES = 64

_LOOKS_NUMERIC = re.compile(r"[0-9.]+\Z")
_ADDRESS_RULE = "are an IPv4 address, an IPv6 address in [ ], the name of a host"


def parse(data: bytes, file: str) -> Cluster:
    """The cluster in `data`; `file` is only for messages. Raises ConfigError.

    `cluster_id` is derived from what the file says, not from how it is written: comments,
    white space and the order of attributes do not change it.
    """
    root = xml.parse(data, file, "cluster")
    check_words(root, file, VOCABULARY)
    if len(root.children) != 1:
        text = f"<cluster>: found {len(root.children)} <lans>, allowed is exactly one"
        raise xml.error(file, root.line, text)
    cluster = _lans(root.children[0], file)
    digest = hashlib.sha256(msgspec.json.encode(cluster)).hexdigest()[:16]
    return replace(cluster, cluster_id=digest)


def _lans(element: xml.Element, file: str) -> Cluster:
    values = Values(element, file)
    lans: list[Lan] = []
    for child in element.children:
        lan = _lan(child, file)
        if lan.name in (other.name for other in lans):
            raise Values(child, file).wrong("name", "is each name once")
        if lan.command and any(other.command for other in lans):
            raise Values(child, file).wrong("command", 'is "on" for at most one lan')
        lans.append(lan)
    cluster = Cluster(
        lans=tuple(lans),
        port=values.integer("port", 1, 65535, 4800),
        pulse_ms=round(values.time_s("pulse", "ms", 1, 60_000, 100) * 1000),
        mlost_count=values.integer("mlost_count", 1, 100_000, 20),
        slost_count=values.integer("slost_count", 1, 100_000, 10),
    )
    _check_nodes(cluster, element, file)
    return cluster


def _check_nodes(cluster: Cluster, element: xml.Element, file: str) -> None:
    if not cluster.lans:
        text = "<lans>: <lan> is missing, allowed is one for each network"
        raise xml.error(file, element.line, text)
    everybody = set(cluster.node_names)
    if not MIN_NODES <= len(everybody) <= MAX_NODES:
        text = f"<lans>: found {len(everybody)} nodes, allowed are {MIN_NODES} to {MAX_NODES}"
        raise xml.error(file, element.line, text)
    complete = [{node.name for node in lan.nodes} == everybody for lan in cluster.lans]
    if not any(complete):
        text = "<lans>: no <lan> has all nodes, allowed is that at least one has"
        raise xml.error(file, element.line, text)
    for child, lan, full in zip(element.children, cluster.lans, complete, strict=True):
        if lan.command and not full:
            raise Values(child, file).wrong("command", 'is "on" only for a lan with all nodes')


def _lan(element: xml.Element, file: str) -> Lan:
    values = Values(element, file)
    name = values.matching("name", LABEL, LABEL_RULE)
    nodes: list[LanNode] = []
    for child in element.children:
        node = _node(child, file)
        if node.name in (other.name for other in nodes):
            raise Values(child, file).wrong("name", "is each node once on a lan")
        if node.addr in (other.addr for other in nodes):
            raise Values(child, file).wrong("addr", "is each address once on a lan")
        nodes.append(node)
    if not nodes:
        text = f'<lan name="{name}">: <node> is missing, allowed is one for each node'
        raise xml.error(file, element.line, text)
    return Lan(name, tuple(nodes), values.switch("command", False))


def _node(element: xml.Element, file: str) -> LanNode:
    values = Values(element, file)
    laddr = _address(values, "laddr") if "laddr" in element.attributes else ""
    name = values.matching("name", NAME, NAME_RULE)
    return LanNode(name, _address(values, "addr"), laddr)


def _address(values: Values, attribute: str) -> str:
    """An address as sockets take it: without the brackets of IPv6, in its shortest form."""
    text = values.text(attribute, "")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
    try:
        address = ipaddress.IPv6Address(bare) if bare else ipaddress.ip_address(text)
    except ValueError:
        if bare or _LOOKS_NUMERIC.match(text) or not HOST_NAME.match(text):
            raise values.wrong(attribute, _ADDRESS_RULE) from None
        return text
    if address.version == 6 and not bare:
        raise values.wrong(attribute, _ADDRESS_RULE, "put the address in [ ]")
    if address.is_unspecified or address.is_multicast:
        raise values.wrong(attribute, "is the address of one node")
    return str(address)
