"""docs/security.md: every rule is there, and every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text()
RULES = [*(f"S{n}" for n in range(1, 19)), "S19 to S24", "S25", "S26"]


def row(rule: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {rule} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_has_a_row_that_names_a_test(rule: str) -> None:
    _, does, shown = row(rule)
    assert shown == "with the console" or (does and re.search(r"`tests/[^`]+`", shown))


def test_every_test_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?[` ]", PAGE)
    assert len(named) > 40
    for file, function in named:
        assert (ROOT / file).is_file(), file
        if function:
            tree = ast.parse((ROOT / file).read_text())
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            assert function in {n.name for n in ast.walk(tree) if isinstance(n, kinds)}, function
