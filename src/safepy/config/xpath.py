"""XPath in an XML document, for `xpathGet` (reference: modules-states-commands 11.2)."""

from __future__ import annotations

from lxml import etree

from safepy.config.xml import shown
from safepy.errors import ConfigError


def select(data: bytes, expression: str, file: str) -> list[str]:
    """What `expression` finds: attributes and text as they stand, an element's whole text.

    Nothing is loaded from elsewhere. Raises ConfigError for what is no XML or no XPath.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        reason = shown(error.msg or "syntax error")
        raise ConfigError(f"{file} line {error.lineno}: not well-formed XML: {reason}") from None
    try:
        found: object = etree.XPath(expression)(root.getroottree())
    except etree.XPathError as error:
        raise ConfigError(f"XPath {shown(expression)!r}: {error}") from None
    return [_text(each) for each in (found if isinstance(found, list) else [found])]


def _text(found: object) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        return str(int(found)) if found.is_integer() else f"{found:g}"
    if isinstance(found, etree._Element):
        return "".join(str(piece) for piece in found.itertext()).strip()
    return str(found)
