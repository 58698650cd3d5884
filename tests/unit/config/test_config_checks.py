"""`<check>`: what each element becomes, its defaults and limits, and what is refused."""

from typing import Any

import pytest
from test_config_userconfig import document, parse, refusal

from safepy.config.schema import (
    Checks,
    CustomCheck,
    DelayCheck,
    DiskCheck,
    IntfCheck,
    IpCheck,
    ModuleCheck,
    PingCheck,
    SplitbrainCheck,
    TcpCheck,
)

RFS = '<rfs><replicated dir="/a"/><replicated dir="/b"/></rfs>'


def checks(inside: str, rest: str = "<user/>") -> Checks:
    return parse(document(rest=f"{rest}<check>{inside}</check>")).checks


GOOD: list[tuple[str, Any]] = [
    (
        '<tcp ident="sql" when="prim" action="restart">'
        '<to addr="127.0.0.1" port="5432" interval="15s" timeout="3s"/></tcp>',
        TcpCheck(
            ident="sql",
            when="prim",
            action="restart",
            addr="127.0.0.1",
            port=5432,
            interval_s=15,
            timeout_s=3,
        ),
    ),
    (
        '<tcp ident="lic" when="both"><to addr="[2001:db8::7]" port="27000"/></tcp>',
        TcpCheck(ident="lic", when="both", action="restart", addr="2001:db8::7", port=27000),
    ),
    # Only a wait can be used with pre (15.1).
    (
        '<tcp ident="lic" when="pre"><to addr="db.example.org" port="1"/></tcp>',
        TcpCheck(ident="lic", when="pre", action="wait", addr="db.example.org", port=1),
    ),
    (
        '<ping ident="router"><to addr="192.0.2.1" interval="1m"/></ping>',
        PingCheck(ident="router", when="pre", action="wait", addr="192.0.2.1", interval_s=60),
    ),
    (
        '<ping ident="r" when="second" action="stop"><to addr="fe80::1"/></ping>',
        PingCheck(ident="r", when="second", action="stop", addr="fe80::1"),
    ),
    (
        '<intf ident="lan0"><to local_addr="192.0.2.11"/></intf>',
        IntfCheck(ident="lan0", when="pre", local_addr="192.0.2.11"),
    ),
    (
        '<ip ident="vip0"><to addr="192.0.2.50" interval="7"/></ip>',
        IpCheck(ident="vip0", when="prim", addr="192.0.2.50", interval_s=7),
    ),
    (
        '<ip ident="v" when="both"><to addr="::1" conflict="down"/></ip>',
        IpCheck(ident="v", when="both", addr="::1", conflict="down"),
    ),
    (
        '<custom ident="disk" exec="diskcheck.sh" arg=" /srv/data  90 " when="prim"'
        ' action="stopstart"/>',
        CustomCheck(
            ident="disk",
            when="prim",
            action="stopstart",
            path="diskcheck.sh",
            arguments=("/srv/data", "90"),
        ),
    ),
    (
        '<custom ident="c" exec="/opt/x" when="pre"/>',
        CustomCheck(ident="c", when="pre", action="noaction", path="/opt/x"),
    ),
    (
        '<module name="leader"/>',
        ModuleCheck(ident="leader_127.0.0.1", when="pre", name="leader"),
    ),
    (
        '<module name="db"><to addr="192.0.2.50" port="9011" timeout="2"/></module>',
        ModuleCheck(
            ident="db_192.0.2.50",
            when="pre",
            name="db",
            addr="192.0.2.50",
            port=9011,
            timeout_s=2,
        ),
    ),
    (
        '<module name="db" ident="x"><to addr="h" secure="off"/></module>',
        ModuleCheck(ident="x", when="pre", name="db", addr="h"),
    ),
    (
        '<splitbrain ident="w" exec="ping" arg="192.0.2.1 gw.example.org"/>',
        SplitbrainCheck(ident="w", when="pre", witnesses=("192.0.2.1", "gw.example.org")),
    ),
    (
        '<disk ident="d"><to dir="/srv/x/"/></disk>',
        DiskCheck(
            ident="d",
            when="both",
            action="noaction",
            dirs=("/srv/x",),
            minfree_percent=5,
            timeout_s=10,
        ),
    ),
    (
        '<disk ident="d" when="prim" action="stopstart">'
        '<to dir="/x" minfree="2G" maxlatency="500" timeout="20"/></disk>',
        DiskCheck(
            ident="d",
            when="prim",
            action="stopstart",
            dirs=("/x",),
            minfree_bytes=2 << 30,
            maxlatency_s=0.5,
            timeout_s=20,
        ),
    ),
    ("<delay/>", DelayCheck(ident="delay", when="both", action="noaction")),
    (
        '<delay when="prim" action="stop"><to max="300ms" interval="5"/></delay>',
        DelayCheck(ident="delay", when="prim", action="stop", max_s=0.3, interval_s=5),
    ),
]


