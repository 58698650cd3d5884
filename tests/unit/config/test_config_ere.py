"""POSIX extended expressions; the C library of this host is the judge."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.config.ere import compile_ere


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("ora_.*", "ora_pmon", True),
        (".*-D /srv/db.*", "/usr/bin/postgres -D /srv/db", True),
        ("^a$", "a\n", False),
        ("a.b", "a\nb", True),
        ("[[:digit:]]+x", "12x", True),
        ("^[^[:space:]]+$", "a b", False),
        (r"[\.]", "\\", True),
        ("[]a]", "]", True),
        ("[^]a]", "]", False),
        ("a{2,3}$", "aaa", True),
        ("a{x", "a{x", True),
        (r"\.tmp$", "x.tmp", True),
        ("(a|b)+c", "abc", True),
        ("[a-c&&b]", "&", True),
        (r"\<sql\>", "my sql -x", True),
        (r"\<sql\>", "mysqld", False),
        (r"\<sql", "mysql", False),
        (r"a\<", "a b", False),
    ],
)
def test_meaning(pattern: str, text: str, matches: bool) -> None:
    assert (compile_ere(pattern).search(text) is not None) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "[a", "*a", "a**", "a*?", "a*+", "(?i)a", "(?<x>a)", "a\\", "\\q", "a{2"),
        *("[[:no:]]", "a{9999999999999999999}", "(" * 500, "a{,2}", "x" * 2000, "[b-a]", "[+--]"),
    ],
)
def test_refused_with_a_sentence(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        compile_ere(pattern)


@given(st.text(alphabet="ab[]()*+?{}12,^$.|\\:-&~ ", max_size=12))
def test_nothing_but_value_error(pattern: str) -> None:
    try:
        compile_ere(pattern).search("aabb12")
    except ValueError as exc:
        assert not isinstance(exc, re.error)


PLAIN = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\."]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}"])).map(
            lambda t: f"({t[0]}){t[1]}"
        ),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda t: f"({t[0]}|{t[1]})"),
    ),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(PLAIN)
def test_agrees_with_grep_of_this_host(inner: str) -> None:
    texts = ["", "a", "b", "ab", "ba", "aab", "a.b", "."]
    pattern = f"^({inner})$"
    lines = "".join(f"{text}\n" for text in texts)
    grep = subprocess.run(
        ["grep", "-E", "-e", pattern], input=lines, text=True, capture_output=True, check=False
    )
    mine = [text for text in texts if compile_ere(pattern).search(text)]
    assert grep.stdout.splitlines() == mine
