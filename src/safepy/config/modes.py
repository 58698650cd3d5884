"""What belongs to which kind of module (reference: userconfig 4, 7)."""

from __future__ import annotations

from safepy.config import xml

MODES = ("mirror", "light")
#: Of two nodes; a light module has only this one.
_MIRROR_CHILDREN = ("heart", "rfs", "vip")
_MIRROR_ATTRIBUTES = ("failover", "defaultprim")


def check(service: xml.Element, file: str, mode: str) -> None:
    """Refuse, by name, what a module of this mode does not have. Raises ConfigError."""
    if mode not in MODES:
        text = f'<service> attribute mode="{mode}" is not supported yet by this version: '
        raise xml.error(file, service.line, text + "allowed are mirror, light")
    if mode != "light":
        return
    for name in _MIRROR_ATTRIBUTES:
        if name in service.attributes:
            text = f'<service> attribute {name}="{xml.shown(service.attributes[name])}": '
            text += 'allowed only with mode="mirror", a light module has one node'
            raise xml.error(file, service.line, text)
    for child in service.children:
        if child.tag in _MIRROR_CHILDREN:
            text = f'<{child.tag}> in <service mode="light">: allowed only with mode="mirror", a '
            text += "light module has one node and replicates nothing"
            raise xml.error(file, child.line, text)
