"""What the examples of the reference show (userconfig 23), in our own words: each one that is for
mirror or light modules is accepted and means what is promised, each one for farms is refused by
name. The examples with addresses and processes: test_config_vip.py, test_config_errd.py."""

from __future__ import annotations

import pytest

from safepy.config import cluster, userconfig
from safepy.config.check import check_against
from safepy.config.schema import ModuleConfig, TcpCheck
from safepy.core.failover.rules import Origin
from safepy.errors import ConfigError

FILE = "userconfig.xml"
CLUSTER = cluster.parse(
    b"""<cluster><lans>
  <lan name="office"><node name="north" addr="198.51.100.1"/>
    <node name="south" addr="198.51.100.2"/></lan>
  <lan name="crossed"><node name="north" addr="203.0.113.1"/>
    <node name="south" addr="203.0.113.2"/></lan>
</lans></cluster>""",
    "cluster.xml",
)
HEART = '<heart><heartbeat name="office"/></heart>'


def mirror(rest: str, heart: str = HEART, service: str = "") -> ModuleConfig:
    return accepted(f'<service mode="mirror" {service}>{heart}{rest}</service>')


def accepted(inside: str) -> ModuleConfig:
    found = userconfig.parse(f"<!DOCTYPE safe>\n<safe>{inside}</safe>".encode(), FILE, {})
    assert check_against(found, CLUSTER, "north") == ("south" if found.mode == "mirror" else "")
    return found


def labels(found: ModuleConfig, *origins: Origin) -> set[str]:
    return {rule.label for rule in found.rules.rules if rule.origin in origins}


def resources(found: ModuleConfig) -> list[str]:
    return [check.resource for check in found.checks]


def test_23_1_scripts_only() -> None:
    found = mirror("<user/>", service='boot="on"')
    assert (found.boot, found.rfs, found.vip, found.checks) == ("on", None, None, ())
    assert found.user is not None and found.flow_lan == "office"


def test_23_3_two_heartbeats_and_a_network_for_the_replication() -> None:
    heart = """<heart pulse="400ms" timeout="12s" permanent_arp="off">
      <heartbeat name="office"/>
      <heartbeat name="crossed" ident="flow" pulse="600" timeout="18000"/></heart>"""
    found = mirror('<rfs><replicated dir="/srv/shop"/></rfs><user/>', heart)
    assert [(b.ident, b.pulse_s, b.timeout_s) for b in found.heartbeats] == [
        ("office", 0.4, 12.0),
        ("flow", 0.6, 18.0),
    ]
    assert found.flow_lan == "crossed"


def test_23_4_a_slow_link_and_huge_files() -> None:
    found = mirror("""<rfs nbremconn="2" sendtimeout="45s" locktimeout="180s" reitimeout="240s"
        nbrei="4" reiallowedbw="20000" reicommit="8" packetsize="524288" reipacketsize="524288"
        ruzone_blocksize="2097152" reidetail="on"><replicated dir="/srv/images"/></rfs>
      <user nicestoptimeout="5m" forcestoptimeout="90s" logging="userlog" userlogsize="1024"/>""")
    rfs, user = found.rfs, found.user
    assert rfs is not None and user is not None
    assert (rfs.sendtimeout_s, rfs.locktimeout_s, rfs.reitimeout_s) == (45.0, 180.0, 240.0)
    assert (rfs.transfers, rfs.reiallowedbw_bytes_s, rfs.reidetail) == (4, 20_000 * 1024, True)
    assert rfs.reicommit_bytes == 8 * 524_288
    assert (user.nicestoptimeout_s, user.forcestoptimeout_s) == (300.0, 90.0)
    assert user.userlogsize_kb == 1024


