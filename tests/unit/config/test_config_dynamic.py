"""Each attribute of a module: may it change while the module runs, and by what name is it refused
(reference: userconfig 17)."""

from __future__ import annotations

import pytest

from safepy.config import dynamic, userconfig

BASE = """<safe>{macro}<service mode="mirror" {service}>
  <heart {heart}><heartbeat name="default" {beat}/>{beats}</heart>
  <rfs {rfs}>{flow}<replicated dir="/srv/data" {dir}>{inside}</replicated>{more}</rfs>
  <user {user}>{var}</user>{errd}{check}{failover}{vhost}{vip}
</service></safe>"""
PLACES = (
    *("macro", "service", "heart", "beat", "beats", "rfs", "flow", "dir", "inside", "more"),
    *("user", "var", "errd", "check", "failover", "vhost", "vip"),
)
VIP = (
    "<vip><interface_list><interface><real_interface>"
    '<virtual_addr addr="192.0.2.9" where="one_side_alias"/>'
    "</real_interface></interface></interface_list></vip>"
)


def names(**changed: str) -> list[str]:
    """What is refused of this change."""
    texts = [
        BASE.format(**{**dict.fromkeys(PLACES, ""), **words}).encode() for words in ({}, changed)
    ]
    parsed = [userconfig.read(text, "userconfig.xml", {}) for text in texts]
    before, after = parsed
    return dynamic.objections(before.config, after.config, before.expanded_xml, after.expanded_xml)


@pytest.mark.parametrize(
    "changed",
    [
        {"service": 'boot="on" boot_delay="5" maxloop="7" loop_interval="2h"'},
        {"service": 'automatic_reboot="on"'},
        {"heart": 'pulse="500" timeout="9000" port="9001"'},
        {"beat": 'ident="flow" timeout="8000"'},
        {"beats": '<heartbeat name="second"/>'},
        {"rfs": 'async="none" nbrei="3" reitimeout="60" reidetail="on"'},
        {"flow": '<flow name="default"/>'},
        {"user": 'nicestoptimeout="9" forcestoptimeout="9" logging="none" userlogsize="9"'},
        {"var": '<var name="A" value="b"/>'},
        {"errd": '<errd polltimer="9"><proc name="a" class="prim" action="restart"/></errd>'},
        {
            "check": '<check><tcp ident="a" when="prim">'
            '<to addr="127.0.0.1" port="80"/></tcp></check>'
        },
        # The same in other words.
        {"service": 'failover="on" defaultprim="alone" boot="ignore"'},
        {"rfs": 'locktimeout="100s" sendtimeout="30" acl="off" packetsize="4096"'},
        {"macro": '<macro name="A" value="b"/>'},
    ],
    ids=str,
)
def test_what_may_change(changed: dict[str, str]) -> None:
    assert names(**changed) == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"service": 'failover="off"'}, "<service failover>"),
        ({"service": 'defaultprim="lastprim"'}, "<service defaultprim>"),
        ({"rfs": 'locktimeout="50"'}, "<rfs locktimeout>"),
        ({"rfs": 'sendtimeout="50"'}, "<rfs sendtimeout>"),
        ({"rfs": 'acl="on"'}, "<rfs acl>"),
        ({"rfs": 'reicommit="5"'}, "<rfs reicommit>"),
        ({"rfs": 'reiallowedbw="5"'}, "<rfs reiallowedbw>"),
        ({"rfs": 'syncdelta="10m"'}, "<rfs syncdelta>"),
        ({"rfs": 'syncat="01 0 * * *"'}, "<rfs syncat>"),
        ({"rfs": 'scripts="on"'}, "<rfs scripts>"),
        ({"rfs": 'checktime="1000"'}, "<rfs checktime>"),
        ({"rfs": 'checkintv="9"'}, "<rfs checkintv>"),
        ({"dir": 'mode="read_only"'}, '<replicated dir="/srv/data" mode>'),
        ({"inside": '<tocheck path="a"/>'}, '<replicated dir="/srv/data"><tocheck>'),
        ({"inside": '<notreplicated path="a"/>'}, '<replicated dir="/srv/data"><notreplicated>'),
        ({"more": '<replicated dir="/srv/more"/>'}, "<replicated dir>"),
        ({"vhost": '<vhost><virtualhostname name="a" envfile="e"/></vhost>'}, "<vhost>"),
        (
            {"failover": "<failover><![CDATA[a: if (custom.x == down) then stop();]]></failover>"},
            "<failover>",
        ),
        ({"failover": '<failover period="9000" handle_time="9000"/>'}, "<failover>"),
        ({"vip": VIP}, "<vip>"),
    ],
    ids=str,
)
def test_what_may_not(changed: dict[str, str], name: str) -> None:
    assert names(**changed) == [name]


def test_several_are_all_named() -> None:
    found = names(service='failover="off" maxloop="9"', rfs='acl="on" nbrei="2" syncdelta="10"')
    assert found == ["<service failover>", "<rfs acl>", "<rfs syncdelta>"]
