"""safeadmin.yaml and the paths of a node."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.config import settings
from safepy.config.paths import Paths
from safepy.errors import ConfigError, PackageError


def test_nothing_said_means_the_defaults() -> None:
    for data in (b"", b"# nothing\n", b"---\n"):
        assert settings.parse(data) == settings.Settings("", 9010, (), "info")


def test_all_settings() -> None:
    data = (
        b"node_name: n1\nprobe_port: 9011\nprobe_addresses: [10.0.0.1, '::1']\nlog_level: debug\n"
    )
    found = settings.parse(data)
    assert found == settings.Settings("n1", 9011, ("10.0.0.1", "::1"), "debug")
    assert settings.parse(b"probe_addresses: 10.0.0.1").probe_addresses == ("10.0.0.1",)


BAD = {
    b"\nnodename: n1": (
        "line 2: nodename: unknown setting, "
        "allowed are log_level, node_name, probe_addresses, probe_port"
    ),
    b"node_name: a/b": 'line 1: node_name "a/b": allowed are letters, digits, _ and -, at most 64',
    b"node_name: [a]": "line 1: node_name: allowed is one value",
    b"node_name: a\nnode_name: b": "line 2: node_name a second time: allowed is once",
    b"probe_port: 0": 'line 1: probe_port "0": allowed are 1 to 65535',
    b"probe_port: 0x10": 'line 1: probe_port "0x10": allowed are 1 to 65535',
    b"log_level: loud": 'line 1: log_level "loud": allowed are debug, info, warning, error',
    b"probe_addresses: [here]": (
        'line 1: probe_addresses "here": allowed are addresses of this host'
    ),
    b"- a": "line 1: allowed are lines of the form NAME: VALUE",
    b"a: b: c": "line 1: not YAML: mapping values are not allowed here",
}


@pytest.mark.parametrize(("data", "message"), BAD.items())
def test_broken_settings(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.parse(data)
    assert str(caught.value) == f"safeadmin.yaml {message}"


@given(
    st.one_of(st.binary(max_size=60), st.text(alphabet="node_m: \n-[]{}&*!|>'\"#%@`a", max_size=60))
)
def test_fuzz(data: bytes | str) -> None:
    raw = data if isinstance(data, bytes) else data.encode()
    for each in (raw, b"node_name: " + raw):
        try:
            settings.parse(each)
        except ConfigError as exc:
            assert str(exc).isprintable()


def test_deep_nesting_and_size() -> None:
    with pytest.raises(ConfigError):
        settings.parse(b"[" * 60_000)
    with pytest.raises(ConfigError, match="allowed are at most"):
        settings.parse(b" " * 70_000)


def test_paths_follow_the_environment() -> None:
    assert Paths.from_environment({}).safekit == Path("/opt/safekit/safekit")
    paths = Paths.from_environment({"SAFE": "/s", "SAFEVAR": "/v"})
    assert paths.control_socket == Path("/v/run/safeadmin.sock")
    assert paths.cluster_key == Path("/v/cluster/cluster.key")
    assert paths.settings == Path("/s/conf/safeadmin.yaml")
    module = paths.module("db")
    assert module.source_userconfig == Path("/s/modules/db/conf/userconfig.xml")
    assert module.safeconf == Path("/s/private/modules/db/conf/safeconf.xml")
    assert module.id_file == Path("/s/private/modules/db/id")
    assert module.record == Path("/v/modules/db/state/record")
    assert module.door(3) == Path("/v/modules/db/doors/3")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a b", "é", "x" * 65, "lastconfig", "a\n"])
def test_names_of_modules_are_checked_before_they_are_paths(name: str) -> None:
    with pytest.raises(PackageError):
        Paths().module(name)
