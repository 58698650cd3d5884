"""docs/failures.md: every row is there, and every test and check it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"
FAILURES = [f"F{n}" for n in range(1, 58) if n != 19] + ["F16b", "F35b"]
INVARIANTS = [f"I{n}" for n in range(1, 22)]
SCHEDULES = [f"K{n}" for n in range(1, 19)] + ["K12b", "K12c"]
NAMED = re.compile(r"`((?:tests|src)/[^`]+)`")


def rows() -> dict[str, list[str]]:
    """id -> cells of its row."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[FIK]\d+[bc]?", cells[0]):
            assert cells[0] not in found, f"{cells[0]} twice"
            found[cells[0]] = cells
    return found


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def complaint(named: str) -> str:
    """Empty if the file, and the function in it, exist."""
    file, _, function = named.partition("::")
    path = ROOT / file
    if not path.is_file():
        return f"{file} does not exist"
    if function and function not in names_in(path):
        return f"{file} has no {function}"
    return ""


@pytest.mark.parametrize("row", [*FAILURES, *INVARIANTS, *SCHEDULES])
def test_the_row_is_there_and_names_something(row: str) -> None:
    cells = rows()[row]
    assert all(cells), f"{row} has an empty cell"
    assert NAMED.findall(cells[-1]), f"{row} names no test"


def test_no_row_is_unknown() -> None:
    assert set(rows()) == {*FAILURES, *INVARIANTS, *SCHEDULES}


def test_each_acceptance_case_has_a_story_and_ten_are_played_on_lab_nodes() -> None:
    section = PAGE.read_text().partition("## The acceptance cases")[2].partition("\n## ")[0]
    cases = [line.strip("|").split("|") for line in section.splitlines() if line[:1] == "|"][2:]
    assert len(cases) >= 20
    assert all("tests/scenarios/" in story for _, story, _ in cases)
    assert len([case for case, _, lab in cases if "tests/e2e/" in lab]) >= 10


def test_everything_named_exists() -> None:
    wrong = [text for named in NAMED.findall(PAGE.read_text()) if (text := complaint(named))]
    assert not wrong, "\n".join(wrong)


def test_the_tests_of_a_failure_or_schedule_say_its_id() -> None:
    """In the test's name or docstring, or in the story: so that the red test leads here."""
    silent = []
    for row, cells in rows().items():
        if row[0] in "FK" and not any(_says(row, named) for named in NAMED.findall(cells[-1])):
            silent.append(row)
    assert not silent, f"no test of these rows names them: {silent}"


def _says(row: str, named: str) -> bool:
    file, _, function = named.partition("::")
    text = (ROOT / file).read_text()
    if not function:
        return re.search(rf"\b{row}\b", text) is not None
    if re.search(rf"_{row.lower()}_", function):
        return True
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            return re.search(rf"\b{row}\b", ast.get_docstring(node) or "") is not None
    return False


@pytest.mark.parametrize("named", ["tests/nowhere.py::test_x", "tests/unit/test_layers.py::nobody"])
def test_what_does_not_exist_is_found(named: str) -> None:
    assert complaint(named)
