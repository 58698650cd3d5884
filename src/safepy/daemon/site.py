"""What this node is: settings, cluster, key, and its own name in the cluster."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import secrets
import socket
import stat
from dataclasses import dataclass, field

from safepy.config import cluster as cluster_config
from safepy.config import settings as settings_config
from safepy.config.paths import Paths
from safepy.config.schema import Cluster, LanNode
from safepy.config.settings import Settings
from safepy.errors import ConfigError, LocalFault, RequestRefused, SafekitError
from safepy.net.lanes import has_address

KEY_BYTES = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """`cluster` and `key` are None until an administrator made them; `node` is "" then.

    `fault` says why what is there cannot be used.
    """

    paths: Paths
    settings: Settings
    cluster: Cluster | None
    key: bytes | None = field(repr=False)  # nothing may print it by accident (S6)
    node: str
    fault: SafekitError | None = None

    def require(self) -> tuple[Cluster, bytes]:
        """Cluster and key, without which no module can work. Raises RequestRefused, or the
        fault."""
        if self.fault is not None:
            raise self.fault
        if self.cluster is None:
            raise RequestRefused(
                "the cluster is not configured", "safekit cluster config FILE, on each node"
            )
        return self.cluster, self.require_key()

    def require_key(self) -> bytes:
        """Raises RequestRefused: nothing goes over the network without a key (protocol S1)."""
        if self.key is None:
            raise RequestRefused(
                f"there is no cluster key ({self.paths.cluster_key})",
                "safekit cluster genkey on one node, then carry the file to the other",
            )
        return self.key


def load(paths: Paths) -> Site:
    """Read everything. Raises ConfigError for files that are wrong, LocalFault for a key that
    others may read."""
    settings = load_settings(paths)
    cluster = load_cluster(paths)
    node = "" if cluster is None else own_name(cluster, settings)
    return Site(paths, settings, cluster, load_key(paths), node)


def load_at_start(paths: Paths) -> Site:
    """As `load`, but never raises for what is wrong: a daemon that runs can be asked to mend it."""
    try:
        return load(paths)
    except SafekitError as error:
        log.error("this node is not fit to run modules: %s", error)
        return Site(paths, Settings(), None, None, "", error)


def load_settings(paths: Paths) -> Settings:
    try:
        data = paths.settings.read_bytes()
    except FileNotFoundError:
        return Settings()
    return settings_config.parse(data, str(paths.settings))


def load_cluster(paths: Paths) -> Cluster | None:
    try:
        data = paths.cluster_xml.read_bytes()
    except FileNotFoundError:
        return None
    return cluster_config.parse(data, str(paths.cluster_xml))


def load_key(paths: Paths) -> bytes | None:
    """The cluster key. Raises LocalFault for a file that is none, or that others can read (S6)."""
    path = str(paths.cluster_key)
    try:
        # Not blocking: what lies there may be a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFault(f"the cluster key {path} cannot be read: {error.strerror}") from error
    try:
        mode = os.fstat(fd)
        if not stat.S_ISREG(mode.st_mode):
            raise LocalFault(f"{path} is no file", "carry the cluster key from the other node")
        if mode.st_uid != os.geteuid() or stat.S_IMODE(mode.st_mode) & 0o077:
            raise LocalFault(
                f"the cluster key {path} is open to others than root",
                f"chown root: {path}; chmod 600 {path}; if it may have been read: make a new one",
            )
        text = os.read(fd, 1024).strip()
    finally:
        os.close(fd)
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise LocalFault(f"{path} holds no cluster key", "carry it from the other node again")
    return key


def make_key(paths: Paths) -> bytes:
    """A new cluster key, durably in its file (0600), which replaces one that is there."""
    key = secrets.token_bytes(KEY_BYTES)
    replace_file(str(paths.cluster_key), base64.b64encode(key) + b"\n", 0o600)
    return key


def replace_file(path: str, data: bytes, mode: int) -> None:
    """The file holds `data`, whole or not at all, also after a crash. Raises LocalFault."""
    folder = os.path.dirname(path)
    temporary = f"{path}.{secrets.token_hex(4)}"
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    except OSError as error:
        with contextlib.suppress(OSError):  # it may be what there was no room for, or a key
            os.unlink(temporary)
        raise LocalFault(f"{path} cannot be written: {error.strerror}") from error


def own_name(cluster: Cluster, settings: Settings) -> str:
    """This node's name in the cluster: as set, else the node whose addresses this host has,
    else the host's own name. Raises ConfigError."""
    names = cluster.node_names
    if settings.node_name:
        if settings.node_name not in names:
            raise ConfigError(
                f"node_name {settings.node_name} of safeadmin.yaml is no node of cluster.xml",
                f"its nodes are {', '.join(names)}",
            )
        return settings.node_name
    here = {node.name for lan in cluster.lans for node in lan.nodes if _is_here(node)}
    if len(here) == 1:
        return here.pop()
    host = socket.gethostname().split(".")[0]
    if host in (here or names):
        return host
    if here:
        raise ConfigError(
            f"this host has addresses of several nodes of cluster.xml: {', '.join(sorted(here))}",
            "set node_name in SAFE/conf/safeadmin.yaml",
        )
    raise ConfigError(
        "this host has none of the addresses of cluster.xml",
        "correct the addresses (laddr for a node behind NAT), or set node_name in safeadmin.yaml",
    )


def absent_addresses(cluster: Cluster, node: str) -> list[str]:
    """A sentence for each lan on which this host does not have the address that cluster.xml
    gives it, and for each name that cannot be resolved now. Raises ConfigError when it has none
    of its addresses: then the file speaks of another host. Blocks for names."""
    sentences = []
    present = 0
    for lan in cluster.lans:
        for each in lan.nodes:
            try:
                address = resolve(each.local if each.name == node else each.addr)
            except ConfigError as error:
                sentences.append(f"lan {lan.name}: {error}")
                continue
            if each.name != node:
                continue
            if has_address(address):
                present += 1
            else:
                sentences.append(f"lan {lan.name}: this host does not have {each.local} now")
    if not present:
        raise ConfigError(
            f"this host has none of the addresses that cluster.xml gives to {node}",
            "correct them (laddr for a node behind NAT), or plug the cables in first",
        )
    return sentences


def _is_here(node: LanNode) -> bool:
    try:
        return has_address(resolve(node.local))
    except ConfigError:
        return False


def resolve(address: str) -> str:
    """The numeric address of a name in cluster.xml. Raises ConfigError. Blocks for names."""
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConfigError(f"{address} of cluster.xml cannot be resolved: {error}") from error
    return str(found[0][4][0])


def probe_addresses(site: Site) -> tuple[str, ...]:
    """Where the health probe answers: as set, else the cluster's addresses and loopback."""
    if site.settings.probe_addresses:
        return site.settings.probe_addresses
    addresses = ["127.0.0.1"]
    for lan in () if site.cluster is None else site.cluster.lans:
        node = lan.node(site.node)
        if node is None:
            continue
        try:
            address = resolve(node.local)
        except ConfigError as error:
            log.warning("the health probe does not answer there: %s", error)
            continue
        if address not in addresses:
            addresses.append(address)
    return tuple(addresses)
