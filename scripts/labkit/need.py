"""Installs what is missing, without a question. Debian's packages only."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .procs import LabError, run

PACKAGE_OF = {
    "dpkg-deb": "dpkg",
    "fio": "fio",
    "gcc": "build-essential",
    "git": "git",
    "gluster": "glusterfs-server",
    "initdb": "postgresql",
    "ip": "iproute2",
    "make": "build-essential",
    "mariadbd": "mariadb-server",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "rsync": "rsync",
    "setfacl": "acl",
    "sqlite3": "sqlite3",
    "systemd-nspawn": "systemd-container",
    "tar": "tar",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POSTGRES = "/usr/lib/postgresql"


def commands(*names: str) -> None:
    """Make sure that these commands are there. Raises `LabError` if one cannot be had."""
    missing = [name for name in names if not found(name)]
    if not missing:
        return
    packages = sorted({PACKAGE_OF[name] for name in missing})
    print("installing", *packages, file=sys.stderr, flush=True)
    with_policy(packages)
    still = [name for name in missing if not found(name)]
    if still:
        raise LabError(f"not found after installing {' '.join(packages)}: {' '.join(still)}")


def found(name: str) -> bool:
    if shutil.which(name, path=SYSTEM_PATH):
        return True
    return any(Path(POSTGRES).glob(f"*/bin/{name}"))


def with_policy(packages: list[str]) -> None:
    """apt-get install, without starting the services that come with the packages."""
    policy = Path("/usr/sbin/policy-rc.d")
    own = not policy.exists()
    if own:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PATH": SYSTEM_PATH}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    try:
        if run(*install, check=False, timeout_s=900, env=environment).returncode != 0:
            run("apt-get", "update", timeout_s=600, env=environment)
            run(*install, timeout_s=900, env=environment)
    finally:
        if own:
            policy.unlink()


def postgres_bin() -> Path:
    """The directory of initdb, pg_ctl and postgres (newest version installed)."""
    commands("initdb")
    return max(Path(POSTGRES).glob("*/bin/initdb"), key=lambda at: float(at.parts[-3])).parent


def python() -> str:
    """A Python 3.11 or newer that can make virtual environments; Debian's own if it can."""
    check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    candidates = ("/usr/bin/python3", sys.executable, "python3.13", "python3.12", "python3.11")
    for attempt in range(2):
        for candidate in candidates:
            path = shutil.which(candidate)
            if path and run(path, "-c", check, check=False).returncode == 0:
                return path
        if attempt == 0:
            with_policy(["python3", "python3-venv"])
    raise LabError("no Python 3.11 or newer with venv found")
