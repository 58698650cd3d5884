"""userconfig.xml: what is accepted, and the one line that says why something is not."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safepy.config import userconfig
from safepy.config.schema import Heartbeat, ModuleConfig, Proc, Replicated
from safepy.errors import ConfigError

FILE = "userconfig.xml"
TEMPLATE = Path(__file__).parents[3] / "modules" / "mirror.safe" / "conf" / FILE


def page() -> str:
    """The userconfig.xml of the Linux mirror.safe module, as the vendor's page prints it."""
    text = (Path(__file__).parent / "linux_mirror_page.txt").read_text()
    return text[text.index("<!DOCTYPE safe>") : text.index("</safe>") + len("</safe>")]


def document(
    service: str = 'mode="mirror"',
    heart: str = '<heart><heartbeat name="default"/></heart>',
    rest: str = "",
    before: str = "",
) -> str:
    return f"<safe>\n{before}\n<service {service}>\n{heart}\n{rest}\n</service></safe>"


def parse(text: str, **environment: str) -> ModuleConfig:
    return userconfig.parse(text.encode(), FILE, environment)


def refusal(text: str | bytes, **environment: str) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        userconfig.parse(data, FILE, environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_printed_configuration_of_mirror_safe_is_accepted() -> None:
    straight = page().replace("”", '"')
    config = parse(straight)
    assert config.heartbeats == (Heartbeat("default", "flow", 0.7, 30.0),)
    assert config.flow_lan == "default"
    assert (config.defaultprim, config.maxloop, config.loop_interval_s) == ("alone", 3, 86400.0)
    assert config.failover is True
    assert config.errd.polltimer_s == 10.0
    assert config.errd.procs == (Proc("PROCESS_NAME", "prim", "restart", 1),)
    assert config.rfs is not None
    assert config.rfs.replicated == (
        Replicated("/test1replicated", "read_only"),
        Replicated("/test2replicated", "read_only"),
    )
    assert (config.rfs.transfers, config.rfs.acknowledge_on, config.rfs.acl) == (
        3,
        "receipt",
        False,
    )
    assert config.user is not None
    assert config.user.nicestoptimeout_s == 300.0


def test_the_printed_configuration_with_typographic_quotes_is_refused_with_a_hint() -> None:
    assert refusal(page()) == (
        "userconfig.xml line 7: <heartbeat> attribute name: found the typographic quote ”, "
        'allowed are straight quotes (") '
        "(a web page or a word processor put them there; type them again)"
    )


def test_the_template_of_this_project_is_accepted_and_says_the_defaults() -> None:
    config = parse(TEMPLATE.read_text())
    bare = parse(
        document(
            heart='<heart><heartbeat name="default" ident="flow"/></heart>',
            rest='<rfs><replicated dir="/a"/></rfs><user/>',
        )
    )
    assert config.rfs is not None
    assert bare.rfs is not None
    same = ("boot", "boot_delay_s", "defaultprim", "failover", "maxloop", "loop_interval_s")
    assert [getattr(config, name) for name in same] == [getattr(bare, name) for name in same]
    assert (config.heartbeats, config.user) == (bare.heartbeats, bare.user)
    rfs_same = ("acknowledge_on", "transfers", "acl", "locktimeout_s", "sendtimeout_s")
    assert [getattr(config.rfs, n) for n in rfs_same] == [getattr(bare.rfs, n) for n in rfs_same]


def test_defaults_of_the_reference() -> None:
    config = parse(document(rest='<rfs><replicated dir="/a/"/></rfs><user/><errd/>'))
    assert config.heartbeats == (Heartbeat("default", "default", 0.7, 30.0),)
    assert (config.boot, config.boot_delay_s, config.failover) == ("ignore", 0.0, True)
    assert config.rfs is not None
    assert config.rfs.replicated == (Replicated("/a", ""),)
    assert (config.rfs.transfers, config.rfs.locktimeout_s, config.rfs.sendtimeout_s) == (
        6,
        100,
        30,
    )
    assert config.errd.polltimer_s == 30.0
    assert config.user is not None
    assert (config.user.logging, config.user.userlogsize_kb) == ("userlog", 2048)
    without = parse(document())
    assert (without.rfs, without.user) == (None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24", 86400), ("24h", 86400), ("1d", 86400), ("0", 0), ("90m", 7200), ("0s", 0)],
)
def test_loop_interval_is_in_hours(text: str, seconds: float) -> None:
    # 90 minutes are 1.5 hours, rounded to the whole hour.
    config = parse(document(service=f'mode="mirror" loop_interval="{text}"'))
    assert config.loop_interval_s == seconds


def test_pulse_and_timeout_are_in_milliseconds_and_inherited() -> None:
    heart = '<heart pulse="500ms" timeout="15s"><heartbeat name="a"/>'
    heart += '<heartbeat name="b" ident="x" pulse="700" timeout="20000"/></heart>'
    config = parse(document(heart=heart))
    assert config.heartbeats == (Heartbeat("a", "a", 0.5, 15.0), Heartbeat("b", "x", 0.7, 20.0))
    assert config.flow_lan == "a"


def test_macros_win_over_the_environment_and_reach_into_values() -> None:
    text = document(
        before='<macro name="ROOT" value="/srv"/><macro name="DIR" value="%ROOT%/%WHO%"/>',
        rest='<rfs><replicated dir="%DIR%/x"/></rfs>'
        '<user><var name="P" value="50% of %WHO%"/></user>',
    )
    config = parse(text, ROOT="/wrong", WHO="me")
    assert config.rfs is not None
    assert config.rfs.replicated[0].dir == "/srv/me/x"
    assert config.user is not None
    assert config.user.variables == (("P", "50% of me"),)


def test_expanded_xml_keeps_variables_and_comments_and_can_be_read_again() -> None:
    text = document(
        before='<macro name="S" value="a, b"/><!-- é -->',
        rest='<user><var name="SERVICES" value="%S%"/></user>',
    )
    parsed = userconfig.read(text.encode(), FILE, {})
    assert b'<var name="SERVICES" value="a, b"/>' in parsed.expanded_xml
    assert "<!-- é -->".encode() in parsed.expanded_xml
    assert userconfig.parse(parsed.expanded_xml, FILE, {}) == parsed.config
    assert parsed.lines["heartbeat default"] == 4


def test_digest_tells_meanings_apart_and_nothing_else() -> None:
    one = parse(document(rest="<user/>"))
    commented = parse(document(rest="<!-- hello --><user></user>", service="mode='mirror'"))
    other = parse(document(rest='<user nicestoptimeout="299"/>'))
    assert one.digest == commented.digest
    assert one.digest != other.digest


BAD_VALUES = {
    'service mode="mirror" failover="maybe"': (
        '<service> attribute failover="maybe": allowed are on, off'
    ),
    "service": "<service> attribute mode is missing: allowed are mirror, farm, light",
    'service mode="farm"': (
        '<service> attribute mode="farm" is not supported yet by this version: '
        "allowed are mirror, light"
    ),
    'service mode="mirror" failver="on"': (
        '<service> attribute failver="on": unknown attribute, allowed are automatic_reboot, '
        "boot, boot_delay, defaultprim, failover, loop_interval, maxloop, mode"
    ),
    'service mode="mirror" automatic_reboot="yes"': (
        '<service> attribute automatic_reboot="yes": allowed are on, off'
    ),
    'service mode="light" failover="off"': (
        '<service> attribute failover="off": allowed only with mode="mirror", '
        "a light module has one node"
    ),
    'service mode="mirror" boot="yes"': (
        '<service> attribute boot="yes": allowed are on, off, auto, ignore'
    ),
    'service mode="mirror" boot_delay="500ms"': (
        '<service> attribute boot_delay="500ms": '
        "allowed are whole numbers of the unit 's', this rounds to 0"
    ),
    'service mode="mirror" boot_delay="5 s"': (
        '<service> attribute boot_delay="5 s": '
        "allowed are a whole number (s), or one with d, h, m, s, ms or us"
    ),
    'service mode="mirror" maxloop="-1"': (
        '<service> attribute maxloop="-1": allowed are whole numbers from 0 to 1000000'
    ),
    'service mode="mirror" maxloop="&#10;x"': (
        '<service> attribute maxloop="\\u000ax": allowed are whole numbers from 0 to 1000000'
    ),
    'service mode="mirror" defaultprim="a b"': (
        '<service> attribute defaultprim="a b": allowed are alone, lastprim, the name of a node'
    ),
}


@pytest.mark.parametrize(("tag", "message"), BAD_VALUES.items())
def test_broken_service(tag: str, message: str) -> None:
    text = (
        f'<!DOCTYPE safe>\n<safe>\n<{tag}>\n<heart><heartbeat name="d"/></heart></service></safe>'
    )
    assert refusal(text) == f"userconfig.xml line 3: {message}"


BAD_HEARTS = {
    "<heart/>": "<heart>: <heartbeat> is missing, allowed is one for each lan",
    '<heart port="1"><heartbeat name="d"/></heart>': (
        '<heart> attribute port="1": allowed are whole numbers from 1024 to 65535'
    ),
    '<heart permanent_arp="on"><heartbeat name="d"/></heart>': (
        '<heart> attribute permanent_arp="on": allowed is off '
        "(no entry of the ARP table is made permanent by this version)"
    ),
    '<heart><heartbeat ident="d"/></heart>': (
        "<heartbeat> attribute name is missing: allowed are letters, digits and _ . : -, at most 64"
    ),
    '<heart><heartbeat name="../d"/></heart>': (
        '<heartbeat> attribute name="../d": allowed are letters, digits and _ . : -, at most 64'
    ),
    '<heart><heartbeat name="d"/><heartbeat name="d"/></heart>': (
        '<heartbeat> attribute name="d": allowed is each lan once'
    ),
    '<heart><heartbeat name="d"/><heartbeat name="e" ident="d"/></heart>': (
        '<heartbeat> attribute ident="d": allowed is each ident once'
    ),
    '<heart><heartbeat name="d" ident="flow"/></heart>': (
        '<heartbeat> attribute ident="flow": allowed is "flow" only together with <rfs> '
        "(flow names the lan of the replication)"
    ),
    '<heart timeout="2000"><heartbeat name="d"/></heart>': (
        '<heart> attribute timeout="2000": allowed is a timeout of at least 4 pulses '
        "(found are timeout 2000ms and pulse 700ms)"
    ),
    '<heart><heartbeat name="d"><server addr="1.2.3.4"/></heartbeat></heart>': (
        "<server> is not supported yet by this version"
    ),
    "<heart>text</heart>": '<heart>: found the text "text", allowed are only elements',
    '<hart><heartbeat name="d"/></hart>': (
        "<hart> in <service>: unknown element, allowed are "
        + ", ".join(userconfig.VOCABULARY["service"].children)
    ),
    "": "<service>: <heart> is missing, allowed is exactly one",
    '<heart><heartbeat name="d"/></heart><heart/>': (
        "<heart> a second time in <service>: allowed is one"
    ),
}


@pytest.mark.parametrize(("heart", "message"), BAD_HEARTS.items())
def test_broken_heart(heart: str, message: str) -> None:
    found = refusal(document(heart=heart))
    line = 3 if message.startswith("<service>") else 4
    assert found == f"userconfig.xml line {line}: {message}"


BAD_RESTS = {
    "<vip/>": "<vip>: found 0 <interface_list>, allowed is exactly one",
    "<failover><![CDATA[a: if (ip.c == dwn) then stop();]]></failover>": (
        "<failover> column 35: found 'dwn', allowed are a resource, as in custom.x or ip.?, and "
        "init, down, up, unknown"
    ),
    "<rfs/>": "<rfs>: <replicated> is missing, allowed is one for each directory",
    '<rfs nbrei="0"><replicated dir="/a"/></rfs>': (
        '<rfs> attribute nbrei="0": allowed are whole numbers from 1 to 64'
    ),
    '<rfs async="first"><replicated dir="/a"/></rfs>': (
        '<rfs> attribute async="first": allowed are second, none'
    ),
    '<rfs roflags="0x10"><replicated dir="/a"/></rfs>': (
        '<rfs> attribute roflags="0x10": '
        "it is for Windows nodes, and means nothing on Linux: take it out"
    ),
    '<rfs><replicated dir="a"/></rfs>': (
        '<replicated> attribute dir="a": allowed are absolute paths without spaces and without ".."'
    ),
    '<rfs><replicated dir="/a/../b"/></rfs>': (
        '<replicated> attribute dir="/a/../b": '
        'allowed are absolute paths without spaces and without ".."'
    ),
    '<rfs><replicated dir="//"/></rfs>': (
        '<replicated> attribute dir="//": allowed is every directory but the root'
    ),
    '<rfs><replicated dir="/proc/x"/></rfs>': (
        '<replicated> attribute dir="/proc/x": allowed is nothing in /proc, '
        "which the kernel provides"
    ),
    '<rfs><replicated dir="/a"/><replicated dir="/a/"/></rfs>': (
        '<replicated> attribute dir="/a/": allowed is each directory once'
    ),
    '<rfs><replicated dir="/a/b"/><replicated dir="//a"/></rfs>': (
        '<replicated> attribute dir="//a": allowed is no directory inside another one (see /a/b)'
    ),
    '<rfs><replicated dir="/a" mode="write"/></rfs>': (
        '<replicated> attribute mode="write": allowed is read_only'
    ),
    "<errd/>": "<errd> without <user>: allowed is <errd> only together with <user/>",
    '<user logging="file"/>': '<user> attribute logging="file": allowed are userlog, none',
    '<user><var name="1A" value=""/></user>': (
        '<var> attribute name="1A": allowed are letters, digits and _, not beginning with a digit'
    ),
    '<user><var name="SAFEVAR" value=""/></user>': (
        '<var> attribute name="SAFEVAR": allowed is no variable that the daemon sets itself'
    ),
    '<user><var name="A" value=""/><var name="A" value=""/></user>': (
        '<var> attribute name="A": allowed is each name once'
    ),
    '<user><var name="A" value="%NOBODY%"/></user>': (
        '<var> attribute value="%NOBODY%": found %NOBODY%, '
        "allowed are names of macros declared before it and of environment variables"
    ),
}


@pytest.mark.parametrize(("rest", "message"), BAD_RESTS.items())
def test_broken_rest(rest: str, message: str) -> None:
    assert refusal(document(rest=rest)) == f"userconfig.xml line 5: {message}"


def test_macros_are_checked() -> None:
    twice = document(before='<macro name="A" value=""/><macro name="A" value=""/>')
    assert refusal(twice) == (
        'userconfig.xml line 2: <macro> attribute name="A": allowed is each name once'
    )
    late = '<safe><service mode="mirror"/>\n<macro name="A" value=""/></safe>'
    assert refusal(late).startswith("userconfig.xml line 2: <macro> after <service>")
    bomb = '<macro name="A0" value="xxxxxxxxxx"/>' + "".join(
        f'<macro name="A{n + 1}" value="%A{n}%%A{n}%"/>' for n in range(40)
    )
    assert "longer than 4096 characters after replacement" in refusal(document(before=bomb))
    control = document(rest='<user><var name="A" value="%X%"/></user>')
    assert "characters that XML cannot carry" in refusal(control, X="\x01")


WORDS = st.sampled_from(
    [
        *userconfig.VOCABULARY,
        *(name for words in userconfig.VOCABULARY.values() for name in words.attributes),
        *(
            "vip",
            "x",
            "%A%",
            "on",
            "off",
            "mirror",
            "/a",
            "1",
            "0",
            "30s",
            "prim",
            "&lt;",
            "é",
            "”",
        ),
    ]
)


@st.composite
def near_documents(draw: st.DrawFn) -> str:
    """Elements and attributes of the language, put together by chance."""

    def element(depth: int) -> str:
        tag = draw(st.sampled_from(sorted(userconfig.VOCABULARY)))
        names = draw(st.lists(WORDS, max_size=3, unique=True))
        attributes = " ".join(f'{name}="{draw(WORDS)}"' for name in names)
        count = draw(st.integers(0, 2)) if depth else 0
        return f"<{tag} {attributes}>{''.join(element(depth - 1) for _ in range(count))}</{tag}>"

    inside = "".join(element(2) for _ in range(draw(st.integers(0, 3))))
    return document(rest=inside, before=draw(st.sampled_from(["", '<macro name="A" value="b"/>'])))


@given(near_documents())
def test_fuzz_near_documents(text: str) -> None:
    never_but_config_error(text.encode())


@given(st.binary(max_size=300))
@example(b'<?xml version="1.0" encoding="utf-7"?><safe/>')
@example(b'<?xml version="1.0" encoding="idna"?><safe/>')
@example(b"<safe>&nbsp;</safe>")
def test_fuzz_bytes(data: bytes) -> None:
    never_but_config_error(data)


@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), max_size=4))
def test_fuzz_mutations(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(page().replace("”", '"').encode())
    for at, piece in changes:
        data[at : at + len(piece)] = piece
    never_but_config_error(bytes(data))


def never_but_config_error(data: bytes) -> None:
    try:
        userconfig.parse(data, FILE, {})
    except ConfigError as exc:
        assert str(exc).isprintable()
        assert str(exc).startswith(FILE)
