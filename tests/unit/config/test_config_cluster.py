"""cluster.xml, and a module's configuration against it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.config import check, cluster, userconfig
from safepy.config.schema import Cluster
from safepy.errors import ConfigError

FILE = "cluster.xml"
NODES = '<node name="n1" addr="10.0.0.1"/><node name="n2" addr="10.0.0.2"/>'
LAN = f'<lan name="default">{NODES}</lan>'


def document(lans: str = LAN, attributes: str = "") -> str:
    return f"<cluster>\n<lans {attributes}>\n{lans}\n</lans></cluster>"


def parse(text: str) -> Cluster:
    return cluster.parse(text.encode(), FILE)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_example_of_the_reference() -> None:
    found = parse(
        """<cluster>
          <lans port="4800" pulse="100" mlost_count="20" slost_count="10">
            <lan name="default" command="on" console="on" framework="on">
              <node name="node1" addr="10.0.0.107"/>
              <node name="node2" addr="[2001:DB8::0001]"/>
            </lan>
            <lan name="private">
              <node name="node1" addr="host.example" laddr="192.168.0.7"/>
              <node name="node2" addr="10.1.0.108"/>
            </lan>
          </lans>
        </cluster>"""
    )
    assert found.node_names == ("node1", "node2")
    assert (found.port, found.pulse_ms, found.mlost_count, found.slost_count) == (4800, 100, 20, 10)
    default, private = found.lans
    assert (default.command, private.command) == (True, False)
    node2 = default.node("node2")
    assert node2 is not None
    assert node2.addr == "2001:db8::1"
    node1 = private.node("node1")
    assert node1 is not None
    assert (node1.addr, node1.local) == ("host.example", "192.168.0.7")


def test_id_depends_on_the_meaning_only() -> None:
    one = parse(document())
    same = parse(
        f"<!DOCTYPE cluster><!-- x -->{document(attributes='port=' + chr(34) + '4800' + chr(34))}"
    )
    other = parse(document(attributes='port="4801"'))
    assert one.cluster_id == same.cluster_id != other.cluster_id
    assert len(one.cluster_id) == 16


BAD = {
    "": "line 2: <lans>: <lan> is missing, allowed is one for each network",
    f"{LAN}{LAN}": 'line 3: <lan> attribute name="default": allowed is each name once',
    f"<lan>{NODES}</lan>": (
        "line 3: <lan> attribute name is missing: "
        "allowed are letters, digits and _ . : -, at most 64"
    ),
    '<lan name="a"/>': 'line 3: <lan name="a">: <node> is missing, allowed is one for each node',
    '<lan name="a"><node name="n1" addr="10.0.0.1"/></lan>': (
        "line 2: <lans>: found 1 nodes, allowed are 2 to 64"
    ),
    '<lan name="a"><node name="n1" addr="10.0.0.1"/></lan>'
    '<lan name="b"><node name="n2" addr="10.0.0.2"/></lan>': (
        "line 2: <lans>: no <lan> has all nodes, allowed is that at least one has"
    ),
    f'<lan name="a">{NODES}</lan>'
    '<lan name="b" command="on"><node name="n1" addr="10.1.0.1"/></lan>': (
        'line 3: <lan> attribute command="on": allowed is "on" only for a lan with all nodes'
    ),
    f'<lan name="a" command="on">{NODES}</lan><lan name="b" command="on">{NODES}</lan>': (
        'line 3: <lan> attribute command="on": allowed is "on" for at most one lan'
    ),
    f'<lan name="a">{NODES}<node name="n1" addr="10.0.0.3"/></lan>': (
        'line 3: <node> attribute name="n1": allowed is each node once on a lan'
    ),
    f'<lan name="a">{NODES}<node name="n3" addr="10.0.0.1"/></lan>': (
        'line 3: <node> attribute addr="10.0.0.1": allowed is each address once on a lan'
    ),
    f'<lan name="a">{NODES}<node name="../n3" addr="10.0.0.3"/></lan>': (
        'line 3: <node> attribute name="../n3": allowed are letters, digits, _ and -, at most 64'
    ),
    f'<lan name="a">{NODES}<node name="n3"/></lan>': (
        "line 3: <node> attribute addr is missing: "
        "allowed are an IPv4 address, an IPv6 address in [ ], the name of a host"
    ),
    f'<lan name="a">{NODES}<node name="n3" addr="10.0.0.300"/></lan>': (
        'line 3: <node> attribute addr="10.0.0.300": '
        "allowed are an IPv4 address, an IPv6 address in [ ], the name of a host"
    ),
    f'<lan name="a">{NODES}<node name="n3" addr="::1"/></lan>': (
        'line 3: <node> attribute addr="::1": allowed are an IPv4 address, an IPv6 address in [ ], '
        "the name of a host (put the address in [ ])"
    ),
    f'<lan name="a">{NODES}<node name="n3" addr="0.0.0.0"/></lan>': (
        'line 3: <node> attribute addr="0.0.0.0": allowed is the address of one node'
    ),
    f'<lan name="a">{NODES}<server addr="x"/></lan>': (
        "line 3: <server> in <lan>: unknown element, allowed is node"
    ),
}


@pytest.mark.parametrize(("lans", "message"), BAD.items())
def test_broken(lans: str, message: str) -> None:
    assert refusal(document(lans)) == f"{FILE} {message}"


def test_broken_frame() -> None:
    assert (
        refusal("<cluster/>")
        == "cluster.xml line 1: <cluster>: found 0 <lans>, allowed is exactly one"
    )
    assert "allowed are whole numbers from 1 to 65535" in refusal(document(attributes='port="0"'))
    assert "unknown attribute" in refusal(document(attributes='color="0"'))


@given(st.text(alphabet="<>/=\"clusternodaphm'& 10.[]:\n", max_size=200))
def test_fuzz_text(text: str) -> None:
    never_but_config_error(text)


@given(
    st.lists(
        st.tuples(st.sampled_from(["lan", "node", "lans", "x"]), st.text(max_size=12)), max_size=6
    )
)
def test_fuzz_near_documents(elements: list[tuple[str, str]]) -> None:
    def quoted(value: str) -> str:
        return value.replace("&", "").replace("<", "").replace('"', "")

    lans = "".join(f'<{tag} name="{quoted(v)}" addr="{quoted(v)}"/>' for tag, v in elements)
    never_but_config_error(document(LAN + lans))
    never_but_config_error(document(f'<lan name="a">{lans}</lan>'))


def never_but_config_error(text: str) -> None:
    try:
        cluster.parse(text.encode("utf-8", "surrogatepass"), FILE)
    except ConfigError as exc:
        assert str(exc).isprintable()


THREE = f"""{LAN}<lan name="two">{NODES.replace("10.0", "10.1")}</lan>
<lan name="all">{NODES.replace("10.0", "10.2")}<node name="n3" addr="10.2.0.3"/></lan>
<lan name="alone"><node name="n1" addr="10.3.0.1"/></lan>
<lan name="others"><node name="n1" addr="10.4.0.1"/><node name="n3" addr="10.4.0.3"/></lan>"""


def checked(
    heart: str, node: str = "n1", rest: str = "", defaultprim: str = "alone", **more: object
) -> str:
    text = (
        f'<safe><service mode="mirror" defaultprim="{defaultprim}">\n<heart>\n{heart}</heart>{rest}'
    )
    parsed = userconfig.read(f"{text}</service></safe>".encode(), "userconfig.xml", {})
    return check.check_against(
        parsed.config,
        parse(document(THREE)),
        node,
        lines=parsed.lines,
        **more,  # type: ignore[arg-type]
    )


DEFAULT = '<heartbeat name="default"/>'


def test_the_peer_is_the_other_node_of_the_lans() -> None:
    assert checked(DEFAULT) == "n2"
    assert checked(f'{DEFAULT}<heartbeat name="two"/>', node="n2") == "n1"
    assert checked(DEFAULT, defaultprim="lastprim") == "n2"
    assert checked(DEFAULT, defaultprim="n2") == "n2"


@pytest.mark.parametrize(
    ("heart", "node", "message"),
    [
        (
            '<heartbeat name="no"/>',
            "n1",
            'attribute name="no": no lan of the cluster, allowed are default',
        ),
        (
            '<heartbeat name="all"/>',
            "n1",
            "this lan has 3 nodes (n1, n2, n3), allowed for a mirror",
        ),
        ('<heartbeat name="alone"/>', "n1", "this lan has 1 nodes (n1), allowed for a mirror"),
        (
            '<heartbeat name="others"/>',
            "n2",
            "this node (n2) is not on this lan, its nodes are n1, n3",
        ),
    ],
)
def test_lans_that_do_not_fit(heart: str, node: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(heart, node)
    assert str(caught.value).startswith("userconfig.xml line 3: <heartbeat> ")
    assert message in str(caught.value)


def test_all_heartbeats_have_the_same_two_nodes() -> None:
    with pytest.raises(ConfigError, match=r"its nodes are n1, n3, allowed are .* \(n1, n2\)"):
        checked(f'{DEFAULT}<heartbeat name="others"/>')


def test_defaultprim_is_one_of_the_two() -> None:
    with pytest.raises(ConfigError, match=r'="n3": allowed are alone, lastprim, n1, n2$'):
        checked(DEFAULT, defaultprim="n3")


def test_directories_belong_to_one_module_only() -> None:
    rest = '<rfs><replicated dir="/srv/a/b"/></rfs>'
    other = userconfig.parse(
        f'<safe><service mode="mirror"><heart>{DEFAULT}</heart>'
        '<rfs><replicated dir="/srv/a"/></rfs></service></safe>'.encode(),
        "o",
        {},
    )
    with pytest.raises(ConfigError, match="lies in /srv/a, which module other replicates"):
        checked(DEFAULT, rest=rest, others={"other": other})
    with pytest.raises(ConfigError, match="lies in /srv/a/b/c, which belongs to safepy itself"):
        checked(DEFAULT, rest=rest, reserved=("/srv/a/b/c",))
    assert checked(DEFAULT, rest=rest, reserved=("/srv/a/bc", "/srv/b")) == "n2"
