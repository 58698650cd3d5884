"""The validated configuration: frozen values, a unit in each name.

XML attributes keep SafeKit's names and defaults (reference: userconfig 7 to 15); this file
says what they mean to us.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LanNode:
    """One node's address on a lan; `laddr` is the local address behind a NAT, else `addr`."""

    name: str
    addr: str
    laddr: str = ""

    @property
    def local(self) -> str:
        return self.laddr or self.addr


@dataclass(frozen=True, slots=True)
class Lan:
    name: str
    nodes: tuple[LanNode, ...]
    command: bool = False

    def node(self, name: str) -> LanNode | None:
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """cluster.xml. `cluster_id` is derived from its content and names the cluster on the wire."""

    lans: tuple[Lan, ...]
    port: int = 4800
    pulse_ms: int = 100
    mlost_count: int = 20
    slost_count: int = 10
    cluster_id: str = ""

    @property
    def node_names(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for lan in self.lans:
            for node in lan.nodes:
                names.setdefault(node.name)
        return tuple(names)

    def lan(self, name: str) -> Lan | None:
        return next((lan for lan in self.lans if lan.name == name), None)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`<heartbeat>`: `lan` is a lan of the cluster, `ident` labels the resource."""

    lan: str
    ident: str
    pulse_s: float = 0.7
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Replicated:
    """`<replicated>`: an absolute directory. `mode` is "read_only" or "" (we treat both alike).

    `tocheck`: relative paths that must exist before replication starts. `notreplicated`: what is
    left out, as (kind, text) pairs: "path" (relative, with all below it), "regex" (entries whose
    path matches are left out) or "only" (the pattern with the leading "!" taken off: entries
    that do not match are left out)."""

    dir: str
    mode: str = ""
    tocheck: tuple[str, ...] = ()
    notreplicated: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rfs:
    """`<rfs>`. `acknowledge_on` is "receipt" for async="second", "apply" for async="none".

    A limit of 0 means none. `syncat` is a crontab expression; `callbacks`: `_rfs_callback` is
    called; `checktime_s`: how long the mount may take to answer a probe, one each
    `checkintv_s`; `flow`: the lan that the legacy `<flow>` names."""

    replicated: tuple[Replicated, ...]
    acknowledge_on: str = "receipt"
    transfers: int = 6
    acl: bool = False
    locktimeout_s: float = 100.0
    sendtimeout_s: float = 30.0
    reitimeout_s: float = 150.0
    reidetail: bool = False
    reicommit_bytes: int = 0
    reiallowedbw_bytes_s: int = 0
    syncdelta_s: float = 0.0
    syncat: str = ""
    callbacks: bool = False
    checktime_s: float = 220.0
    checkintv_s: float = 120.0
    flow: str = ""


@dataclass(frozen=True, slots=True)
class Proc:
    """`<proc>`: a watched process. `action` is restart, stopstart, stop or noaction."""

    name: str
    checker_class: str
    action: str = "stopstart"
    atleast: int = 1
    argregex: str = ""
    nameregex: str = ""


@dataclass(frozen=True, slots=True)
class Errd:
    polltimer_s: float = 30.0
    procs: tuple[Proc, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """`<user>`: scripts run only if this element is there."""

    nicestoptimeout_s: float = 300.0
    forcestoptimeout_s: float = 300.0
    logging: str = "userlog"
    userlogsize_kb: int = 2048
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """A whole userconfig.xml (mode mirror), macros expanded."""

    heartbeats: tuple[Heartbeat, ...]
    mode: str = "mirror"
    boot: str = "ignore"
    boot_delay_s: float = 0.0
    failover: bool = True
    defaultprim: str = "alone"
    maxloop: int = 3
    loop_interval_s: float = 24 * 3600.0
    rfs: Rfs | None = None
    user: User | None = None
    errd: Errd = field(default_factory=Errd)
    digest: str = ""

    @property
    def flow_lan(self) -> str:
        """The lan that carries replication: ident="flow", else that of the legacy `<flow>`, else
        the first heartbeat's. Where both are given they agree."""
        for beat in self.heartbeats:
            if beat.ident == "flow":
                return beat.lan
        if self.rfs is not None and self.rfs.flow:
            return self.rfs.flow
        return self.heartbeats[0].lan
