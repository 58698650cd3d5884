"""What starts with the daemon, and what an earlier daemon left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from safepy.config.paths import Paths
from safepy.daemon import boot, bootflag
from safepy.daemon.boot import AT_BOOT, AUTOMATICALLY, wanted_by

THIS, OTHER = "this boot", "an earlier boot"


@pytest.mark.parametrize(
    ("attribute", "flag", "started", "was_active", "first", "who"),
    [
        # A daemon that comes back within the boot takes up what ran, however it ended.
        ("ignore", False, THIS, True, False, AUTOMATICALLY),
        ("off", False, THIS, False, False, AUTOMATICALLY),
        # The host went down while the module served or followed.
        ("ignore", False, OTHER, True, True, AT_BOOT),
        ("off", False, "", True, True, AT_BOOT),
        # An ordinary boot of the host.
        ("on", False, "no", False, True, AT_BOOT),
        ("ignore", True, "no", False, True, AT_BOOT),
        ("ignore", False, "no", False, True, ""),
        ("ignore", False, OTHER, False, True, ""),
        ("off", True, "no", False, True, ""),
        ("auto", False, OTHER, False, True, AT_BOOT),
        ("auto", False, "no", False, True, ""),
        ("auto", True, "", False, True, ""),
        # Stopped by an administrator, then only the daemon is restarted.
        ("on", True, "no", False, False, ""),
    ],
)
def test_who_starts_what(
    attribute: str, flag: bool, started: str, was_active: bool, first: bool, who: str
) -> None:
    found = wanted_by(
        boot=attribute,
        flag=flag,
        started=started,
        boot_id=THIS,
        was_active=was_active,
        first_of_boot=first,
    )
    assert found == who


def test_the_first_start_of_a_boot_is_known(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "safe", tmp_path / "var")
    assert boot.first_of_boot(paths, "a")
    assert not boot.first_of_boot(paths, "a")
    assert boot.first_of_boot(paths, "b")


def test_the_flag_of_safekit_boot(tmp_path: Path) -> None:
    module = Paths(tmp_path / "safe", tmp_path / "var").module("web")
    assert not bootflag.boot_flag(module)
    bootflag.set_boot_flag(module, True)
    assert bootflag.boot_flag(module)
    bootflag.set_boot_flag(module, False)
    assert not bootflag.boot_flag(module)


def test_a_left_checker_is_ended_with_all_it_runs(tmp_path: Path) -> None:
    module = Paths(tmp_path / "safe", tmp_path / "var").module("web")
    program = tmp_path / "probe.sh"
    program.write_text(
        f"#!/bin/sh\nsleep 60 &\necho $! >{tmp_path}/$(basename $SAFEUSERVAR).$1\nwait\n"
    )
    program.chmod(0o755)
    running = [
        subprocess.Popen(
            [str(program), name, "custom.c", "x"],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "SAFEUSERVAR": str(var)},
        )
        # The second has the name of ours, in another installation.
        for name, var in (("web", module.var), ("web", tmp_path), ("other", module.var))
    ]
    try:
        deadline = time.monotonic() + 10
        child = tmp_path / f"{module.var.name}.web"
        while not (child.exists() and child.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert boot.end_left_scripts(module) == 1
        assert running[0].wait(10) == -9
        assert [process.poll() for process in running[1:]] == [None, None]
        stat = Path("/proc", child.read_text().strip(), "stat")
        while stat.exists() and b") Z " not in stat.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def test_a_left_script_is_ended_and_what_it_started_is_not(tmp_path: Path) -> None:
    module = Paths(tmp_path / "safe", tmp_path / "var").module("web")
    module.bin.mkdir(parents=True)
    script = module.bin / "start_prim"
    script.write_text(
        f"#!/bin/sh\nsleep 60 &\necho $! >{tmp_path}/app\nwhile :; do sleep 1; done\n"
    )
    script.chmod(0o755)
    other = module.bin / "checker"
    other.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    other.chmod(0o755)
    running = [subprocess.Popen([str(each)], start_new_session=True) for each in (script, other)]
    application = 0
    try:
        deadline = time.monotonic() + 10
        while not ((tmp_path / "app").exists() and (tmp_path / "app").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        application = int((tmp_path / "app").read_text())
        assert boot.end_left_scripts(module) == 1
        assert running[0].wait(10) == -9
        assert running[1].poll() is None
        os.kill(application, 0)
        assert boot.end_left_scripts(module) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
        if application:
            os.kill(application, 9)
