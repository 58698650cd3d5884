"""The unit files: verified by systemd where it is, and never with a mount namespace."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import safepy.daemon

UNITS = Path(safepy.daemon.__file__).parent / "units"
NAMES = ("safeadmin.service", "safekit-guard.service")
#: Any of these gives the service a mount namespace of its own (dependencies 4.3).
NAMESPACE = """
    PrivateTmp PrivateDevices PrivateMounts PrivateNetwork PrivateUsers PrivateIPC ProtectSystem
    ProtectHome ProtectHostname ProtectClock ProtectKernelTunables ProtectKernelModules
    ProtectKernelLogs ProtectControlGroups ProtectProc ReadOnlyPaths ReadWritePaths
    InaccessiblePaths NoExecPaths ExecPaths BindPaths BindReadOnlyPaths TemporaryFileSystem
    MountFlags MountImages RootDirectory RootImage DynamicUser StateDirectory LogNamespace
""".split()  # noqa: SIM905


def settings(name: str) -> dict[str, str]:
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Za-z]+=", line))


@pytest.mark.parametrize("name", NAMES)
def test_no_mount_namespace(name: str) -> None:
    assert not set(settings(name)) & set(NAMESPACE)
    assert "mount namespace" in (UNITS / name).read_text()


def test_the_daemon_comes_back_and_leaves_applications_alone() -> None:
    found = settings("safeadmin.service")
    assert found["Type"] == "notify"
    assert found["Restart"] == "on-failure"
    assert found["RestartSec"] == "1"
    assert found["StartLimitIntervalSec"] == "0"
    assert found["KillMode"] == "process"
    assert int(found["WatchdogSec"]) > 0
    # Also when the next one does not come up: no virtual address without a daemon.
    assert found["ExecStopPost"].endswith("/safeadmin --release-addresses")


def test_an_application_that_runs_out_of_memory_does_not_end_the_daemon() -> None:
    """It lives in the same control group: by default systemd would stop all modules."""
    assert settings("safeadmin.service")["OOMPolicy"] == "continue"


def test_the_guard_comes_before_ordinary_services() -> None:
    found = settings("safekit-guard.service")
    assert found["DefaultDependencies"] == "no"
    assert "basic.target" in found["Before"].split()
    assert found["WantedBy"] == "basic.target"
    assert found["ExecStart"].endswith("--close-directories")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_them(tmp_path: Path) -> None:
    program = tmp_path / "private" / "venv" / "bin" / "safeadmin"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = []
    for name in NAMES:
        text = (UNITS / name).read_text()
        text = text.replace("@SAFEVAR@", str(tmp_path)).replace("@SAFE@", str(tmp_path))
        unit = tmp_path / name
        unit.write_text(text)
        units.append(str(unit))
    result = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60
    )
    # Other units of this host are none of our business.
    ours = [line for line in result.stderr.splitlines() if str(tmp_path) in line or "safe" in line]
    assert not ours, result.stderr