def test_23_5_durability_exclusions_and_a_guard() -> None:
    found = mirror("""<rfs async="none" acl="on">
      <replicated dir="/srv/ledger" mode="read_only"><tocheck path="VERSION"/>
        <notreplicated path="scratch"/><notreplicated regexpath=".*\\.(swp|old)$"/></replicated>
      <replicated dir="/srv/reports"><notreplicated regexpath="!.*\\.pdf$"/></replicated>
      </rfs><user/>""")
    assert found.rfs is not None
    assert (found.rfs.acknowledge_on, found.rfs.acl) == ("apply", True)
    first, second = found.rfs.replicated
    assert (first.mode, first.tocheck) == ("read_only", ("VERSION",))
    assert first.notreplicated == (("path", "scratch"), ("regex", ".*\\.(swp|old)$"))
    assert second.notreplicated == (("only", ".*\\.pdf$"),)


def test_23_6_two_witnesses() -> None:
    found = mirror(
        '<rfs><replicated dir="/srv/a"/></rfs><user/><check>'
        '<splitbrain ident="gateways" exec="ping" arg="198.51.100.254 192.0.2.254"/></check>'
    )
    (check,) = found.checks
    assert (check.resource, check.when) == ("splitbrain.gateways", "pre")
    assert getattr(check, "witnesses", ()) == ("198.51.100.254", "192.0.2.254")
    assert "splitbrain_failure" in labels(found, Origin.SHIPPED)


def test_23_7_rules_that_checks_generate() -> None:
    found = mirror("""<user/><check>
      <tcp ident="db" when="prim" action="restart">
        <to addr="127.0.0.1" port="3306" interval="20s" timeout="4s"/></tcp>
      <tcp ident="keys" when="pre" action="wait"><to addr="192.0.2.7" port="5093"/></tcp>
      <ping ident="gateway" when="pre" action="wait"><to addr="198.51.100.254"/></ping>
      <custom ident="room" exec="room.sh" arg="/srv 80" when="prim" action="stopstart"/></check>""")
    assert resources(found) == ["tcp.db", "tcp.keys", "ping.gateway", "custom.room"]
    assert labels(found, Origin.GENERATED) == {"t_db", "t_keys", "p_gateway", "c_room"}
    actions = {rule.label: rule.action.value for rule in found.rules.rules}
    assert (actions["t_db"], actions["t_keys"]) == ("restart", "wait")
    assert (actions["p_gateway"], actions["c_room"]) == ("wait", "stopstart")
    first = found.checks[0]
    assert isinstance(first, TcpCheck) and (first.interval_s, first.timeout_s) == (20.0, 4.0)


def test_23_8_a_rule_of_ones_own() -> None:
    found = mirror("""<user/><check><custom ident="room" exec="room.sh" when="prim"/></check>
      <failover><![CDATA[
        /* any label will do */
        room_is_short: if (custom.room == down) then stopstart();
      ]]></failover>""")
    assert labels(found, Origin.GENERATED) == set()
    assert labels(found, Origin.OWN) == {"room_is_short"}


def test_23_9_two_languages() -> None:
    found = mirror("""<user/><check>
        <custom ident="x" exec="x.sh" when="pre" action="noaction"/>
        <custom ident="y" exec="y.sh" when="pre" action="noaction"/></check>
      <failover extends="yes" period="4000" handle_time="12000"><![CDATA[
--Lua Rules
Rules.disable("ip_failure")
Rules = Rules + { y_alone = if_then("custom.y", "down", Action.restart), _group = "checker" }
]]><![CDATA[
        all_gone: if (ip.* == down) then stopstart();
        neither: if (custom.x == down && custom.y == down) then wait();
        over_there: if (local.custom.x == down && remote.custom.x == up) then swap();
      ]]></failover>""")
    assert labels(found, Origin.OWN) == {"y_alone", "all_gone", "neither", "over_there"}
    assert "ip_failure" not in labels(found, *Origin)
    assert "interface_failure" in labels(found, Origin.SHIPPED)
    assert (found.failover_period_s, found.handle_time_s) == (4.0, 12.0)


def test_23_11_failover_by_hand() -> None:
    service = 'failover="off" defaultprim="lastprim" boot="off"'
    found = mirror('<rfs><replicated dir="/srv/a"/></rfs><user/>', service=service)
    assert (found.failover, found.defaultprim, found.boot) == (False, "lastprim", "off")


