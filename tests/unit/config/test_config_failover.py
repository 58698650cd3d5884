"""`<failover>`: both languages, what is shipped and generated, one clear error for a mistake."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.config import userconfig
from safepy.config.failover import grammar, lua
from safepy.config.failover.places import Source
from safepy.config.xml import Section
from safepy.core.failover.conditions import (
    And,
    ClusterCall,
    Compare,
    Condition,
    Constant,
    Not,
    Operand,
    Or,
    Same,
)
from safepy.core.failover.rules import Action, Rule, RuleSet
from safepy.core.failover.wording import printed_rules
from safepy.errors import ConfigError

HEAD = '<safe><service mode="mirror"><heart><heartbeat name="default"/></heart><user/>'
TAIL = "</service></safe>"
#: More than any parse takes on a busy machine; far less than a text that is read quadratically.
LIMIT_S = 10.0


def source(text: str, line: int = 1, column: int = 1) -> Source:
    return Source("userconfig.xml", Section(line, column, text))


def config(inner: str) -> userconfig.Parsed:
    return userconfig.read((HEAD + inner + TAIL).encode(), "userconfig.xml", {})


def rules(inner: str) -> list[str]:
    return printed_rules(config(inner).config.rules).splitlines()


SHIPPED = [
    "module_failure: if (module.? == down) then wait();",
    "interface_failure: if (intf.? == down) then wait();",
    "ip_failure: if (ip.? == down) then stopstart();",
    "splitbrain_failure: if (splitbrain.uptodate == down) then wait();",
]


# What is there without a word.


def test_shipped_and_generated() -> None:
    checks = """<check>
      <tcp ident="sql" when="prim"><to addr="127.0.0.1" port="5432"/></tcp>
      <ping ident="router"><to addr="192.0.2.1"/></ping>
      <custom ident="disk" exec="d.sh" when="prim" action="stopstart"/>
      <custom ident="quiet" exec="q.sh" when="prim"/>
    </check>"""
    assert rules(checks) == [
        *SHIPPED,
        "t_sql: if (tcp.sql == down) then restart();",
        "p_router: if (ping.router == down) then wait();",
        "c_disk: if (custom.disk == down) then stopstart();",
    ]


def test_example_of_two_languages() -> None:
    """Reference: userconfig 23.9."""
    inner = """<check>
        <custom ident="a" exec="a.sh" when="pre" action="noaction"/>
        <custom ident="b" exec="b.sh" when="pre" action="noaction"/>
      </check>
      <failover extends="yes" period="5000" handle_time="15000">
    <![CDATA[
--Lua Rules
Rules.disable("ip_failure")
Rules = Rules + { only_b = if_then("custom.b", "down", Action.restart), _group = "checker" }
    ]]>
    <![CDATA[
      every_ip: if (ip.* == down) then stopstart();
      both_down: if (custom.a == down && custom.b == down) then wait();
      peer_better: if (local.custom.a == down && remote.custom.a == up) then swap();
    ]]></failover>"""
    parsed = config(inner)
    assert printed_rules(parsed.config.rules).splitlines() == [
        *(line for line in SHIPPED if not line.startswith("ip_failure")),
        "only_b: if (custom.b == down) then restart();",
        "every_ip: if (ip.* == down) then stopstart();",
        "both_down: if (custom.a == down && custom.b == down) then wait();",
        "peer_better: if (custom.a == down && remote.custom.a == up) then swap();",
    ]
    again = userconfig.read(parsed.expanded_xml, "safeconf.xml", {})
    assert again.config == parsed.config, "what is written as safeconf.xml reads the same"


def test_extends_no_replaces_the_shipped_ones() -> None:
    inner = (
        '<failover extends="no" period="1s" handle_time="3s"><![CDATA['
        "ip_failure: if (ip.* == down) then stop();]]></failover>"
    )
    parsed = config(inner).config
    assert printed_rules(parsed.rules) == "ip_failure: if (ip.* == down) then stop();"
    assert (parsed.failover_period_s, parsed.handle_time_s) == (1.0, 3.0)


def test_the_shipped_assignment_is_nothing_to_do_for_us() -> None:
    text = (
        "rfs_forceuptodate: if (heartbeat.* == down && cluster() == down && rfs.synced == up"
        " && rfs.uptodate == down) then rfs.uptodate=up;"
    )
    assert grammar.parse(source(text)) == ()


def test_both_nodes_compare_what_is_written_but_not_what_checks_generate() -> None:
    written = "<failover><![CDATA[a: if (tcp.a == down {} tcp.b == down) then stop();]]></failover>"
    digests = {config(written.format(sign)).config.digest for sign in ("&&", "||")}
    assert len(digests) == 2
    check = '<check><custom ident="d" exec="d" when="prim" action="{}"/></check>'
    assert len({config(check.format(a)).config.digest for a in ("stop", "restart")}) == 1


# Mistakes.


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: if (custom.a) then stop();", 1, 8, "is a comparison, as in custom.a == down"),
        ("a: if (up == down) then stop();", 1, 14, "is a resource on one side"),
        ("a: if (!custom.a == down) then stop();", 1, 9, "custom.a != up"),
        ("a: if (custom.a == dwon) then stop();", 1, 20, "init, down, up, unknown"),
        ("a: if (cutsom.a == down) then stop();", 1, 8, "one of tcp, ping, custom"),
        ("a: if (custom.s* == down) then stop();", 1, 16, "allowed are names"),
        ("a: if (custom.a == down == up) then stop();", 1, 25, "needs ( )"),
        ("a: if (custom.a == down)\n then stop()\nb:", 3, 1, 'is ";"'),
        ("a: if (custom.a == down then stop();", 1, 25, 'are ")", && and ||'),
        ("a: if custom.a == down then stop();", 1, 7, 'is "(" after if'),
        ("a: If (custom.a == down) then stop();", 1, 4, "lower case"),
        ("a if (custom.a == down) then stop();", 1, 3, 'is ":"'),
        ("a: if (custom.a == down) then reboot();", 1, 31, "stop(), wait(), stopstart()"),
        ("a: if (custom.a == down) then wakeup();", 1, 31, "a wait ends by itself"),
        ("a: if (custom.a == down) then stop(now);", 1, 36, "no arguments"),
        ("a: if (custom.a == down) then rfs.uptodate=up;", 1, 31, "only the shipped"),
        ("rfs_forceuptodate: if (rfs.a == up) then rfs.uptodate=down;", 1, 55, "rfs.uptodate=up"),
        ("a: if (custom.a == down) then stop(); /* x", 1, 39, "does not end"),
        ("--Lua", 1, 1, "--Lua Rules"),
        ("\n\n  a: if (custom.a = down) then stop();", 3, 19, "are == and !="),
        ("1a: if (custom.a == down) then stop();", 1, 1, "is the label"),
        ("a: if (", 1, 8, "the rules end"),
        ("a: if (" + "(" * 200_000, 1, 40, "nested deeper than 32"),
        ("a: if (" + "!" * 200_000, 1, 40, "nested deeper than 32"),
        ("a" * 65 + ": if (custom.a == down) then stop();", 1, 1, "at most 64"),
    ],
)
def test_a_mistake_has_a_place(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        grammar.parse(source(text, line=1, column=1))
    said = str(error.value)
    assert f"userconfig.xml line {line}: <failover> column {column}:" in said
    assert words in said and "\n" not in said and len(said) < 400


def test_the_place_counts_from_the_beginning_of_the_file() -> None:
    with pytest.raises(ConfigError, match=r"line 2: <failover> column 24: found 'x'"):
        config("\n<failover>  <![CDATA[a x]]></failover>")
    with pytest.raises(ConfigError, match=r"line 3: <failover> column 3: found 'x'"):
        config("\n<failover><![CDATA[\na x]]></failover>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: if (remote.tcp.a == down) then stop();", "another node"),
        ("a: if (cluster() == down) then stop();", "another node"),
        ("a: if (tcp.a == down) then swap();", "two roles"),
    ],
)
def test_a_light_module_has_no_other_node(text: str, words: str) -> None:
    assert grammar.parse(source(text), "mirror")
    with pytest.raises(ConfigError, match=words):
        grammar.parse(source(text), "light")


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ('<failover period="700"/>', "handle_time is missing: allowed are multiples of period"),
        ('<failover period="4s" handle_time="6s"/>', "multiples of period, which is 4000ms"),
        ('<failover extends="maybe"/>', "allowed are yes, no"),
        ("<failover>a: if (tcp.a == up) then stop();</failover>", "CDATA"),
        ("<failover><![CDATA[]]> a</failover>", "CDATA"),
        ("<failover/><failover/>", "a second time"),
        ("<failover>" + "<![CDATA[ ]]>" * 17 + "</failover>", "at most 16"),
        ("<failover><![CDATA[" + " " * 70_000 + "]]></failover>", "65536"),
        (
            "<failover><![CDATA[ip_failure: if (ip.* == down) then stop();]]></failover>",
            "there already (shipped)",
        ),
        (
            "<failover><![CDATA[Implicit_wakeup: if (ip.* == up) then stop();]]></failover>",
            "there already (built in)",
        ),
        ('<failover><![CDATA[--Lua Rules\nRules.disable("x")]]></failover>', "labels of rules"),
        (
            '<failover><![CDATA[--Lua Rules\nRules.disable("degraded_server")]]></failover>',
            "heartbeats and replication need it",
        ),
        (
            '<failover><![CDATA[--Lua Rules\nRules.disable("tcp_failure")]]></failover>',
            "t_IDENT",
        ),
    ],
)
def test_what_is_refused_around_the_rules(inner: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(inner)
    assert words in str(error.value)


# Lua.


def test_lua_as_the_reference_lists_it() -> None:
    text = """
