"""The layer table of docs/architecture.md, checked against every import (habit 20)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "safepy"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS: dict[str, int] = {
    "": 0,  # the package itself: the version
    **dict.fromkeys(("model", "errors"), 0),
    **dict.fromkeys(("core", "wire", "config"), 1),
    **dict.fromkeys(("storage", "net", "host"), 2),
    **dict.fromkeys(("dataplane", "fuse", "checkers"), 3),
    **dict.fromkeys(("admin", "web"), 4),
    **dict.fromkeys(("cli", "daemon", "worker", "special", "__main__"), 5),
}
#: Adapters and entries do not know one another, with these exceptions.
APART = ({"storage", "net", "host"}, {"cli", "daemon", "worker", "special"})
MEETING_POINTS = {
    *("host.clock", "host.tasks", "host.loop", "worker.messages", "storage.private"),
}
#: (importing file, imported module): one command of `cli` starts the daemon, inside a function.
ENTRIES = {("__main__", "cli.main"), ("cli", "daemon.main")}

IMPURE = {"asyncio", "socket", "subprocess", "time", "random", "logging", "os"}
PURE = {"core", "wire", "config"}
#: The folder of a module, and the package it comes in.
TOUCHES_THE_DISK = {"config.module", "config.archive"}

#: Where each third-party package may be imported; a prefix names a package or one module.
HOMES: dict[str, tuple[str, ...]] = {
    "aiohttp": ("web", "daemon"),
    "asyncio_dgram": ("net.lanes",),
    "lxml": ("config",),
    "yaml": ("config.settings", "cli"),
    "pyroute2": ("host.netlink",),
    "psutil": ("host.processes", "host.interfaces"),
    "click": ("cli",),
    "cryptography": ("wire",),
    "cronsim": ("config.schedule",),
    "xxhash": ("dataplane.resync",),
    "msgspec": ("",),  # vocabulary, anywhere
}

#: Files past 400 lines were looked at; the reason why each stays whole.
LONG_FILES: dict[str, str] = {
    "dataplane.primary": "what becomes of a modification until it is answered, in one thread",
    "dataplane.resync.target": "one end of one conversation, message by message",
    "dataplane.resync.transfer": "the other end of it",
    "worker.following": "a secondary's life, from its first call to its last answer",
    "fuse.operations": "one short method for each request of the kernel, and their table",
}


def module_of(path: Path) -> str:
    """`core.replica.ops` for src/safepy/core/replica/ops.py."""
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def below(module: str, prefix: str) -> bool:
    return not prefix or module == prefix or module.startswith(prefix + ".")


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, imported module, only for the type checker) of every import statement."""
    tree = ast.parse(path.read_bytes(), str(path))
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            typing_only.update(child for part in node.body for child in ast.walk(part))
    package = ["safepy", *module_of(path).split(".")]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name, node in typing_only
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            for name in node.names:
                yield node.lineno, f"{origin}.{name.name}", node in typing_only


def own_module(imported: str) -> str | None:
    """The module of ours that an imported dotted name lies in, without `safepy.`."""
    if not below(imported, "safepy"):
        return None
    parts = imported.split(".")[1:]
    while parts:
        candidate = SOURCE.joinpath(*parts)
        if candidate.with_suffix(".py").exists() or candidate.is_dir():
            return ".".join(parts)
        parts.pop()
    return ""


def complaint(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported` (both modules of ours), or None."""
    here, there = importer.partition(".")[0], imported.partition(".")[0]
    if here == there or any(below(importer, a) and below(imported, b) for a, b in ENTRIES):
        return None
    if here == "wire" and imported == "core.replica.ops":
        return None
    if LAYERS[there] > LAYERS[here]:
        return f"layer {LAYERS[here]} imports layer {LAYERS[there]}"
    if here == "core" and there in ("wire", "config"):
        # The configuration is a value the core decides by; bytes are nothing to it.
        return None if imported == "config.schema" else "the core knows no bytes and no files"
    if here == "fuse" and below(imported, "storage"):
        return None
    if imported in MEETING_POINTS:
        return None
    for group in APART:
        if here in group and there in group:
            return f"{here} and {there} do not know one another"
    if LAYERS[here] == 4 and there in ("fuse", "dataplane", "checkers", "net", "storage"):
        return "a door reaches the house through the daemon's manager only"
    return None


def test_every_package_has_a_layer() -> None:
    packages = {module_of(path).partition(".")[0] for path in FILES}
    assert packages <= set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "safepy")
def test_imports_point_downward(path: Path) -> None:
    importer = module_of(path)
    wrong = []
    for line, imported, typing_only in imports(path):
        own = own_module(imported)
        reason = complaint(importer, own) if own is not None else None
        if reason and not typing_only:
            wrong.append(f"{path}:{line}: imports {imported}: {reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "safepy")
def test_decisions_and_bytes_are_pure(path: Path) -> None:
    importer = module_of(path)
    if importer.partition(".")[0] not in PURE or importer in TOUCHES_THE_DISK:
        return
    used = {(line, name.partition(".")[0]) for line, name, _ in imports(path)}
    assert not {(line, name) for line, name in used if name in IMPURE}


def test_the_two_parts_of_the_core_meet_as_events_only() -> None:
    for path in FILES:
        importer = module_of(path)
        if not below(importer, "core"):
            continue
        for line, imported, _ in imports(path):
            own = own_module(imported) or ""
            across = below(importer, "core.replica") != below(own, "core.replica")
            assert not (across and below(own, "core") and own != "core"), f"{path}:{line}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "safepy")
def test_third_party_packages_have_one_home(path: Path) -> None:
    importer = module_of(path)
    for line, imported, _ in imports(path):
        package = imported.partition(".")[0]
        for home in [HOMES[package]] if package in HOMES else []:
            allowed = any(below(importer, prefix) for prefix in home)
            assert allowed, f"{path}:{line}: {package} belongs in {', '.join(home)}"


def test_dependencies_are_the_declared_ones() -> None:
    for path in FILES:
        for line, imported, _ in imports(path):
            package = imported.partition(".")[0]
            known = package in sys.stdlib_module_names or package in HOMES or package == "safepy"
            assert known, f"{path}:{line}: {package} is neither ours nor declared"


def test_long_files_were_looked_at() -> None:
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in FILES}
    long = {module: lines for module, lines in lengths.items() if lines > 400}
    unexplained = {module: lines for module, lines in long.items() if module not in LONG_FILES}
    assert not unexplained, f"over 400 lines without a reason: {unexplained}"
    # A file that shrank only a little is not worth the change of a table.
    settled = [module for module in LONG_FILES if lengths.get(module, 0) <= 350]
    assert not settled, f"a reason is left for a file that is short or gone: {settled}"


def test_the_checker_sees_a_wrong_import() -> None:
    assert complaint("core.machine", "host.loop")
    assert complaint("storage.backing", "net.peer")
    assert complaint("admin.api", "storage.record")
    assert complaint("worker.main", "daemon.main")
    assert complaint("core.machine", "wire.heartbeat")
    assert not complaint("daemon.worker_handle", "worker.messages")
    assert not complaint("wire.replication", "core.replica.ops")
