"""Reading XML that administrators write: strict, bounded, and precise about the line.

Two passes (reference: dependencies 2.2, protocol S16). expat goes first: it alone can say what a
DOCTYPE contained, knows the line where a tag begins, and stops before anything is built when a
limit is passed. lxml then builds the tree, which is written back as safeconf.xml.
"""

from __future__ import annotations

import re
import xml.parsers.expat as expat
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

from safepy.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_ELEMENTS = 10_000
MAX_NAME_CHARACTERS = 256
MAX_SHOWN_CHARACTERS = 80
#: How far around a syntax error its cause is looked for.
_NEAR_BYTES = 1000
_ATTRIBUTE_CHARACTERS = 120
#: How far back the tag is looked for in which a syntax error lies.
_TAG_BYTES = 1 << 16
_NAME = re.compile(rb"[\w.-]+")

TYPOGRAPHIC_QUOTES = "“”„‟‘’‚‛«»"
QUOTES_HINT = "a web page or a word processor put them there; type them again"


def shown(text: str) -> str:
    """`text` fit for a message: on one line, without control characters, of bounded length."""
    clean = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    if len(clean) <= MAX_SHOWN_CHARACTERS:
        return clean
    return clean[:MAX_SHOWN_CHARACTERS] + "..."


def error(file: str, line: int, text: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{file} line {line}: {text}", hint)


@dataclass(frozen=True, slots=True)
class Section:
    """One CDATA section; its first character stands in this line and column (both from 1)."""

    line: int
    column: int
    text: str


@dataclass(slots=True)
class Element:
    """One element. `line` is where its tag begins; `text` is all text directly inside it, and
    `sections` the part of it that stands in CDATA sections."""

    tag: str
    line: int
    attributes: dict[str, str]
    text: str
    node: etree._Element
    sections: tuple[Section, ...] = ()
    children: list[Element] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all beneath, in the order of the file."""
        yield self
        for child in self.children:
            yield from child.walk()

    def named(self, tag: str) -> list[Element]:
        return [child for child in self.children if child.tag == tag]

    def replace(self, attribute: str, value: str) -> None:
        """Give an attribute another value, also in the XML that `serialise` writes."""
        self.attributes[attribute] = value
        self.node.set(attribute, value)


def parse(data: bytes, file: str, root: str) -> Element:
    """The tree of `data`, whose outermost element has to be `root`.

    Raises ConfigError for anything that is not well-formed, too big, too deep, or makes use of a
    DTD or of namespaces. `<!DOCTYPE root>` is accepted only bare.
    """
    if len(data) > MAX_BYTES:
        line = data.count(b"\n", 0, MAX_BYTES) + 1
        raise error(file, line, f"{len(data)} bytes, allowed are at most {MAX_BYTES}, up to here")
    first = _FirstPass(data, file, root)
    lines = first.run()
    parser = etree.XMLParser(
        # CDATA sections stay what they are in what `serialise` writes.
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        strip_cdata=False,
    )
    try:
        top = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        reason = shown(exc.msg or "syntax error")
        raise error(file, exc.lineno or 1, f"not well-formed XML: {reason}") from exc
    nodes = [node for node in top.iter() if isinstance(node.tag, str)]
    if len(nodes) != len(lines):
        raise ConfigError(f"{file}: cannot be read without doubt, two parsers disagree")
    return _build(nodes, lines, first.sections)


def serialise(root: Element) -> bytes:
    """The whole document with its comments, in UTF-8."""
    tree = root.node.getroottree()
    return etree.tostring(tree, encoding="utf-8", xml_declaration=True) + b"\n"


def _build(
    nodes: list[etree._Element], lines: list[int], sections: dict[int, list[Section]]
) -> Element:
    elements: dict[etree._Element, Element] = {}
    for number, (node, line) in enumerate(zip(nodes, lines, strict=True)):
        pieces = [node.text, *(child.tail for child in node)]
        attributes = {str(name): str(value) for name, value in node.attrib.items()}
        text = "".join(piece for piece in pieces if piece)
        element = Element(
            str(node.tag), line, attributes, text, node, tuple(sections.get(number, ()))
        )
        elements[node] = element
        parent = node.getparent()
        if parent is not None:
            elements[parent].children.append(element)
    return elements[nodes[0]]


class _FirstPass:
    """Checks without building anything; collects the line of each element."""

    def __init__(self, data: bytes, file: str, root: str) -> None:
        self._data = data
        self._file = file
        self._root = root
        self._lines: list[int] = []
        self._open: list[tuple[str, int]] = []
        #: The numbers of the elements that are open; CDATA sections by the number of theirs.
        self._numbers: list[int] = []
        self.sections: dict[int, list[Section]] = {}
        self._section: tuple[int, int, list[str]] | None = None
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.SkippedEntityHandler = self._entity
        self._parser.StartCdataSectionHandler = self._section_begins
        self._parser.EndCdataSectionHandler = self._section_ends
        self._parser.CharacterDataHandler = self._characters
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def run(self) -> list[int]:
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError as exc:
            raise self._syntax_error(exc) from exc
        except (LookupError, ValueError) as exc:
            # The declaration names an encoding that Python does not know or cannot use here.
            raise error(self._file, 1, "the encoding cannot be read", "use UTF-8") from exc
        return self._lines

    def _error(self, text: str, hint: str = "") -> ConfigError:
        return error(self._file, self._parser.CurrentLineNumber, text, hint)

    def _doctype(
        self, name: str, system_id: str | None, public_id: str | None, internal_subset: bool
    ) -> None:
        if name != self._root or system_id or public_id or internal_subset:
            raise self._error(
                f"<!DOCTYPE {shown(name)} ...>: allowed is only a bare <!DOCTYPE {self._root}>",
                "document type definitions and entities are never loaded",
            )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != self._root:
            raise self._error(f"<{shown(tag)}>: the outermost element has to be <{self._root}>")
        for name in (tag, *attributes):
            if len(name) > MAX_NAME_CHARACTERS:
                text = f"<{shown(tag)}>: found a name of {len(name)} characters, allowed are at "
                raise self._error(f"{text}most {MAX_NAME_CHARACTERS}")
            if ":" in name or name == "xmlns":
                raise self._error(f"<{shown(tag)}>: namespaces ({shown(name)}) are not used here")
        self._open.append((tag, self._parser.CurrentLineNumber))
        self._numbers.append(len(self._lines))
        self._lines.append(self._parser.CurrentLineNumber)
        if len(self._open) > MAX_DEPTH:
            raise self._error(f"<{shown(tag)}>: nested deeper than {MAX_DEPTH} elements")
        if len(self._lines) > MAX_ELEMENTS:
            raise self._error(f"<{shown(tag)}>: more than {MAX_ELEMENTS} elements")

    def _end(self, _tag: str) -> None:
        self._open.pop()
        self._numbers.pop()

    def _section_begins(self) -> None:
        column = self._parser.CurrentColumnNumber + 1 + len("<![CDATA[")
        self._section = (self._parser.CurrentLineNumber, column, [])

    def _characters(self, text: str) -> None:
        if self._section is not None:
            self._section[2].append(text)

    def _section_ends(self) -> None:
        assert self._section is not None
        line, column, pieces = self._section
        self._section = None
        section = Section(line, column, "".join(pieces))
        self.sections.setdefault(self._numbers[-1], []).append(section)

    def _entity(self, name: str, _is_parameter: bool) -> None:
        raise self._error(f"&{shown(name)};: entities are not used here")

    def _syntax_error(self, exc: expat.ExpatError) -> ConfigError:
        reason = expat.ErrorString(exc.code)
        quote = self._typographic_quote()
        if quote is not None:
            element, attribute, sign = quote
            return error(
                self._file,
                exc.lineno,
                f"<{element}> attribute {attribute}: found the typographic quote {sign}, "
                'allowed are straight quotes (")',
                QUOTES_HINT,
            )
        text = f"not well-formed XML: {reason}{self._place(reason)}"
        if self._open:
            tag, line = self._open[-1]
            text += f", <{shown(tag)}> of line {line} is still open"
        elif reason == expat.errors.XML_ERROR_NO_ELEMENTS:
            text += f", the outermost element has to be <{self._root}>"
        return error(self._file, exc.lineno, text)

    def _place(self, reason: str) -> str:
        """The tag that broke the parser, not open yet, and the attribute that is double."""
        at = max(self._parser.CurrentByteIndex, 0)
        start = self._data.rfind(b"<", max(0, at - _TAG_BYTES), at)
        if start < 0 or b">" in self._data[start:at]:
            start = at  # between two tags, or at the beginning of this one
        if self._data[start : start + 1] != b"<":
            return ""
        tag = _NAME.match(self._data, start + 1)
        if tag is None:
            return ""
        place = f" in <{shown(_text(tag[0]))}>"
        attribute = _NAME.match(self._data, at)
        if reason == expat.errors.XML_ERROR_DUPLICATE_ATTRIBUTE and attribute:
            place += f" attribute {shown(_text(attribute[0]))}"
        return place

    def _typographic_quote(self) -> tuple[str, str, str] | None:
        """Element, attribute and sign, when the tag that broke the parser has such a quote."""
        at = max(self._parser.CurrentByteIndex, 0)
        start = max(self._data.rfind(b"<", 0, at + 1), 0)
        end = self._data.find(b">", at, at + _NEAR_BYTES)
        if end < 0:
            end = at + _NEAR_BYTES
        found = re.match(r"<\s*([\w.-]+)", _text(self._data[start : start + _NEAR_BYTES]))
        near = _text(self._data[max(start, at - _NEAR_BYTES) : end])
        if found is None:
            return None
        for quote in re.finditer(f"[{TYPOGRAPHIC_QUOTES}]", near):
            # Only what stands right before it: a search from every place would take the square
            # of the length.
            before = near[max(0, quote.start() - _ATTRIBUTE_CHARACTERS) : quote.start()]
            named = re.search(r"([\w.-]+)[ \t\r\n]{0,9}=[ \t\r\n]{0,9}[\"']?\Z", before)
            if named is not None:
                return shown(found[1]), shown(named[1]), quote[0]
        return None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
