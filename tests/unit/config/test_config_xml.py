"""What every XML file of ours is protected from (protocol S16)."""

import pytest

from safepy.config import xml
from safepy.errors import ConfigError


def refusal(data: bytes | str) -> str:
    with pytest.raises(ConfigError) as caught:
        xml.parse(data if isinstance(data, bytes) else data.encode(), "f.xml", "safe")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_bare_doctype_comments_and_declaration_are_accepted() -> None:
    data = (
        b'<?xml version="1.0"?>\n<!-- a -->\n<!DOCTYPE safe>\n<safe a="1">\n\n<b\n c="2"/></safe>'
    )
    root = xml.parse(data, "f.xml", "safe")
    assert (root.tag, root.line, root.attributes) == ("safe", 4, {"a": "1"})
    # The line is the one where the tag begins, not where it ends.
    assert [(e.tag, e.line) for e in root.walk()] == [("safe", 4), ("b", 6)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><safe a="é"/>'.encode(encoding)
    assert xml.parse(data, "f.xml", "safe").attributes == {"a": "é"}


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE safe SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE safe PUBLIC "a" "http://127.0.0.1/x.dtd">',
        '<!DOCTYPE safe [<!ENTITY x "y">]>',
        '<!DOCTYPE safe [<!ENTITY % p SYSTEM "http://127.0.0.1/">%p;]>',
        "<!DOCTYPE safe []>",
        "<!DOCTYPE other>",
    ],
)
def test_any_other_doctype_is_refused(doctype: str) -> None:
    found = refusal(f"\n{doctype}<safe/>")
    assert found.startswith("f.xml line 2: <!DOCTYPE ")
    assert "allowed is only a bare <!DOCTYPE safe>" in found


def test_entities_namespaces_and_inclusion_are_refused() -> None:
    assert "undefined entity" in refusal("<safe>&x;</safe>")
    assert "undefined entity" in refusal("<!DOCTYPE safe><safe a='&x;'/>")
    xinclude = (
        '<safe xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd"/></safe>'
    )
    assert "namespaces" in refusal(xinclude)


def test_limits() -> None:
    assert "allowed are at most 1048576" in refusal(b"<safe>" + b" " * xml.MAX_BYTES + b"</safe>")
    assert "nested deeper than 16" in refusal("<safe>" + "<a>" * 16 + "</a>" * 16 + "</safe>")
    assert "more than 10000 elements" in refusal("<safe>" + "<a/>" * 10_000 + "</safe>")
    assert refusal("<safe>" + "<a>" * 100_000).count("nested") == 1


def test_broken_xml_names_the_line_and_what_is_open() -> None:
    assert refusal("<safe>\n<a>\n</safe>") == (
        "f.xml line 3: not well-formed XML: mismatched tag, <a> of line 2 is still open"
    )
    assert refusal("") == (
        "f.xml line 1: not well-formed XML: no element found, the outermost element has to be "
        "<safe>"
    )
    assert refusal('<safe>\n<b a="1"\na="2"/></safe>') == (
        "f.xml line 3: not well-formed XML: duplicate attribute in <b> attribute a, <safe> of "
        "line 1 is still open"
    )
    assert refusal("<other/>") == ("f.xml line 1: <other>: the outermost element has to be <safe>")
    assert "encoding" in refusal(b'<?xml version="1.0" encoding="nonsense"?><safe/>')


@pytest.mark.parametrize("quote", list(xml.TYPOGRAPHIC_QUOTES))
def test_typographic_quotes_are_named(quote: str) -> None:
    assert f"found the typographic quote {quote}" in refusal(
        f"<safe>\n<b c={quote}d{quote}/></safe>"
    )


def test_typographic_quotes_in_windows_encoding_are_named() -> None:
    assert "typographic quote ”" in refusal("<safe><b c=”d”/></safe>".encode("cp1252"))


def test_shown_is_one_bounded_line() -> None:
    assert xml.shown("a\nb\x1b[0m") == "a\\u000ab\\u001b[0m"
    assert len(xml.shown("x" * 5000)) < 100
