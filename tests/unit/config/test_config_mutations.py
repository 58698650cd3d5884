"""Some hundred broken configurations: each gives one line with file, line and name, in bounded
time. They are made by a table of mutations over two full and valid configurations."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from full_configurations import LIGHT, MIRROR
from mutation_tables import BAD, NEEDED, ONCE, OPTIONAL_TO, REQUIRED, WRONG_PLACES

from safepy.config import userconfig
from safepy.errors import ConfigError

FILE = "userconfig.xml"
LINES = MIRROR.splitlines()
TAG = re.compile(r"<(\w+)((?: +\w+=\"[^\"]*\")*) *(/?)>\Z")
ATTRIBUTE = re.compile(r"(\w+)=\"([^\"]*)\"")
#: No measure of speed: what takes so long does not end.
HANGS_S = 5.0


@dataclass(frozen=True)
class Mutant:
    """`line`: where the mistake is, 0: any line; `names`: what the message must name."""

    kind: str
    what: str
    data: bytes
    names: tuple[str, ...]
    line: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def mutant(kind: str, what: str, lines: list[str], *names: str, line: int = 0) -> Mutant:
    return Mutant(kind, what, "\n".join(lines).encode(), names, line)


def tags() -> Iterator[tuple[int, str, dict[str, str]]]:
    """Of each line with a tag that opens: its index, the tag, its attributes."""
    for at, text in enumerate(LINES):
        found = TAG.match(text)
        if found is not None:
            yield at, found[1], dict(ATTRIBUTE.findall(found[2]))


def line_of(beginning: str) -> int:
    """The index of the only line that begins so."""
    (found,) = (at for at, text in enumerate(LINES) if text.startswith(beginning))
    return found


def end_of(at: int) -> int:
    """The index behind the element that begins in line `at`."""
    found = TAG.match(LINES[at])
    assert found is not None
    if found[3]:
        return at + 1
    return LINES.index(f"</{found[1]}>", at) + 1


def with_line(at: int, *texts: str) -> list[str]:
    return [*LINES[:at], *texts, *LINES[at + 1 :]]


def valued(at: int, attribute: str, value: str) -> list[str]:
    text, count = re.subn(rf'( {attribute}=)"[^"]*"', lambda m: f'{m[1]}"{value}"', LINES[at])
    assert count == 1
    return with_line(at, text)


# -- the mutations ---------------------------------------------------------------------------------


def missing() -> Iterator[Mutant]:
    for at, tag, attributes in tags():
        outer = TAG.match(LINES[at - 1])
        for name in REQUIRED.get(tag, ()):
            if name in attributes and not (outer and (outer[1], name) in OPTIONAL_TO):
                text = LINES[at].replace(f' {name}="{attributes[name]}"', "", 1)
                lines = with_line(at, text)
                yield mutant("missing", f"{tag} {name}", lines, f"<{tag}>", name, line=at + 1)
    for beginning, named in NEEDED.items():
        at = line_of(beginning)
        yield mutant("missing", beginning, LINES[:at] + LINES[end_of(at) :], named)
    without = [text for text in LINES if not text.startswith("<heartbeat")]
    yield mutant("missing", "heartbeats", without, "<heartbeat> is missing")
    at = line_of("</errd")
    yield mutant("missing", "</errd>", with_line(at), "<errd>")
    yield mutant("missing", "the end", LINES[:at], f"<errd> of line {line_of('<errd') + 1}")
    yield mutant("missing", "everything", [], "<safe>", line=1)


def doubled() -> Iterator[Mutant]:
    for beginning, named in ONCE.items():
        at = line_of(beginning)
        end = end_of(at)
        lines = LINES[:end] + LINES[at:]
        yield mutant("doubled", beginning, lines, named)
    for at, tag, attributes in tags():
        for name, value in list(attributes.items())[:1]:
            text = LINES[at].replace(f"<{tag}", f'<{tag} {name}="{value}"', 1)
            lines = with_line(at, text)
            yield mutant("doubled", f"{tag} {name}", lines, f"<{tag}>", name, line=at + 1)


def misspelt() -> Iterator[Mutant]:
    seen: set[tuple[str, str]] = set()
    for at, tag, attributes in tags():
        if (tag, "") not in seen:
            seen.add((tag, ""))
            wrong = tag[0] + tag[2:] if tag != "to" else "too"
            body = [re.sub(rf"(</?){tag}\b", rf"\1{wrong}", text) for text in LINES]
            yield mutant("misspelt", tag, body, f"<{wrong}>", line=at + 1)
        for name in attributes:
            if (tag, name) in seen:
                continue
            seen.add((tag, name))
            for wrong in (name.upper(), name[:-1] + name[-2:] + "s"):
                text = re.sub(rf" {name}=", f" {wrong}=", LINES[at], count=1)
                found = (f"<{tag}>", f"attribute {wrong}=", "unknown attribute")
                lines = with_line(at, text)
                yield mutant("misspelt", f"{tag} {wrong}", lines, *found, line=at + 1)


def wrong_values() -> Iterator[Mutant]:
    used: set[tuple[str, str]] = set()
    for at, tag, attributes in tags():
        for name in attributes:
            key = (tag, name) if (tag, name) in BAD else ("", name)
            used.add(key)
            for value in BAD[key]:
                lines = valued(at, name, value)
                what = f"line {at + 1} {tag} {name}={value[:30]!r}"
                yield mutant("wrong value", what, lines, f"<{tag}>", name, line=at + 1)
    assert used == set(BAD), "a row that no attribute uses"


def wrong_places() -> Iterator[Mutant]:
    for tag, parents in WRONG_PLACES.items():
        whole = next(text for text in LINES if re.match(rf"<{tag}\b", text))
        element = whole if whole.endswith("/>") else f"{whole[:-1]}/>"
        for parent in parents:
            at = next(n for n, other, _ in tags() if other == parent)
            text = LINES[at]
            closed = text.endswith("/>")
            opened = [f"{text[:-2]}>", element, f"</{parent}>"] if closed else [text, element]
            lines = with_line(at, *opened)
            yield mutant("wrong place", f"{tag} in {parent}", lines, f"<{tag}>", line=at + 2)
    for at, tag, _ in tags():
        text = LINES[at].replace(f"<{tag}", f'<{tag} polltimer2="5"', 1)
        lines = with_line(at, text)
        yield mutant("wrong place", f"attribute in {tag}", lines, f"<{tag}> attribute polltimer2")
        if not LINES[at].endswith("/>"):
            lines = with_line(at, LINES[at], "stray words")
            yield mutant("wrong place", f"text in {tag}", lines, f"<{tag}>", line=at + 1)
    at = line_of("</service")
    lines = with_line(at, LINES[at], '<macro name="LATE" value="x"/>')
    yield mutant("wrong place", "macro behind service", lines, "<macro>", line=at + 2)
    at = line_of("</safe")
    yield mutant("wrong place", "a second root", with_line(at, "</safe>", "<safe/>"), "<safe>")


def of_a_light_module() -> Iterator[Mutant]:
    mirror_only = {
        "<heart": '<heart><heartbeat name="default"/></heart>',
        "<rfs": '<rfs><replicated dir="/a"/></rfs>',
        "<vip": "<vip><interface_list/></vip>",
    }
    for named, text in mirror_only.items():
        lines = LIGHT.replace("<user/>", f"<user/>\n{text}").splitlines()
        yield mutant("light", named, lines, f"{named}> in <service", line=5)
    changes = {
        'mode="light"': 'mode="light" failover="on"',
        'boot="on"': 'boot="on" defaultprim="alone"',
        'when="both" action="restart"': 'when="prim" action="restart"',
        'when="pre" exec': 'when="second" exec',
        'class="both"': 'class="prim"',
        'service="yes" action="restart" class="both"': 'class="second" action="stop"',
        'envfile="vhostenv" when="both"': 'envfile="vhostenv" when="prim"',
        'name="appsrv" envfile="vhostenv" when="both"': 'name="appsrv" envfile="vhostenv"',
        '<module name="leader"/>': '<splitbrain ident="w" arg="192.0.2.1"/>',
        "custom.licence == down": "remote.custom.licence == down",
        "then stop()": "then swap()",
    }
    names = (
        *("attribute failover", "attribute defaultprim", "<tcp> attribute when"),
        *("<custom> attribute when", "<proc> attribute class", "<proc> attribute class"),
        *("<virtualhostname> attribute when", "<virtualhostname> attribute when"),
        *("<splitbrain>", "<failover> column", "<failover> column"),
    )
    for (old, new), named in zip(changes.items(), names, strict=True):
        assert LIGHT.count(old) == 1
        yield mutant("light", new, LIGHT.replace(old, new).splitlines(), named)


def many(beginning: str, count: int, *made: str) -> list[str]:
    """`count` elements behind the line that begins so; `%d` is their number."""
    at = line_of(beginning)
    return with_line(
        at, LINES[at], *(text.replace("%d", str(n)) for n in range(count) for text in made)
    )


def huge() -> Iterator[Mutant]:
    padded = with_line(3, LINES[3], *("<!-- nothing to be said -->",) * 50_000)
    yield mutant("huge", "file", padded, "1048576")
    yield mutant("huge", "one line", ["<safe>" + " " * (1 << 20)], "1048576")
    yield mutant("huge", "name of an element", with_line(8, f"<{'x' * 500_000}/>"), "<xxxxx")
    wide = " ".join(f'a{n}="1"' for n in range(30_000))
    yield mutant("huge", "attributes", with_line(8, f"<heartbeat {wide}/>"), "attribute a0", line=9)
    yield mutant("huge", "elements", many("<heart ", 20_000, "<x/>"), "10000 elements")
    for what, tag, beginning, made in (
        ("heartbeats", "heartbeat", "<heart ", '<heartbeat name="l%d"/>'),
        ("directories", "replicated", "<flow", '<replicated dir="/d%d"/>'),
        (
            "addresses",
            "vip",
            "<real_interface",
            '<virtual_addr addr="2001:db8::%d" where="one_side"/>',
        ),
        ("hosts", "virtualhostname", "<vhost", '<virtualhostname name="h" envfile="e%d"/>'),
        ("processes", "proc", "<errd", '<proc name="p%d" class="prim"/>'),
        ("checkers", "custom", "<check>", '<custom ident="c%d" when="pre" exec="c.sh"/>'),
    ):
        yield mutant("huge", what, many(beginning, 9_000, made), f"<{tag}")
    value = "x" * 4_000
    variables = many("<user", 240, f'<var name="V%d" value="{value}"/>')
    yield mutant("huge", "variables", variables, "<var> attribute value")
    sections = many("<failover", 9_000, "<![CDATA[", "/* %d */", "]]>")
    yield mutant("huge", "sections", sections, "<failover>")
    rules = many("own: ", 3_000, "r%d: if (tcp.sql == down) then stop();")
    yield mutant("huge", "rules", rules, "<failover>")
    bomb = [f'<macro name="B{n + 1}" value="%B{n}%%B{n}%"/>' for n in range(40)]
    lines = with_line(3, LINES[3], '<macro name="B0" value="xxxxxxxxxx"/>', *bomb)
    yield mutant("huge", "macros in macros", lines, "<macro> attribute value")


def nested() -> Iterator[Mutant]:
    for tag in ("check", "heart", "x", "service"):
        at = line_of("<check>")
        body = [f"<{tag}>"] * 1_000 + [f"</{tag}>"] * 1_000
        yield mutant("nested", tag, with_line(at, LINES[at], *body), f"<{tag}>: nested deeper")
        lines = with_line(at, *(f"<{tag}>",) * 100_000)
        yield mutant("nested", f"{tag} left open", lines, f"<{tag}>: nested deeper")
    at = line_of("own: ")
    for what, opening, closing in (("parentheses", "(", ")"), ("negations", "!(", ")")):
        condition = f"{opening * 1_000}tcp.sql == down{closing * 1_000}"
        lines = with_line(at, f"own: if ({condition}) then stop();")
        yield mutant("nested", what, lines, "<failover> column", line=at + 1)
    deep = "(" * 1_000 + "a" + ")" * 1_000
    at = line_of("<notreplicated regexpath")
    lines = valued(at, "regexpath", deep)
    yield mutant("nested", "regexpath", lines, "<notreplicated> attribute regexpath", line=at + 1)
    at = line_of('<proc name="ora"')
    lines = valued(at, "nameregex", deep)
    yield mutant("nested", "nameregex", lines, "<proc> attribute nameregex", line=at + 1)


def broken_rules() -> Iterator[Mutant]:
    at = line_of("own: ")
    for text in (
        "own if (tcp.sql == down) then stop();",
        "own: if tcp.sql == down then stop();",
        "own: if (tcp.sql = down) then stop();",
        "own: if (tcp.sql == dwn) then stop();",
        "own: if (tpc.sql == down) then stop();",
        "own: if (tcp.sql == down) then halt();",
        "own: if (tcp.sql == down) then stop()",
        "own: if (tcp.sql == down) stop();",
        "own: if (tcp.sql == down &&) then stop();",
        "own: if ((tcp.sql == down) then stop();",
        "/* no end",
        "t_sql: if (tcp.sql == down) then stop();",
        "Implicit_wakeup: if (tcp.sql == down) then stop();",
        "own: if (tcp.sql == down) then stop(); own: if (tcp.sql == up) then stop();",
        '--Lua Rules\nos.execute("true")',
        '--Lua Rules\nRules.disable("nobody")',
        '--Lua Rules\nRules = Rules + { a = if_then("tcp.sql", "dwn", Action.stop) }',
    ):
        yield mutant("rule", text[:60], with_line(at, *text.split("\n")), "<failover> column")


def encodings() -> Iterator[Mutant]:
    whole = MIRROR.encode()
    bare = MIRROR.split("\n", 1)[1]
    at = line_of("<user")

    def inside(piece: bytes) -> bytes:
        return whole.replace(b'"userlog"', b'"user' + piece + b'log"')

    for what, piece in {
        "latin-1": b"\xe9",
        "a byte that is none": b"\xff",
        "half a character": b"\xc3",
        "overlong": b"\xc0\xaf",
        "a surrogate": b"\xed\xa0\x80",
        "beyond Unicode": b"\xf4\x90\x80\x80",
        "NUL": b"\x00",
        "a control character": b"\x01",
        "a noncharacter": b"\xef\xbf\xbe",
        "NUL as a reference": b"&#0;",
        "a surrogate as a reference": b"&#xD800;",
        "an entity": b"&nbsp;",
        "an ampersand": b"&",
        "an angle": b"<",
        "a quote": b'"',
    }.items():
        yield Mutant("encoding", what, inside(piece), ("<user>",), at + 1)
    for what, data in {
        "utf-16 said of utf-8": whole.replace(b"utf-8", b"utf-16"),
        "no such encoding": whole.replace(b"utf-8", b"utf-88"),
        "utf-7": whole.replace(b"utf-8", b"utf-7"),
        "a codec of no characters": whole.replace(b"utf-8", b"base64"),
        "ebcdic": whole.replace(b"utf-8", b"cp500"),
    }.items():
        yield Mutant("encoding", what, data, ("encoding",))
    for what, data in {
        "utf-32": bare.encode("utf-32"),
        "utf-16 without a mark": bare.encode("utf-16-le"),
        "half of utf-16": bare.encode("utf-16")[:-3],
        "ebcdic without a word": bare.encode("cp500"),
        "two marks": b"\xef\xbb\xbf\xef\xbb\xbf" + bare.encode(),
        "a compressed file": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "zeros": bytes(4096),
    }.items():
        yield Mutant("encoding", what, data, ())
    quotes = MIRROR.replace('logging="userlog"', "logging=”userlog”").encode()
    without = whole.replace(b"utf-8", b"")
    yield Mutant("encoding", "an empty word", without, ("XML declaration",), 1)
    yield Mutant(
        "encoding", "typographic quotes", quotes, ("<user> attribute logging", "”"), at + 1
    )
    unquoted = MIRROR.replace('logging="userlog"', "logging=userlog").encode()
    yield Mutant("encoding", "no quotes", unquoted, ("<user>",), at + 1)


KINDS = (
    *(missing, doubled, misspelt, wrong_values, wrong_places, of_a_light_module),
    *(huge, nested, broken_rules, encodings),
)


def complaint(broken: Mutant) -> str:
    """Empty if the mutant is refused as it should be."""
    began = time.monotonic()
    try:
        userconfig.read(broken.data, FILE, {})
    except ConfigError as error:
        said = str(error)
    else:
        return f"{broken}: accepted"
    if time.monotonic() - began > HANGS_S:
        return f"{broken}: took longer than {HANGS_S} s"
    found = re.match(rf"{FILE} line ([0-9]+): ", said)
    if found is None or not said.isprintable() or "Traceback" in said or len(said) > 1_000:
        return f"{broken}: {said[:200]!r}"
    line = int(found[1])
    if not 1 <= line <= broken.data.count(b"\n") + 1 or broken.line not in (0, line):
        return f"{broken}: expected in line {broken.line}: {said[:200]}"
    silent = [name for name in broken.names if name not in said and f"{name[:-1]} " not in said]
    return f"{broken}: {silent} not named: {said[:200]}" if silent else ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_mutant_gives_one_line_with_place_and_name(kind: object) -> None:
    assert callable(kind)
    wrong = [text for broken in kind() if (text := complaint(broken))]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


def test_the_configurations_that_are_broken_are_valid() -> None:
    for text in (MIRROR, LIGHT):
        userconfig.read(text.encode(), FILE, {})
    used = {tag for text in (MIRROR, LIGHT) for tag in re.findall(r"<(\w+)", text)}
    assert used == set(userconfig.VOCABULARY), "an element that is never broken"


def test_there_are_more_than_two_hundred_different_ones() -> None:
    mutants = [broken for kind in KINDS for broken in kind()]
    assert len({broken.data for broken in mutants}) > 200
    whole = MIRROR.encode().rstrip()
    assert not [str(broken) for broken in mutants if broken.data.rstrip() == whole]


def test_what_is_poorly_refused_is_found() -> None:
    assert "accepted" in complaint(Mutant("x", "y", MIRROR.encode(), ()))
    assert "not named" in complaint(Mutant("x", "y", b"<safe/>", ("<nobody>",)))
    assert "expected in line" in complaint(Mutant("x", "y", b"<safe/>", (), 7))
