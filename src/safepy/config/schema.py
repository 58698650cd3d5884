"""The validated configuration: frozen values, a unit in each name.

XML attributes keep SafeKit's names and defaults (reference: userconfig 7 to 15); this file
says what they mean to us.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from safepy.core.failover.rules import RuleSet


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
    """`<proc>`: a watched process, or with `service` a systemd unit.

    `action` is restart, stopstart, stop, noaction, or an executable (absolute, or in `bin`). Fewer
    than `atleast` trigger it (-1: never), and so do as many as `atmax` (0: any at all, -1: never).
    `start_after`: not watched in the first cycles but one after its class was enabled.
    `restart_services`: what a restart is told to touch (none: everything)."""

    name: str
    checker_class: str
    action: str = "stopstart"
    atleast: int = 1
    argregex: str = ""
    nameregex: str = ""
    service: bool = False
    atmax: int = -1
    start_after: int = 0
    restart_services: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        return f"proc.{self.name}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyCheck:
    """What every `<check>` has. `when`: "pre", "prim", "second" or "both". `action`: what the
    generated rule does when the resource is down; "noaction": no rule; "": the kind has a shipped
    rule for the whole class. One report is due each `interval_s`; no answer within `timeout_s` is
    a failed check."""

    #: Class of the resource, and the prefix of the generated rule's label ("": none is generated).
    KIND: ClassVar[str] = ""
    RULE_PREFIX: ClassVar[str] = ""

    ident: str
    when: str
    action: str = ""
    interval_s: float = 10.0
    timeout_s: float = 5.0

    @property
    def resource(self) -> str:
        return f"{self.KIND}.{self.ident}"

    @property
    def rule(self) -> str:
        """The label of the rule that is generated for this check; "": none is."""
        wanted = self.RULE_PREFIX and self.action not in ("", "noaction")
        return f"{self.RULE_PREFIX}{self.ident}" if wanted else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck(AnyCheck):
    """`<tcp>`: something accepts connections there."""

    KIND: ClassVar[str] = "tcp"
    RULE_PREFIX: ClassVar[str] = "t_"
    addr: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PingCheck(AnyCheck):
    """`<ping>`: the address answers ICMP echo requests."""

    KIND: ClassVar[str] = "ping"
    RULE_PREFIX: ClassVar[str] = "p_"
    addr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntfCheck(AnyCheck):
    """`<intf>`: the interface that carries `local_addr` has its link."""

    KIND: ClassVar[str] = "intf"
    local_addr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IpCheck(AnyCheck):
    """`<ip>`: the address is configured on this node. `conflict`: what becomes of it when another
    host answers for the address: "log" or "down"."""

    KIND: ClassVar[str] = "ip"
    addr: str
    conflict: str = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomCheck(AnyCheck):
    """`<custom>`: a program that runs without end and sets its resource itself. `path` is relative
    to SAFEUSERBIN, or absolute; `arguments` follow the module's name and the resource."""

    KIND: ClassVar[str] = "custom"
    RULE_PREFIX: ClassVar[str] = "c_"
    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCheck(AnyCheck):
    """`<module>`: another module serves. `addr` "": on this node; `port` 0: where the web service
    of this node listens."""

    KIND: ClassVar[str] = "module"
    name: str
    addr: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitbrainCheck(AnyCheck):
    """`<splitbrain>`: the witnesses that are pinged before this node serves alone (E5); one
    answer is enough. Nothing is tested before the core asks."""

    KIND: ClassVar[str] = "splitbrain"
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCheck(AnyCheck):
    """`<disk>`: the file system of each of `dirs` can be written to, has room, and a small synced
    write takes at most `maxlatency_s` (0: any time). The room is `minfree_bytes`, or the share
    `minfree_percent` of blocks and of inodes."""

    KIND: ClassVar[str] = "disk"
    RULE_PREFIX: ClassVar[str] = "d_"
    dirs: tuple[str, ...]
    minfree_bytes: int = 0
    minfree_percent: int = 0
    maxlatency_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayCheck(AnyCheck):
    """`<delay>`: a program of this node that has something to do is run within `max_s`. A value is
    the worst one of an interval. The resource is `node.delay`."""

    KIND: ClassVar[str] = "node"
    RULE_PREFIX: ClassVar[str] = "n_"
    max_s: float = 1.0


Check = (
    TcpCheck
    | PingCheck
    | IntfCheck
    | IpCheck
    | CustomCheck
    | ModuleCheck
    | SplitbrainCheck
    | DiskCheck
    | DelayCheck
)
Checks = tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """`<virtual_addr>`: an address in its shortest form, or the name of a host before it was
    resolved. `where`: "one_side_alias", or "one_side" if it is also the source of what this node
    sends. `connections`: how many there are is counted. `prefix`: of `netmask`; None: as the
    interface has it."""

    addr: str
    where: str = "one_side_alias"
    check: bool = True
    connections: bool = False
    prefix: int | None = None


@dataclass(frozen=True, slots=True)
class VipInterface:
    """`<interface>`: the addresses for one interface. `name` "": the one whose network contains
    the address. `arpreroute`: clients are reminded each `arpinterval_s`, for `arpelapse_s`."""

    addresses: tuple[VirtualAddress, ...]
    name: str = ""
    check: bool = True
    arpreroute: bool = False
    arpinterval_s: float = 60.0
    arpelapse_s: float = 1200.0


@dataclass(frozen=True, slots=True)
class Vip:
    """`<vip>` of a mirror: what the node that leads has. `tcpreset`: TCP connections are reset
    before their address is removed."""

    interfaces: tuple[VipInterface, ...]
    tcpreset: bool = True


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """`<virtualhostname>`: what sources `bin/ENVFILE` in the role `when` has this host name."""

    name: str
    envfile: str
    when: str = "prim"


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """A whole userconfig.xml, macros expanded. In mode "light" there are no heartbeats. `port`:
    of the heartbeats, 0: that of the module's id."""

    heartbeats: tuple[Heartbeat, ...]
    mode: str = "mirror"
    boot: str = "ignore"
    boot_delay_s: float = 0.0
    failover: bool = True
    defaultprim: str = "alone"
    maxloop: int = 3
    loop_interval_s: float = 24 * 3600.0
    automatic_reboot: bool = False
    port: int = 0
    rfs: Rfs | None = None
    user: User | None = None
    errd: Errd = field(default_factory=Errd)
    checks: Checks = ()
    vip: Vip | None = None
    vhosts: tuple[VirtualHost, ...] = ()
    #: `<failover>`: the shipped, the generated and the written rules; how long one must be true
    #: before it moves the service, and after which time one that stays true acts again.
    rules: RuleSet = field(default_factory=RuleSet)
    failover_period_s: float = 5.0
    handle_time_s: float = 15.0
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