def test_23_17_a_light_module_that_follows_another_one() -> None:
    found = accepted("""<service mode="light" boot="on"><user/>
      <errd><proc name="relay" service="yes" action="restart" class="both"/></errd>
      <check><module name="main"/></check></service>""")
    assert [proc.checker_class for proc in found.errd.procs] == ["both"]
    assert resources(found) == ["module.main_127.0.0.1"]
    assert "module_failure" in labels(found, Origin.SHIPPED)


def test_23_18_a_virtual_host_name_and_macros() -> None:
    found = accepted(f"""<macro name="HOST" value="ledger"/><macro name="BASE" value="/data"/>
      <service mode="mirror">{HEART}<rfs><replicated dir="%BASE%/%HOST%"/></rfs>
      <user><var name="HOME_DIR" value="%BASE%/%HOST%"/></user>
      <vhost><virtualhostname name="%HOST%" envfile="names" when="prim"/></vhost></service>""")
    assert found.rfs is not None and found.rfs.replicated[0].dir == "/data/ledger"
    assert found.user is not None and found.user.variables == (("HOME_DIR", "/data/ledger"),)
    assert [(host.name, host.envfile) for host in found.vhosts] == [("ledger", "names")]


def test_23_19_at_night_only_or_a_little_behind() -> None:
    nightly = mirror('<rfs syncat="30 2 * * *"><replicated dir="/srv/a"/></rfs><user/>').rfs
    behind = mirror('<rfs syncdelta="15m"><replicated dir="/srv/a"/></rfs><user/>').rfs
    assert nightly is not None and nightly.syncat == "30 2 * * *"
    assert behind is not None and behind.syncdelta_s == 900.0


def test_23_20_in_a_cloud() -> None:
    found = mirror(
        '<rfs nbremconn="3"><replicated dir="/data"/></rfs><user/>',
        '<heart><heartbeat name="crossed" ident="flow"/></heart>',
        'boot="on"',
    )
    assert (found.vip, found.flow_lan, found.boot) == (None, "crossed", "on")


def test_23_21_checks_of_interface_and_address() -> None:
    found = mirror("""<user/><check>
      <intf ident="nic" when="pre"><to local_addr="198.51.100.1"/></intf>
      <ip ident="service" when="prim"><to addr="198.51.100.50" interval="20s"/></ip></check>""")
    assert resources(found) == ["intf.nic", "ip.service"]
    assert {"interface_failure", "ip_failure"} <= labels(found, Origin.SHIPPED)
    assert found.checks[1].interval_s == 20.0


VIRTUAL = '<interface><virtual_interface type="%s"><virtual_addr addr="192.0.2.9" where="%s"/>'
VIRTUAL += "</virtual_interface></interface>"
WEB = '<group name="w"><rule port="80" proto="tcp" filter="on_addr"/></group>'
FARMS = {
    "23.13 and 23.14": f"""<service mode="farm"><farm><lan name="office"/></farm><vip>
      <interface_list>{VIRTUAL % ("vmac_directed", "alias")}</interface_list>
      <loadbalancing_list>{WEB}
      </loadbalancing_list></vip><user/></service>""",
    "23.15": f"""<service mode="farm"><farm><lan name="office"/></farm><vip scriptcontrol="on">
      <interface_list>{VIRTUAL % ("vmac_directed", "alias")}</interface_list></vip></service>""",
    "23.16": """<service mode="farm"><farm><lan name="office"/></farm><user/>
      <check><module name="d"><to addr="192.0.2.8" secure="on"/></module></check></service>""",
    "23.22": f"""<service mode="mirror">{HEART}<farm><lan><node name="a" addr="127.0.0.1"/></lan>
      </farm><vip><interface_list>{VIRTUAL % ("vmac_invisible", "one_side_alias")}
      </interface_list></vip><user/></service>""",
}


@pytest.mark.parametrize("example", FARMS)
def test_farms_are_refused_by_name(example: str) -> None:
    with pytest.raises(ConfigError, match=r"line 1: .*farm.* is not supported yet by this version"):
        userconfig.parse(f"<safe>{FARMS[example]}</safe>".encode(), FILE, {})
