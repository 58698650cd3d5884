"""`<vip>`: what each attribute becomes, its limits, and the line that says what is wrong."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from test_config_userconfig import FILE, document, parse, refusal

from safepy.config import userconfig
from safepy.config.check import check_against
from safepy.config.schema import Cluster, IntfCheck, IpCheck, Lan, LanNode, Vip, VirtualAddress
from safepy.config.vip import generated_checks
from safepy.errors import ConfigError

ADDRESS = 'addr="192.0.2.50" where="one_side_alias"'
CLUSTER = Cluster(
    (
        Lan("default", (LanNode("alpha", "192.0.2.11"), LanNode("beta", "192.0.2.12"))),
        Lan("sync", (LanNode("alpha", "198.51.100.11"), LanNode("beta", "198.51.100.12"))),
    )
)


def with_vip(
    address: str = ADDRESS, interface: str = "", vip: str = "", more: str = "", rest: str = ""
) -> str:
    inner = f"<real_interface><virtual_addr {address}/>{more}</real_interface>"
    lists = f"<interface_list><interface {interface}>{inner}</interface></interface_list>"
    return document(rest=f"<vip {vip}>{lists}</vip><user/>{rest}")


def vip(address: str = ADDRESS, interface: str = "", attributes: str = "", more: str = "") -> Vip:
    found = parse(with_vip(address, interface, attributes, more)).vip
    assert found is not None
    return found


def only(found: Vip) -> VirtualAddress:
    ((address,),) = (interface.addresses for interface in found.interfaces)
    return address


def test_defaults() -> None:
    found = vip()
    (interface,) = found.interfaces
    assert found.tcpreset and interface.check and not interface.arpreroute
    assert (interface.name, interface.arpinterval_s, interface.arpelapse_s) == ("", 60.0, 1200.0)
    assert only(found) == VirtualAddress("192.0.2.50", "one_side_alias", True, False, None)
    assert parse(document()).vip is None


@pytest.mark.parametrize(
    ("attributes", "field", "value"),
    [
        ('check="off"', "check", False),
        ('arpreroute="on"', "arpreroute", True),
        ('arpinterval="5s"', "arpinterval_s", 5.0),
        ('arpinterval="2m"', "arpinterval_s", 120.0),
        ('arpelapse="10"', "arpelapse_s", 10.0),  # shorter than the interval: SafeKit's template
        ('name="bond0.7"', "name", "bond0.7"),
    ],
)
def test_attributes_of_the_interface(attributes: str, field: str, value: object) -> None:
    assert getattr(vip(interface=attributes).interfaces[0], field) == value


@pytest.mark.parametrize(
    ("attributes", "field", "value"),
    [
        ('addr="192.0.2.50" where="one_side"', "where", "one_side"),
        (f'{ADDRESS} check="off"', "check", False),
        (f'{ADDRESS} connections="on"', "connections", True),
        (f'{ADDRESS} netmask="255.255.255.0"', "prefix", 24),
        (f'{ADDRESS} netmask="255.255.255.255"', "prefix", 32),
        ('addr="2001:DB8:0:0::5" where="one_side_alias"', "addr", "2001:db8::5"),
        ('addr="[2001:db8::5]" where="one_side_alias"', "addr", "2001:db8::5"),
        ('addr="vip.example.org" where="one_side_alias"', "addr", "vip.example.org"),
    ],
)
def test_attributes_of_the_address(attributes: str, field: str, value: object) -> None:
    assert getattr(only(vip(attributes)), field) == value


def test_tcpreset() -> None:
    assert not vip(attributes='tcpreset="off"').tcpreset


_HOST = "<virtual_addr> attribute addr={}: allowed is an address of one host that others can reach"
_KIND = "<virtual_addr> attribute addr={}: allowed are an IPv4 address, an IPv6 address, "
_MASK = "<virtual_addr> attribute netmask={}: allowed are masks such as 255.255.255.0"
REFUSED = {
    'where="one_side_alias"': _KIND.format('=""').replace('==""', " is missing"),
    'addr="192.0.2.300" where="one_side_alias"': _KIND.format('"192.0.2.300"'),
    'addr="no host" where="one_side_alias"': _KIND.format('"no host"'),
    **{
        f'addr="{address}" where="one_side_alias"': _HOST.format(f'"{address}"')
        for address in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1")
    },
    **{
        f'addr="{address}" where="one_side_alias"': _HOST.format(f'"{address}"')
        for address in ("::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.1", "fe80::1%eth0")
    },
    'addr="192.0.2.50"': (
        "<virtual_addr> attribute where is missing: allowed are one_side_alias, one_side"
    ),
    'addr="192.0.2.50" where="alias"': (
        '<virtual_addr> attribute where="alias": allowed are one_side_alias, one_side '
        "(it is for farm modules; a mirror module has one_side_alias or one_side)"
    ),
    f'{ADDRESS} check="yes"': '<virtual_addr> attribute check="yes": allowed are on, off',
    **{
        f'{ADDRESS} netmask="{mask}"': _MASK.format(f'"{mask}"')
        for mask in ("24", "255.0.255.0", "0.0.0.255", "0.0.0.0", "")
    },
    'addr="192.0.2.255" where="one_side" netmask="255.255.255.0"': (
        '<virtual_addr> attribute netmask="255.255.255.0": allowed is one in which 192.0.2.255 is '
        "the address of a host"
    ),
    'addr="2001:db8::1" where="one_side" netmask="255.255.255.0"': (
        '<virtual_addr> attribute netmask="255.255.255.0": allowed is a netmask for IPv4 addresses '
        "only"
    ),
    f'{ADDRESS} weight="1"': (
        '<virtual_addr> attribute weight="1": unknown attribute, allowed are addr, check, '
        "connections, netmask, where"
    ),
}


@pytest.mark.parametrize(("attributes", "message"), REFUSED.items())
def test_refused_addresses(attributes: str, message: str) -> None:
    assert message.replace(' =""', "") in refusal(with_vip(attributes))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('name="eth0:1"', "allowed are the name of a network interface"),
        ('name=".."', "allowed are the name of a network interface"),
        ('name="a/b"', "allowed are the name of a network interface"),
        ('name="sixteen-letters-"', "allowed are the name of a network interface"),
        ('arpinterval="0"', "allowed are times from 1s to 86400s"),
        ('arpinterval="500ms"', "this rounds to 0"),
        ('arpelapse="-1"', "allowed are a whole number (s)"),
        ('arpreroute="yes"', "allowed are on, off"),
        ('type="vmac_directed"', "unknown attribute"),
    ],
)
def test_refused_interfaces(attributes: str, message: str) -> None:
    assert message in refusal(with_vip(interface=attributes))


def test_what_belongs_to_farms_is_refused_by_name_with_the_reason() -> None:
    assert "a mirror module sets its addresses itself" in refusal(
        with_vip(vip='scriptcontrol="on"')
    )
    shares = (
        '<vip><interface_list/><loadbalancing_list><group name="m"/></loadbalancing_list></vip>'
    )
    assert "<loadbalancing_list> in <vip>: it belongs to farm modules" in refusal(
        document(rest=shares)
    )
    # The recipe of the knowledge base (reference: userconfig 23.22).
    virtual = (
        '<vip><interface_list><interface check="on" arpreroute="off">'
        '<virtual_interface type="vmac_invisible"><virtual_addr addr="192.0.2.63" '
        'where="one_side_alias" check="off"/></virtual_interface></interface></interface_list>'
        "</vip>"
    )
    said = refusal(document(rest=virtual))
    assert "<virtual_interface> in <interface>: virtual MAC addresses are not supported" in said
    assert "use <real_interface>" in said
    farm = '<farm><lan><node name="node1" addr="127.0.0.1"/></lan></farm>' + virtual
    assert "<farm>" in refusal(document(rest=farm))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<vip/>", "<vip>: found 0 <interface_list>, allowed is exactly one"),
        ("<vip><interface_list/></vip>", "<interface_list>: <interface> is missing"),
        (
            "<vip><interface_list><interface/></interface_list></vip>",
            "<interface>: <virtual_addr> is missing in <real_interface>",
        ),
        (
            "<vip><interface_list><interface><real_interface/></interface></interface_list></vip>",
            "<interface>: <virtual_addr> is missing in <real_interface>",
        ),
        ("<vip/><vip/>", "<vip> a second time in <service>"),
    ],
)
def test_what_is_missing(text: str, message: str) -> None:
    assert message in refusal(document(rest=text))


def test_an_address_twice_and_too_many() -> None:
    twice = f'<virtual_addr addr="[2001:db8::5]" where="one_side"/><virtual_addr {ADDRESS}/>'
    assert "allowed is each address once" in refusal(with_vip(more=twice))
    many = "".join(f'<virtual_addr addr="192.0.2.{n}" where="one_side"/>' for n in range(100, 164))
    assert "found 65 addresses, allowed are at most 64" in refusal(with_vip(more=many))


# -- names -----------------------------------------------------------------------------------------


def _resolved(found: list[str] | OSError) -> userconfig.Parsed:
    def resolve(name: str) -> list[str]:
        assert name == "vip.example.org"
        if isinstance(found, OSError):
            raise found
        return found

    text = with_vip('addr="vip.example.org" where="one_side"')
    return userconfig.read(text.encode(), FILE, {}, resolve)


def test_a_name_becomes_an_address_in_the_configuration_that_is_applied() -> None:
    parsed = _resolved(["192.0.2.50", "192.0.2.50"])
    assert parsed.config.vip is not None and only(parsed.config.vip).addr == "192.0.2.50"
    applied = userconfig.parse(parsed.expanded_xml, FILE, {})
    assert applied.vip == parsed.config.vip and b"vip.example.org" not in parsed.expanded_xml
    assert "virtual_addr 192.0.2.50" in parsed.lines
    assert (
        applied.digest
        == parsed.config.digest
        == parse(with_vip(ADDRESS.replace("_alias", ""))).digest
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (["192.0.2.1", "192.0.2.2"], "it has 192.0.2.1, 192.0.2.2: write the address"),
        ([], "it has none: write the address"),
        (OSError(2, "unknown"), "allowed is a name that can be resolved now (unknown; "),
        (["127.0.0.1"], "allowed is an address of one host"),
    ],
)
def test_a_name_that_does_not_lead_to_one_address(found: list[str] | OSError, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _resolved(found)
    assert message in str(caught.value)


# -- against the rest of the world -----------------------------------------------------------------


def test_an_address_belongs_to_one_module_and_to_no_node() -> None:
    config = parse(with_vip().replace('name="d"', 'name="default"'))
    others = {"other": config}
    assert check_against(config, CLUSTER, "alpha") == "beta"
    with pytest.raises(ConfigError, match="which is a virtual address of module other"):
        check_against(config, CLUSTER, "alpha", others=others)
    text = with_vip('addr="192.0.2.12" where="one_side"').replace('name="d"', 'name="default"')
    with pytest.raises(ConfigError, match="which is the address of node beta on lan default"):
        check_against(parse(text), CLUSTER, "alpha")


HERE = tuple(
    ipaddress.ip_interface(each)
    for each in ("127.0.0.1/8", "192.0.2.11/24", "192.0.2.19/24", "198.51.100.11/24")
)


def test_the_checks_that_are_generated() -> None:
    """Reference: userconfig 15.4, 21.2."""
    assert generated_checks(vip(), CLUSTER, "alpha", HERE) == (
        IntfCheck(ident="192.0.2.0", when="pre", local_addr="192.0.2.11"),
        IpCheck(ident="192.0.2.50", when="prim", addr="192.0.2.50"),
    )
    assert generated_checks(None, CLUSTER, "alpha", HERE) == ()


def test_checks_are_generated_once_and_only_where_they_are_wanted() -> None:
    second = '<virtual_addr addr="192.0.2.51" where="one_side" check="off"/>'
    found = generated_checks(vip(more=second), CLUSTER, "alpha", HERE)
    assert [check.resource for check in found] == ["intf.192.0.2.0", "ip.192.0.2.50"]
    silent = vip(interface='check="off"')
    assert [check.resource for check in generated_checks(silent, CLUSTER, "alpha", HERE)] == [
        "ip.192.0.2.50"
    ]
    own = (IpCheck(ident="192.0.2.50", when="both", addr="192.0.2.50"),)
    assert [each.resource for each in generated_checks(vip(), CLUSTER, "alpha", HERE, own)] == [
        "intf.192.0.2.0"
    ]


@pytest.mark.parametrize(
    ("address", "ident", "local"),
    [
        (ADDRESS, "192.0.2.0", "192.0.2.11"),
        (f'{ADDRESS} netmask="255.255.255.192"', "192.0.2.0", "192.0.2.11"),
        ('addr="198.51.100.200" where="one_side"', "198.51.100.0", "198.51.100.11"),
        # Nothing alike: down, until somebody brings an interface up.
        ('addr="2001:db8::50" where="one_side"', "2001:db8::", "2001:db8::50"),
    ],
)
def test_an_interface_that_is_not_there_yet(address: str, ident: str, local: str) -> None:
    found = generated_checks(vip(address), CLUSTER, "alpha", ())[0]
    assert isinstance(found, IntfCheck)
    assert (found.ident, found.local_addr) == (ident, local)


def test_the_examples_of_the_reference(tmp_path: Path) -> None:
    """Reference: userconfig 23.2 and 23.12."""
    example = """<safe>
 <macro name="SERVICES" value="postgresql, billing"/>
 <service mode="mirror" boot="auto" boot_delay="20s" maxloop="3" loop_interval="24h">
  <heart><heartbeat name="default"/></heart>
  <vip><interface_list><interface check="on" arpreroute="on"><real_interface>
    <virtual_addr addr="192.0.2.50" where="one_side_alias" check="on"/>
  </real_interface></interface></interface_list></vip>
  <rfs><replicated dir="/srv/billing" mode="read_only"/></rfs>
  <user><var name="SERVICES" value="%SERVICES%"/></user>
 </service>
</safe>"""
    found = parse(example).vip
    assert found is not None and found.interfaces[0].arpreroute
    crossed = """<safe><service mode="mirror" defaultprim="alpha">
  <heart><heartbeat name="default"/></heart>
  <vip><interface_list><interface><real_interface>
    <virtual_addr addr="192.0.2.51" where="one_side_alias"/></real_interface></interface>
  </interface_list></vip>
  <rfs><replicated dir="/srv/app1"/></rfs><user/>
</service></safe>"""
    first = parse(crossed)
    second = parse(crossed.replace("alpha", "beta").replace(".51", ".52").replace("app1", "app2"))
    assert check_against(second, CLUSTER, "alpha", others={"app1": first}) == "beta"
