"""`%NAME%` in attribute values (reference: userconfig 6).

A macro wins over an environment variable; a name that is neither is an error. A macro's own value
may use the macros declared before it, so a value can never contain itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safepy.config import xml
from safepy.config.names import LABEL, LABEL_RULE
from safepy.config.values import Values

MAX_VALUE_CHARACTERS = 4096

_USE = re.compile(r"%([A-Za-z_][A-Za-z0-9_.:-]*)%")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def expand(root: xml.Element, file: str, environment: Mapping[str, str]) -> None:
    """Replace every use in the attributes beneath `root`, in the order of the file."""
    macros: dict[str, str] = {}
    for element in root.walk():
        names = ("value",) if element.tag == "macro" else tuple(element.attributes)
        for name in names:
            value = element.attributes.get(name)
            if value is not None and "%" in value:
                element.replace(name, _expanded(element, file, name, macros, environment))
        if element.tag == "macro":
            values = Values(element, file)
            macro = values.matching("name", LABEL, LABEL_RULE)
            if macro in macros:
                raise values.wrong("name", "is each name once")
            macros[macro] = values.text("value")


def _expanded(
    element: xml.Element,
    file: str,
    attribute: str,
    macros: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    where = f'<{element.tag}> attribute {attribute}="{xml.shown(element.attributes[attribute])}"'
    pieces: list[str] = []
    at = length = 0
    value = element.attributes[attribute]
    for use in _USE.finditer(value):
        name = use[1]
        replacement = macros.get(name, environment.get(name))
        if replacement is None:
            text = f"{where}: found %{xml.shown(name)}%, allowed are names of macros declared "
            raise xml.error(file, element.line, text + "before it and of environment variables")
        pieces += [value[at : use.start()], replacement]
        at = use.end()
        length += len(pieces[-1])
        if length > MAX_VALUE_CHARACTERS:
            break
    pieces.append(value[at:])
    result = "".join(pieces)
    if length > MAX_VALUE_CHARACTERS or len(result) > len(value) + MAX_VALUE_CHARACTERS:
        text = f"{where}: longer than {MAX_VALUE_CHARACTERS} characters after replacement"
        raise xml.error(file, element.line, text)
    if _FORBIDDEN.search(result):
        text = f"{where}: a variable holds characters that XML cannot carry"
        raise xml.error(file, element.line, text)
    return result