@pytest.mark.parametrize(("inside", "value"), GOOD)
def test_a_check_and_its_defaults(inside: str, value: object) -> None:
    assert checks(inside) == (value,)


def test_resources_and_the_labels_of_generated_rules() -> None:
    wanted = {type(value): (inside, value) for inside, value in GOOD}
    found = checks("".join(inside for inside, _ in wanted.values()))
    assert [(check.resource, check.rule) for check in found] == [
        ("tcp.lic", "t_lic"),
        ("ping.r", "p_r"),
        ("intf.lan0", ""),
        ("ip.v", ""),
        ("custom.c", ""),
        ("module.x", ""),
        ("splitbrain.w", ""),
        ("disk.d", "d_d"),
        ("node.delay", "n_delay"),
    ]


def test_without_a_directory_all_replicated_ones_are_looked_at() -> None:
    (check,) = checks('<disk ident="d"/>', RFS)
    assert isinstance(check, DiskCheck) and check.dirs == ("/a", "/b")


def test_a_check_in_a_check_is_taken_as_one() -> None:
    assert [c.ident for c in checks("<check><delay/></check>" + GOOD[3][0])] == ["delay", "router"]


@pytest.mark.parametrize("inside", [GOOD[0][0], GOOD[3][0], '<disk ident="d"/>'])
def test_checks_may_differ_between_the_nodes(inside: str) -> None:
    one = parse(document(rest=f"{RFS}<user/>"))
    other = parse(document(rest=f"{RFS}<user/><check>{inside}</check>"))
    assert other.checks and one.digest == other.digest


def test_witnesses_may_not() -> None:
    digests = {
        parse(document(rest=f'<check><splitbrain ident="w" arg="{arg}"/></check>')).digest
        for arg in ("192.0.2.1", "192.0.2.2")
    }
    assert len(digests) == 2