--Lua Rules
-- a comment
Rules = Rules + {
  one = if_then("custom.a", "down", Action.stopstart),
  two = if_then('ip.?', 'down', Action.wait);
  _group = "checker",
}
Rules = Rules + { three = if_then("module.mydb_192.0.2.9", "up", Action.stop) }
Rules.disable("ip_failure"); Rules.disable('x')
"""
    assert lua.is_lua(text)
    found = lua.parse(source(text))
    assert printed_rules(RuleSet(found.rules)).splitlines() == [
        "one: if (custom.a == down) then stopstart();",
        "two: if (ip.? == down) then wait();",
        "three: if (module.mydb_192.0.2.9 == up) then stop();",
    ]
    assert [label for label, _ in found.disabled] == ["ip_failure", "x"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("function f() end", "function"),
        ("local x = 1", "local"),
        ('os.execute("x")', "os"),
        ("for i in x do end", "for"),
        ('Rules.enable("x")', "enable"),
        ('Rules["x"] = 1', r"\["),
        ("Rules = {}", "{"),
        ("Rules = Rules + { a = 1 }", "1"),
        ('Rules = Rules + { a = if_not("custom.a", "down", Action.stop) }', "if_not"),
        ('Rules = Rules + { a = if_then("remote.custom.a", "down", Action.stop) }', "remote"),
        ('Rules = Rules + { a = if_then("custom.a", "broken", Action.stop) }', "broken"),
        ('Rules = Rules + { a = if_then("custom.a", "down", Action.reboot) }', "reboot"),
        ('Rules = Rules + { a = if_then("custom.a", "down", stop) }', "stop"),
        ('Rules = Rules + { _group = "heart" }', "heart"),
        ('Rules = Rules + { a = if_then("custom.a" .. "b", "down", Action.stop) }', r"\."),
        ("--[[ x ]] Rules", "-"),
        ('Rules.disable("a" "b")', "b"),
        ('Rules.disable("a\\"")', '"'),
        ("Rules.disable(", "the rules end"),
    ],
)
def test_everything_else_in_lua_is_refused_by_name(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"line 2: <failover> column \d+: .*{found}"):
        lua.parse(source(f"--Lua Rules\n{text}"))


# Round trip, and anything at all.

_operands = st.builds(
    Operand,
    st.sampled_from(("tcp", "custom", "ip", "module", "heartbeat")),
    st.sampled_from(("*", "?", "a", "10.0.0.1", "mydb_192.0.2.9", "fe80::1", "a-b")),
    st.sampled_from(("local", "remote")),
)
_states = st.builds(Constant, st.sampled_from(("init", "down", "up", "unknown")))
_terms = st.one_of(_operands, st.just(ClusterCall()))
_compares = st.one_of(
    st.builds(Compare, _terms, st.one_of(_terms, _states), st.booleans()),
    st.builds(Compare, _states, _terms, st.booleans()),
)
_conditions: st.SearchStrategy[Condition] = st.recursive(
    _compares,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda parts: And(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: Or(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(Same, inner, inner, st.booleans()),
    ),
    max_leaves=8,
)
_rules = st.builds(
    Rule,
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True).filter(
        lambda label: label != grammar.FORCE_UPTODATE
    ),
    _conditions,
    st.sampled_from(Action),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_rules, max_size=4))
def test_what_is_printed_reads_the_same(found: list[Rule]) -> None:
    text = printed_rules(RuleSet(tuple(found)))
    spaced = re.sub(r"([();])", r" /* * / */ \1 ", text)
    assert grammar.parse(source(text)) == tuple(found)
    assert grammar.parse(source(spaced)) == tuple(found)


_PIECES = st.sampled_from(
    (
        *("a:", "if", "(", ")", "then", "stop();", "wait", ";", "==", "!=", "&&", "||", "!", "="),
        *("custom.a", "ip.?", "remote.", "up", "down", "cluster()", "/*", "*/", "--Lua Rules\n"),
        *("Rules", "+", "{", "}", "if_then", '"', "Action.stop", ",", "\n", "\0", "é", "]]"),
    )
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(_PIECES, max_size=60).map(" ".join)))
def test_garbage_gives_one_error(text: str) -> None:
    for parse in (grammar.parse, lua.parse):
        try:
            parse(source(text))
        except ConfigError as error:
            assert re.match(r"userconfig.xml line \d+: <failover> column \d+: ", str(error))
            assert "\n" not in str(error) and len(str(error)) < 600


@pytest.mark.parametrize("piece", ["/* ", "a: ", "/**/", "a.", "*", "(", "tcp.a == up && ", "--\n"])
def test_much_of_anything_is_read_in_bounded_time(piece: str) -> None:
    text = piece * (64 * 1024 // len(piece))
    began = time.monotonic()
    for prefix in ("", "a: if ("):
        for parse in (grammar.parse, lua.parse):
            try:
                parse(source(prefix + text))
            except ConfigError as error:
                assert len(str(error)) < 600
    assert time.monotonic() - began < LIMIT_S
