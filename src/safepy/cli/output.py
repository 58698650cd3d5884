"""How answers look: our own text for people, JSON and YAML with stable keys for programs.

The keys are documented in docs/json.md, and a test compares that page with what is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        help="Form of the answer.",
    )(function)


def structured(data: Any, form: str) -> None:
    """One object on standard output."""
    if form == "json":
        import json

        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    import yaml  # 30 ms that only this form pays

    click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Columns, as wide as their widest cell."""
    if not rows:
        return []
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def moment(unix_s: float | None) -> str:
    """Local time without zone, as in the logs; `-` when there is none."""
    if not unix_s:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def iso(unix_s: float | None) -> str | None:
    if not unix_s:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