TO = '<to addr="h" port="1"/>'
BAD = {
    "<tcp/>": "<tcp> attribute when is missing: allowed are pre, prim, second, both",
    f'<tcp when="prim">{TO}</tcp>': (
        "<tcp> attribute ident is missing: allowed are letters, digits and _ . : -, at most 64"
    ),
    f'<tcp ident="a b" when="prim">{TO}</tcp>': (
        '<tcp> attribute ident="a b": allowed are letters, digits and _ . : -, at most 64'
    ),
    '<tcp ident="a" when="prim"/>': "<tcp>: <to> is missing, allowed is exactly one",
    f'<tcp ident="a" when="prim">{TO}{TO}</tcp>': ("<to> a second time in <tcp>: allowed is one"),
    f'<tcp ident="a" when="sec">{TO}</tcp>': (
        '<tcp> attribute when="sec": allowed are pre, prim, second, both'
    ),
    f'<tcp ident="a" when="prim" action="wait">{TO}</tcp>': (
        '<tcp> attribute action="wait": allowed are stop, stopstart, restart, noaction '
        '(wait is possible only with when="pre")'
    ),
    f'<tcp ident="a" when="pre" action="restart">{TO}</tcp>': (
        '<tcp> attribute action="restart": allowed are wait, noaction'
    ),
    f'<tcp ident="a" when="prim" action="swap">{TO}</tcp>': (
        '<tcp> attribute action="swap": allowed are stop, stopstart, restart, noaction'
    ),
    '<tcp ident="a" when="prim"><to addr="h"/></tcp>': (
        "<to> attribute port is missing: allowed are whole numbers from 1 to 65535"
    ),
    '<tcp ident="a" when="prim"><to addr="h" port="65536"/></tcp>': (
        '<to> attribute port="65536": allowed are whole numbers from 1 to 65535'
    ),
    '<tcp ident="a" when="prim"><to port="1"/></tcp>': (
        "<to> attribute addr is missing: allowed is an IPv4 or IPv6 address, or a name"
    ),
    '<tcp ident="a" when="prim"><to addr="1.2.3" port="1"/></tcp>': (
        '<to> attribute addr="1.2.3": allowed is an IPv4 or IPv6 address, or a name'
    ),
    '<tcp ident="a" when="prim"><to addr="0.0.0.0" port="1"/></tcp>': (
        '<to> attribute addr="0.0.0.0": allowed is the address of one host'
    ),
    '<tcp ident="a" when="prim"><to addr="h" port="1" interval="0"/></tcp>': (
        '<to> attribute interval="0": allowed are times from 1s to 86400s'
    ),
    '<tcp ident="a" when="prim"><to addr="h" port="1" timeout="400ms"/></tcp>': (
        "<to> attribute timeout=\"400ms\": allowed are whole numbers of the unit 's', "
        "this rounds to 0"
    ),
    '<tcp ident="a" when="prim"><to addr="h" port="1" local_addr="::1"/></tcp>': (
        '<to> attribute local_addr="::1": unknown attribute, '
        "allowed are addr, interval, port, timeout"
    ),
    f'<tcp ident="a" when="prim">{TO}</tcp><tcp ident="a" when="pre">{TO}</tcp>': (
        "<tcp>: tcp.a is there a second time, allowed is once"
    ),
    '<ping ident="a" when="prim"><to addr="h"/></ping>': (
        "<ping> attribute action is missing: allowed are stop, stopstart, restart, noaction "
        '(the default wait is possible only with when="pre")'
    ),
    '<ping ident="a"><to addr="h" port="1"/></ping>': (
        '<to> attribute port="1": unknown attribute, allowed are addr, interval, timeout'
    ),
    '<intf ident="a" when="prim"><to local_addr="::1"/></intf>': (
        '<intf> attribute when="prim": allowed is pre'
    ),
    '<intf ident="a"><to local_addr="eth0"/></intf>': (
        '<to> attribute local_addr="eth0": allowed is an IPv4 or IPv6 address'
    ),
    '<intf ident="a" action="wait"><to local_addr="::1"/></intf>': (
        '<intf> attribute action="wait": unknown attribute, allowed are ident, when'
    ),
    '<ip ident="a" when="pre"><to addr="::1"/></ip>': (
        '<ip> attribute when="pre": allowed are prim, second, both'
    ),
    '<custom ident="a" exec="x"/>': (
        "<custom> attribute when is missing: allowed are pre, prim, second, both"
    ),
    '<custom ident="a" when="pre"/>': (
        '<custom> attribute exec is missing: allowed is the path of a program, without ".."; '
        "bin/ need not be said"
    ),
    '<custom ident="a" exec="../x" when="pre"/>': (
        '<custom> attribute exec="../x": allowed is the path of a program, without ".."; '
        "bin/ need not be said"
    ),
    '<custom ident="a" exec="x" when="both" action="wait"/>': (
        '<custom> attribute action="wait": allowed are stop, stopstart, restart, noaction '
        '(wait is possible only with when="pre")'
    ),
    '<custom ident="a" exec="x" when="pre"><to addr="h"/></custom>': (
        "<to> in <custom>: unknown element, allowed is none"
    ),
    "<module/>": (
        "<module> attribute name is missing: allowed are letters, digits, _ and -, at most 64"
    ),
    '<module name="m"><to port="9453" secure="on"/></module>': (
        '<to> attribute secure="on": allowed is off, '
        "HTTPS between web services is not supported yet by this version"
    ),
    '<module name="m" when="prim"/>': '<module> attribute when="prim": allowed is pre',
    '<splitbrain ident="w"/>': (
        "<splitbrain> attribute arg is missing: allowed are 1 to 8 different addresses or names"
    ),
    '<splitbrain ident="w" arg="h h"/>': (
        '<splitbrain> attribute arg="h h": allowed are 1 to 8 different addresses or names'
    ),
    '<splitbrain ident="w" arg="192.0.2"/>': (
        '<splitbrain> attribute arg="192.0.2": allowed is an IPv4 or IPv6 address, or a name'
    ),
    '<splitbrain ident="w" exec="x.sh" arg="h"/>': (
        '<splitbrain> attribute exec="x.sh": allowed is ping'
    ),
    '<splitbrain ident="w" when="prim" arg="h"/>': (
        '<splitbrain> attribute when="prim": allowed is pre'
    ),
    '<splitbrain ident="w" arg="h"/><splitbrain ident="v" arg="i"/>': (
        "<splitbrain> a second time: allowed is one, with all witnesses in arg"
    ),
    '<disk ident="d"/>': "<disk>: without <rfs>, allowed is only <disk> with <to dir>",
    '<disk ident="d"><to dir="x"/></disk>': (
        '<to> attribute dir="x": allowed are absolute paths without spaces and without ".."'
    ),
    '<disk ident="d"><to dir="/x/../y"/></disk>': (
        '<to> attribute dir="/x/../y": allowed are absolute paths without spaces and without ".."'
    ),
    '<disk ident="d"><to dir="/x" minfree="100%"/></disk>': (
        '<to> attribute minfree="100%": '
        "allowed are a share as in 5%, or bytes as in 500M or 2G (K, M, G, T), 0 for any"
    ),
    '<delay><to max="10ms"/></delay>': (
        '<to> attribute max="10ms": allowed are times from 50ms to 600000ms'
    ),
    "<delay/><delay/>": "<delay>: node.delay is there a second time, allowed is once",
    "<farm/>": (
        "<farm> in <check>: unknown element, allowed are check, tcp, ping, intf, ip, custom, "
        "module, splitbrain, disk, delay"
    ),
    "".join(f'<custom ident="c{n}" exec="x" when="pre"/>' for n in range(65)): (
        "<custom>: allowed are at most 64 checks in a module"
    ),
}


@pytest.mark.parametrize(("inside", "message"), BAD.items())
def test_what_is_refused(inside: str, message: str) -> None:
    found = refusal(document(rest=f"<user/>\n<check>\n{inside}</check>"))
    prefix, _, text = found.partition(": ")
    assert text == message
    assert prefix == f"userconfig.xml line {document(rest='@').split('@')[0].count(chr(10)) + 3}"
