"""The daemon's own settings: SAFE/conf/safeadmin.yaml, which need not exist."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from safepy.config.names import NAME_RULE, is_name
from safepy.config.paths import ModulePaths, Paths, check_module_name
from safepy.config.xml import error, shown
from safepy.errors import ConfigError

__all__ = ["LOG_LEVELS", "ModulePaths", "Paths", "Settings", "check_module_name", "parse"]

MAX_BYTES = 64 << 10
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """`node_name` empty: the name is found by the addresses of this host in cluster.xml.
    `probe_addresses` empty: the addresses of this node in cluster.xml, and loopback."""

    node_name: str = ""
    probe_port: int = 9010
    probe_addresses: tuple[str, ...] = ()
    log_level: str = "info"


def parse(data: bytes, file: str = "safeadmin.yaml") -> Settings:
    """The settings in `data`; what is not said has its default. Raises ConfigError."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: {len(data)} bytes, allowed are at most {MAX_BYTES}")
    found: dict[str, yaml.Node] = {}
    for key, value in _pairs(data, file):
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in _READERS:
            allowed = ", ".join(sorted(_READERS))
            raise _error(file, key, f"{shown(str(name))}: unknown setting, allowed are {allowed}")
        if name in found:
            raise _error(file, key, f"{name} a second time: allowed is once")
        found[name] = value
    return Settings(**{name: _READERS[name](file, name, node) for name, node in found.items()})


def _pairs(data: bytes, file: str) -> list[tuple[yaml.Node, yaml.Node]]:
    try:
        # The loader without types: nothing is constructed, every scalar stays the text it is.
        root = yaml.compose(data.decode(), Loader=yaml.BaseLoader)
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: not UTF-8 at byte {exc.start}") from exc
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark is not None else 1
        raise error(file, line, f"not YAML: {shown(exc.problem or 'syntax error')}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise ConfigError(f"{file}: not YAML that can be read") from exc
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        return []
    if not isinstance(root, yaml.MappingNode):
        raise _error(file, root, "allowed are lines of the form NAME: VALUE")
    return list(root.value)


def _error(file: str, node: yaml.Node, text: str) -> ConfigError:
    return error(file, node.start_mark.line + 1, text)


def _scalar(file: str, name: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _error(file, node, f"{name}: allowed is one value")
    return str(node.value)


def _node_name(file: str, name: str, node: yaml.Node) -> str:
    text = _scalar(file, name, node)
    if not is_name(text):
        raise _error(file, node, f'{name} "{shown(text)}": allowed are {NAME_RULE}')
    return text


def _port(file: str, name: str, node: yaml.Node) -> int:
    text = _scalar(file, name, node)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise _error(file, node, f'{name} "{shown(text)}": allowed are 1 to 65535')
    return int(text)


def _addresses(file: str, name: str, node: yaml.Node) -> tuple[str, ...]:
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return tuple(_address(file, name, each) for each in nodes)


def _address(file: str, name: str, node: yaml.Node) -> str:
    text = _scalar(file, name, node)
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError as exc:
        text = f'{name} "{shown(text)}": allowed are addresses of this host'
        raise _error(file, node, text) from exc


def _level(file: str, name: str, node: yaml.Node) -> str:
    text = _scalar(file, name, node)
    if text not in LOG_LEVELS:
        raise _error(file, node, f'{name} "{shown(text)}": allowed are {", ".join(LOG_LEVELS)}')
    return text


_READERS: dict[str, Callable[[str, str, yaml.Node], Any]] = {
    "node_name": _node_name,
    "probe_port": _port,
    "probe_addresses": _addresses,
    "log_level": _level,
}
