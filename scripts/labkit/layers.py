"""What a node's disk begins with, over the machine's root. Made once, copied to each node."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from .layout import STATE
from .procs import run

LAYERS = STATE / "layers"
#: What the installed product is made from, relative to the checkout.
SOURCES = ("pyproject.toml", "README.md", "src", "modules", "scripts/install")


def base() -> Path:
    """The machine without its own services: a node boots what Debian needs and no more."""
    layer = LAYERS / "base-1"
    if layer.exists():
        return layer
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
    return _finish(making, layer)


def product(checkout: Path) -> Path:
    """safepy as `scripts/install` lays it out, made once for each state of the sources."""
    digest = _digest(checkout)
    layer = LAYERS / f"product-{digest}"
    if not layer.exists():
        _prune()
        making = _begin(layer)
        run(str(checkout / "scripts/install"), "--prefix-root", str(making), timeout_s=600)
        _finish(making, layer)
    os.utime(layer)
    return layer


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


def _finish(making: Path, layer: Path) -> Path:
    making.rename(layer)
    return layer


def _prune() -> None:
    """Keep the layers of the two source states used last."""
    for layer in sorted(LAYERS.glob("product-*"), key=lambda at: at.stat().st_mtime)[:-2]:
        shutil.rmtree(layer)
