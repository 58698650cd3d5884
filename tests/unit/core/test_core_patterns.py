"""The linear matcher says what Python's says, and its time does not explode."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.config.ere import compile_ere
from safepy.core.replica.patterns import Pattern

PATTERNS = st.lists(
    st.sampled_from(["a", "b", ".", "|", "(", ")", "*", "+", "?", "^", "$", "[ab]", "[^a]", r"\w",
                     "{2}", "{1,2}", "{0,}", "[[:digit:]]", r"\.", "1", "x"]),
    max_size=9,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(PATTERNS, st.lists(st.text("ab1.\n", max_size=6), min_size=4, max_size=8))
def test_it_matches_what_the_configuration_language_means(pattern, texts):
    try:
        ours = Pattern(pattern)
    except ValueError:
        return
    try:
        theirs = compile_ere(pattern)
    except ValueError:
        return  # `^*` and the like: of no use to anybody
    for text in texts:
        assert ours.search(text) == bool(theirs.search(text)), (pattern, text)


def test_a_chosen_name_costs_no_exponential_time():
    """Would take longer than the universe with `re`; the state table stays small."""
    pattern = Pattern(r"^(a+)+$|^(a|aa)+$|(x*)*y")
    assert not pattern.search("a" * 250 + "!")
    assert pattern.search("a" * 255)
    assert len(pattern._table) < 100
    assert isinstance(re.compile("a"), re.Pattern)


def test_what_cannot_be_read_is_refused():
    wrong_ones = (
        "(",
        ")",
        "[a",
        "a{2",
        "*a",
        "a**",
        "\\",
        "(?i)a",
        r"\q",
        r"\<a",
        "a{,2}",
        "a{9999}",
    )
    for wrong in (*wrong_ones, "a{2,1}"):
        try:
            Pattern(wrong)
        except ValueError:
            continue
        raise AssertionError(wrong)
