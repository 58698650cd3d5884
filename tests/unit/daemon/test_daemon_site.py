"""Cluster, key and the node's own name."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from safepy.config import cluster as cluster_config
from safepy.config.paths import Paths
from safepy.config.settings import Settings
from safepy.daemon import site
from safepy.errors import ConfigError, LocalFault, RequestRefused

HERE_AND_THERE = b"""<cluster><lans><lan name="default">
<node name="n1" addr="127.0.0.1"/><node name="n2" addr="203.0.113.2"/></lan></lans></cluster>"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "safe", tmp_path / "var")
    made.cluster.mkdir(parents=True)
    return made


def test_nothing_is_configured(paths: Paths) -> None:
    found = site.load(paths)
    assert found.cluster is None and found.key is None
    with pytest.raises(RequestRefused, match="the cluster is not configured"):
        found.require()


def test_a_cluster_without_a_key_cannot_work(paths: Paths) -> None:
    paths.cluster_xml.write_bytes(HERE_AND_THERE)
    found = site.load(paths)
    assert found.node == "n1"
    with pytest.raises(RequestRefused, match="no cluster key"):
        found.require()
    key = site.make_key(paths)
    assert site.load(paths).require()[1] == key
    assert paths.cluster_key.stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_or_that_is_none(paths: Paths) -> None:
    site.make_key(paths)
    paths.cluster_key.chmod(0o640)
    with pytest.raises(LocalFault, match="open to others"):
        site.load_key(paths)
    paths.cluster_key.chmod(0o600)
    paths.cluster_key.write_text("c2hvcnQ=\n")
    with pytest.raises(LocalFault, match="holds no cluster key"):
        site.load_key(paths)
    paths.cluster_key.write_text("not base64!\n")
    with pytest.raises(LocalFault, match="holds no cluster key"):
        site.load_key(paths)


def test_a_disk_without_room_leaves_the_key_and_no_remains(paths: Paths) -> None:
    key = site.make_key(paths)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the kernel refuses each byte
    try:
        with pytest.raises(LocalFault, match=r"cluster\.key cannot be written"):
            site.make_key(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert site.load_key(paths) == key
    assert [path.name for path in paths.cluster.iterdir()] == [paths.cluster_key.name]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_key_that_is_no_file(paths: Paths, kind: str) -> None:
    match kind:
        case "folder":
            paths.cluster_key.mkdir(mode=0o600)
        case "pipe":
            os.mkfifo(paths.cluster_key, 0o600)
        case _:
            paths.cluster_key.symlink_to("/etc/hostname")
    with pytest.raises(LocalFault, match=r"is no file|cannot be read"):
        site.load_key(paths)


def test_addresses_that_this_host_does_not_have() -> None:
    two_lans = HERE_AND_THERE.replace(
        b"</lan></lans>",
        b"""</lan><lan name="private"><node name="n1" addr="203.0.113.1"/>
        <node name="n2" addr="nobody.invalid"/></lan></lans>""",
    )
    told = site.absent_addresses(cluster_config.parse(two_lans, "cluster.xml"), "n1")
    assert told[0] == "lan private: this host does not have 203.0.113.1 now"
    assert "nobody.invalid" in told[1] and len(told) == 2
    nowhere = cluster_config.parse(two_lans.replace(b"127.0.0.1", b"203.0.113.9"), "cluster.xml")
    with pytest.raises(ConfigError, match="none of the addresses"):
        site.absent_addresses(nowhere, "n1")


def test_the_name_of_this_node() -> None:
    cluster = cluster_config.parse(HERE_AND_THERE, "cluster.xml")
    assert site.own_name(cluster, Settings()) == "n1"
    assert site.own_name(cluster, Settings(node_name="n2")) == "n2"
    with pytest.raises(ConfigError, match="no node of"):
        site.own_name(cluster, Settings(node_name="n3"))
    both = cluster_config.parse(HERE_AND_THERE.replace(b"203.0.113.2", b"127.0.0.2"), "cluster.xml")
    with pytest.raises(ConfigError, match="several nodes"):
        site.own_name(both, Settings())
    none = cluster_config.parse(HERE_AND_THERE.replace(b"127.0.0.1", b"203.0.113.1"), "cluster.xml")
    with pytest.raises(ConfigError, match="none of the addresses"):
        site.own_name(none, Settings())


def test_what_is_wrong_does_not_keep_the_daemon_from_running(paths: Paths) -> None:
    paths.cluster_xml.write_bytes(b"<cluster>")
    found = site.load_at_start(paths)
    with pytest.raises(ConfigError):
        found.require()


def test_where_the_probe_answers(paths: Paths) -> None:
    paths.cluster_xml.write_bytes(HERE_AND_THERE.replace(b"127.0.0.1", b"127.0.0.9"))
    assert site.probe_addresses(site.load(paths)) == ("127.0.0.1", "127.0.0.9")
