"""`<rfs>`: what each attribute becomes, its limits, and the line that says what is wrong."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from test_config_userconfig import FILE, document, parse, refusal

from safepy.config import schedule, userconfig
from safepy.config.check import check_against
from safepy.config.schema import Cluster, Lan, LanNode, ModuleConfig, Rfs
from safepy.errors import ConfigError


def with_rfs(attributes: str, inside: str = "", heart: str | None = None) -> str:
    rest = f'<rfs {attributes}><replicated dir="/a">{inside}</replicated></rfs>\n<user/>'
    return document(rest=rest) if heart is None else document(heart=heart, rest=rest)


def rfs(attributes: str, inside: str = "") -> Rfs:
    found = parse(with_rfs(attributes, inside)).rfs
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("attributes", "field", "value"),
    [
        ("", "reitimeout_s", 150.0),
        ('reitimeout="5m"', "reitimeout_s", 300.0),
        ("", "reidetail", False),
        ('reidetail="on"', "reidetail", True),
        ("", "reicommit_bytes", 0),
        ('reicommit="16"', "reicommit_bytes", 16 * 8388608),
        ('reicommit="16" packetsize="1048576"', "reicommit_bytes", 16 << 20),
        ('reicommit="3" packetsize="9000000"', "reicommit_bytes", 3 * 8388608),
        (
            'reicommit="2" packetsize="1048576" reipacketsize="4096"',
            "reicommit_bytes",
            8192,
        ),
        ("", "reiallowedbw_bytes_s", 0),
        ('reiallowedbw="40000"', "reiallowedbw_bytes_s", 40_960_000),
        ("", "syncdelta_s", 0.0),
        ('syncdelta="1"', "syncdelta_s", 0.0),
        ('syncdelta="10m"', "syncdelta_s", 600.0),
        ('syncdelta="2h"', "syncdelta_s", 7200.0),
        ("", "syncat", ""),
        ('syncat=" 01  0 * * * "', "syncat", "01 0 * * *"),
        ("", "callbacks", False),
        ('scripts="on"', "callbacks", True),
        ("", "checktime_s", 220.0),
        ('checktime="5000"', "checktime_s", 5.0),
        ("", "checkintv_s", 120.0),
        ('checkintv="1h"', "checkintv_s", 3600.0),
    ],
)
def test_attributes(attributes: str, field: str, value: Any) -> None:
    assert getattr(rfs(attributes), field) == value


def test_what_the_reference_prints_is_accepted() -> None:
    attributes = 'nbremconn="4" sendtimeout="60s" locktimeout="200s" reitimeout="300s" nbrei="8" '
    attributes += 'reiallowedbw="40000" reicommit="16" packetsize="1048576" reidetail="on" '
    attributes += 'reipacketsize="1048576" ruzone_blocksize="4194304" namespacepolicy="4" '
    attributes += 'mountoversuffix="_For_SafeKit_Replication" mountover="off"'
    found = rfs(attributes)
    assert (found.transfers, found.reicommit_bytes) == (8, 16 << 20)


def test_what_has_no_effect_is_said() -> None:
    attributes = 'packetsize="4096" mountover="off" nbremconn="4" reipacketsize="4096"'
    parsed = userconfig.read(with_rfs(attributes).encode(), FILE, {})
    assert parsed.notes == (
        "line 5: <rfs> attribute packetsize is accepted, and has no effect here",
        "line 5: <rfs> attribute nbremconn is accepted, and has no effect here",
    )
    assert userconfig.read(with_rfs("").encode(), FILE, {}).notes == ()
    unit = with_rfs('packetsize="4096" reicommit="2"')
    assert userconfig.read(unit.encode(), FILE, {}).notes == ()


def test_what_is_left_out_and_what_must_be_there() -> None:
    inside = '<tocheck path="PG_VERSION"/><tocheck path="base/1/"/>'
    inside += '<notreplicated path="pg_stat_tmp"/><notreplicated path="with space/é"/>'
    inside += r'<notreplicated regexpath=".*\.(tmp|bak)$"/>'
    inside += r'<notreplicated regexpath="!.*\.csv$"/>'
    (directory,) = rfs("", inside).replicated
    assert directory.tocheck == ("PG_VERSION", "base/1")
    assert directory.notreplicated == (
        ("path", "pg_stat_tmp"),
        ("path", "with space/é"),
        ("regex", r".*\.(tmp|bak)$"),
        ("only", r".*\.csv$"),
    )


FIVE = 'allowed are the five fields of crontab(5), as in "01 0 * * *"'
BELOW = 'allowed is a path below the directory: relative, without "." and ".." in it'
BAD = [
    ('reitimeout="0"', "", 'attribute reitimeout="0": allowed are times from 1s to 86400s'),
    ('reicommit="-1"', "", "allowed are whole numbers from 0 to 1000000"),
    ('reiallowedbw="5KB"', "", 'reiallowedbw="5KB": allowed are whole numbers'),
    ('reidetail="yes"', "", 'reidetail="yes": allowed are on, off'),
    ('namespacepolicy="2"', "", "allowed are 0, 1, 3, 4"),
    (
        'packetsize="4096" reipacketsize="8192"',
        "",
        'reipacketsize="8192": allowed is at most packetsize, which is 4096',
    ),
    (
        'reipacketsize="8192" ruzone_blocksize="12288"',
        "",
        "allowed are multiples of reipacketsize (8192)",
    ),
    ('mountoversuffix="/x"', "", 'mountoversuffix="/x": allowed are at most 64 letters'),
    ('syncat=""', "", f'<rfs> attribute syncat="": {FIVE} (found 0 fields, 5 are needed)'),
    ('syncat="0 0 * * * *"', "", f"{FIVE} (found 6 fields, 5 are needed)"),
    ('syncat="61 0 * * *"', "", f"{FIVE} (Bad minute)"),
    ('syncat="0 0 30 2 *"', "", f"{FIVE} (Bad day-of-month)"),
    ('syncat="@daily"', "", f"{FIVE} (found 1 fields, 5 are needed)"),
    ("", '<tocheck path="/etc"/>', f'<tocheck> attribute path="/etc": {BELOW}'),
    ("", '<tocheck path="a/../b"/>', BELOW),
    ("", "<tocheck/>", f"<tocheck> attribute path is missing: {BELOW}"),
    ("", '<notreplicated path="."/>', BELOW),
    ("", f'<tocheck path="{"x" * 256}"/>', "allowed are at most 255 bytes a name"),
    ("", "<notreplicated/>", "allowed is one of the attributes path and regexpath"),
    ("", '<notreplicated path="a" regexpath="b"/>', "one of the attributes path and regexpath"),
    ("", '<notreplicated regexpath="!"/>', 'regexpath="!": allowed are POSIX extended'),
    ("", '<notreplicated regexpath="a**"/>', "(two repetitions in a row before position 3)"),
    ("", r'<notreplicated regexpath="\bword"/>', "has no meaning here"),
    ('iotimeout="300"', "", "it is for Windows nodes"),
]


@pytest.mark.parametrize(("attributes", "inside", "message"), BAD)
def test_refused(attributes: str, inside: str, message: str) -> None:
    text = refusal(with_rfs(attributes, inside))
    assert text.startswith("userconfig.xml line 5: <")
    assert message in text


def test_callbacks_need_user() -> None:
    text = refusal(document(rest='<rfs scripts="on"><replicated dir="/a"/></rfs>'))
    assert '<rfs> attribute scripts="on": allowed is "on" only together with <user/>' in text


# -- the lan of the replication


def cluster(*lans: str) -> Cluster:
    nodes = (LanNode("one", "10.0.0.1"), LanNode("two", "10.0.0.2"))
    return Cluster(tuple(Lan(name, nodes) for name in lans))


def flow(name: str, heart: str) -> ModuleConfig:
    return parse(
        document(heart=heart, rest=f'<rfs><flow name="{name}"/><replicated dir="/a"/></rfs>')
    )


def test_flow_names_the_lan() -> None:
    config = flow("b", '<heart><heartbeat name="a"/></heart>')
    assert config.flow_lan == "b"
    assert check_against(config, cluster("a", "b"), "one") == "two"
    config = flow("a", '<heart><heartbeat name="a" ident="flow"/></heart>')
    assert check_against(config, cluster("a", "b"), "one") == "two"


@pytest.mark.parametrize(
    ("name", "heart", "message"),
    [
        ("c", '<heartbeat name="a"/>', "no lan of the cluster, allowed are a, b"),
        (
            "b",
            '<heartbeat name="a" ident="flow"/>',
            'the heartbeat with ident="flow" is on a, allowed is the same lan',
        ),
    ],
)
def test_flow_that_does_not_agree(name: str, heart: str, message: str) -> None:
    config = flow(name, f"<heart>{heart}</heart>")
    with pytest.raises(ConfigError, match=message):
        check_against(config, cluster("a", "b"), "one")


def test_flow_on_a_lan_without_the_peer() -> None:
    pair = cluster("a").lans[0]
    alone = Lan("b", (LanNode("one", "10.1.0.1"), LanNode("three", "10.1.0.3")))
    config = flow("b", '<heart><heartbeat name="a"/></heart>')
    with pytest.raises(ConfigError, match="allowed is a lan with one and two"):
        check_against(config, Cluster((pair, alone)), "one")


# -- what both nodes must say alike


@pytest.mark.parametrize(
    ("attributes", "same"),
    [
        ('reiallowedbw="10"', True),
        ('reicommit="1"', True),
        ('reidetail="on"', True),
        ('reitimeout="9"', True),
        ('checktime="9000" checkintv="60"', True),
        ('nbrei="2"', False),
        ('syncdelta="9"', False),
        ('syncat="0 1 * * *"', False),
        ('scripts="on"', False),
        ('async="none"', False),
        ('acl="on"', False),
    ],
)
def test_what_both_nodes_must_say_alike(attributes: str, same: bool) -> None:
    assert (parse(with_rfs(attributes)).digest == parse(with_rfs("")).digest) is same


def test_left_out_names_must_be_alike_and_boot_need_not() -> None:
    assert parse(with_rfs("", '<notreplicated path="x"/>')).digest != parse(with_rfs("")).digest
    boots = parse(document(service='mode="mirror" boot="on" boot_delay="5"'))
    assert boots.digest == parse(document()).digest


# -- the schedule


def test_next_due_minute() -> None:
    now = datetime(2026, 11, 23, 0, 1, 0)
    assert schedule.next_after("01 0 * * *", now) == datetime(2026, 11, 24, 0, 1)
    assert schedule.next_after("*/15 * * * *", now) == datetime(2026, 11, 23, 0, 15)


def test_clocks_put_forward_do_not_swallow_a_night() -> None:
    zone = ZoneInfo("Europe/Paris")
    # 02:30 does not exist on 2027-03-28: Debian's cron runs it right after the gap.
    due = schedule.next_after("30 2 * * *", datetime(2027, 3, 27, 12, 0, tzinfo=zone))
    assert due == datetime(2027, 3, 28, 3, 0, tzinfo=zone)
    # 02:30 comes twice on 2026-10-25: it runs once.
    first = schedule.next_after("30 2 * * *", datetime(2026, 10, 24, 12, 0, tzinfo=zone))
    again = schedule.next_after("30 2 * * *", first)
    assert again - first > timedelta(hours=20)


def test_scripts_may_find_other_variables_on_the_other_node() -> None:
    one = parse(document(rest='<user><var name="JAVA" value="/opt/a"/></user>'))
    other = parse(document(rest='<user><var name="JAVA" value="/opt/b"/></user>'))
    without = parse(document(rest=""))
    assert one.digest == other.digest != without.digest, "without <user> no script runs"
