"""What must not leave the node with support files: keys and passwords are taken out of texts.

The cluster key and the values that a configuration names as secret are looked for as they are, and
everything in the known forms (`password=...`, `--token ...`, `user:password@host`, private keys in
PEM). A secret that looks like any other word cannot be found: who gives files away reads them
before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch

MASK = "*****"
#: Files that are left out whole, by their name in small letters.
_SECRET_FILES = (
    *("*.key", "*.pem", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.keytab", "*.gpg"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pgpass", ".netrc", ".my.cnf"),
    *("*htpasswd*", "*shadow*", "*secret*", "*passw*", "*credential*", "*.crt.p8", "*.der"),
)
#: Shorter ones would be found in every second word.
_SECRET_CHARACTERS_MIN = 4

_WORD = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|requirepass|masterauth"
    r"|(?:api|access|auth|private|priv|encryption|shared|secret|ssh)[_-]?key)"
)
#: From that word on; what stands before it does not matter. Takes what it can and gives nothing
#: back, so that a hostile line costs no more than its length.
_NAME = rf"{_WORD}[\w.-]{{0,80}}+"
_VALUE = r"(?:\"(?:[^\"\\\n]|\\.)*+\"?|'[^'\n]*+'?|[^\s,;\"'<>]+)"
_NAMED = rf"\bname\s*=\s*[\"'][\w.-]{{0,40}}?{_NAME}[\"']"
_QUOTED = r"(?:\"[^\"]*\"|'[^']*')"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # <var name="DB_PASSWORD" value="..."/>, in either order
        rf"(?P<before>{_NAMED}[^<>]{{0,200}}?\bvalue\s*=\s*)(?P<it>{_QUOTED})",
        rf"(?P<before>\bvalue\s*=\s*)(?P<it>{_QUOTED})"
        rf"(?P<after>[^<>]{{0,200}}?{_NAMED})",
        # PASSWORD=..., "token": "...", secret => ...
        rf"(?P<before>{_NAME}[\"']?[ \t]{{0,20}}+(?:=>|=|:)[ \t]*+)(?![{{\[][ \t]*\n)"
        rf"(?P<it>{_VALUE})",
        # --password ..., -passwd ...
        rf"(?P<before>(?<!\S)--?[\w.-]{{0,40}}?{_NAME}[ \t]+)(?P<it>{_VALUE})",
        # https://user:password@host
        r"(?P<before>\b\w{1,20}://[^\s/:@]{0,80}:)(?P<it>[^\s/@]{1,200})(?P<after>@)",
        # Authorization: Bearer ...
        r"(?P<before>\b(?:bearer|basic)[ \t]+)(?P<it>[\w.~+/=-]{8,})",
        # what databases and their clients take
        rf"(?P<before>\bidentified\s+by\s+)(?P<it>{_VALUE})",
        rf"(?P<before>\b(?:requirepass|masterauth)[ \t]+)(?P<it>{_VALUE})",
        rf"(?P<before>\b(?:mysql|mariadb)\w{{0,20}}\b[^\n|;&]{{0,200}}?[ \t]-p)(?P<it>{_VALUE})",
        rf"(?P<before>\bsshpass[ \t]+-p[ \t]*)(?P<it>{_VALUE})",
        r"(?P<before>\bcurl\b[^\n|;&]{0,200}?[ \t](?:-u|--user)[ \t]*[^\s:]{1,80}:)"
        rf"(?P<it>{_VALUE})",
    )
)
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
#: A value that only names where the secret is.
_REFERENCE = re.compile(r"[\"']?\$[({]?\w+[)}]?[\"']?")


def is_secret_file(name: str) -> bool:
    """Whether a file of that name is left out whole."""
    return any(fnmatch(name.lower(), pattern) for pattern in _SECRET_FILES)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets`, and without what stands in the known forms."""
    for secret in secrets:
        if len(secret) >= _SECRET_CHARACTERS_MIN:
            text = text.replace(secret, MASK)
    text = _without_private_keys(text)
    for form in _FORMS:
        text = form.sub(_mask, text)
    return text


def named_secrets(text: str) -> set[str]:
    """The values that a configuration itself names as secret, to be looked for elsewhere."""
    found = (match["it"].strip("\"'") for form in _FORMS for match in form.finditer(text))
    return {each for each in found if len(each) >= 6 and not _REFERENCE.fullmatch(each)}


def _mask(match: re.Match[str]) -> str:
    it = match["it"]
    if _REFERENCE.fullmatch(it):
        return match[0]
    quote = it[0] if it[0] in "\"'" else ""
    return match["before"] + quote + MASK + quote + (match.groupdict().get("after") or "")


def _without_private_keys(text: str) -> str:
    """Also one of which the beginning or the end is cut off."""
    parts, at = list[str](), 0
    while True:
        begin, end = _PEM_BEGIN.search(text, at), _PEM_END.search(text, at)
        if begin is None and end is None:
            return "".join([*parts, text[at:]])
        if begin is not None and (end is None or begin.start() < end.start()):
            parts.append(text[at : begin.start()])
        parts.append(f"{MASK} (a private key)")
        at = len(text) if end is None else end.end()
