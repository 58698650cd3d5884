"""What a node's disk begins with, over the machine's root. Made once, copied to each node."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import need
from .layout import STATE
from .procs import run

LAYERS = STATE / "layers"
#: What the installed product is made from, relative to the checkout.
SOURCES = ("pyproject.toml", "README.md", "src", "modules", "scripts/install")


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time, whatever the labs are called; the kernel drops the lock of a dead one."""
    LAYERS.mkdir(parents=True, exist_ok=True)
    with (LAYERS.parent / "layers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base() -> Path:
    """The machine without its own services: a node boots what Debian needs and no more."""
    layer = LAYERS / "base-1"
    with _alone():
        if not layer.exists():
            _make_base(layer)
    return layer


def _make_base(layer: Path) -> None:
    making = _begin(layer)
    etc = making / "etc"
    for hidden in ("systemd/system", *(f"rc{level}.d" for level in "S0123456")):
        path = etc / hidden
        path.mkdir(parents=True)
        # Hides what the layers below have in this directory.
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    (etc / "fstab").write_text("")
    journal = etc / "systemd/journald.conf.d"
    journal.mkdir(parents=True)
    (journal / "lab.conf").write_text("[Journal]\nStorage=persistent\nSystemMaxUse=64M\n")
    (making / "var/log/journal").mkdir(parents=True)
    os.setxattr(making / "var/log/journal", "trusted.overlay.opaque", b"y")
    units = etc / "systemd/system"
    for needless in (
        "systemd-firstboot.service",
        "systemd-networkd.service",
        "systemd-resolved.service",
        "systemd-timesyncd.service",
        "systemd-pstore.service",
        "systemd-update-utmp.service",
        "systemd-tmpfiles-clean.timer",
        "ldconfig.service",
        "console-getty.service",
        "getty.target",
        "rpcbind.socket",
        "e2scrub_reap.service",
    ):
        (units / needless).symlink_to("/dev/null")
    for own in ("opt/safekit", "var/safekit"):
        hidden_path = making / own
        hidden_path.mkdir(parents=True)
        os.setxattr(hidden_path, "trusted.overlay.opaque", b"y")
    _finish(making, layer)


def product(checkout: Path) -> Path:
    """safepy as `scripts/install` lays it out, made once for each state of the sources."""
    with _alone():
        layer = LAYERS / f"product-{_digest(checkout)}"
        if not layer.exists():
            _prune()
            making = _begin(layer)
            venv = dependencies(checkout)
            install = (str(checkout / "scripts/install"), "--prefix-root", str(making))
            run(*install, "--venv", str(venv), timeout_s=600)
            _finish(making, layer)
        os.utime(layer)
    return layer


def dependencies(checkout: Path) -> Path:
    """A virtual environment with what safepy needs, at a place where every node sees it.

    Not the checkout's own: a clone below /tmp is not visible inside a node.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    wanted: list[str] = project["dependencies"]
    venv = STATE / f"venv-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}"
    if not venv.exists():
        # Only its interpreter and its packages are used, which do not mind being moved.
        making = venv.with_name(venv.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        run(need.python(), "-m", "venv", "--clear", str(making), timeout_s=120)
        run(str(making / "bin/python"), "-m", "pip", "install", "-q", *wanted, timeout_s=900)
        making.rename(venv)
    return venv


def _digest(checkout: Path) -> str:
    digest = hashlib.sha256()
    for source in SOURCES:
        top = checkout / source
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            content = file.read_bytes()
            name = str(file.relative_to(checkout))
            digest.update(f"{name}\0{file.stat().st_mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _begin(layer: Path) -> Path:
    making = layer.with_name(layer.name + ".making")
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(parents=True)
    return making


def _finish(making: Path, layer: Path) -> None:
    making.rename(layer)


def _prune() -> None:
    """Keep the layers of the source states used last: another lab may just be copying one."""
    for layer in sorted(LAYERS.glob("product-*"), key=lambda at: at.stat().st_mtime)[:-4]:
        shutil.rmtree(layer)
