"""`safekit dump` and `safekit snapshot`: what is in them, what never is, and their bounds."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_manager import FakeManager

from safepy.cli import dumpfiles, dumps, facts
from safepy.cli.dumps import Dump
from safepy.cli.masking import MASK, masked, named_secrets
from safepy.config.paths import Paths
from safepy.errors import RequestRefused
from safepy.model import Level
from safepy.storage.modulelog import CommandLog, ModuleLog
from safepy.storage.resources import Resources

KEY = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="
PRIVATE = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----\n"
SECRETS = (KEY, "hunter-two", "MIIEvQIBADANBg", "typed-password", "in-the-script", "in-a-binary")
CONFIG = f"""<safe><service mode="mirror">
<user><var name="DB_PASSWORD" value="hunter-two"/><var name="PORT" value="5432"/></user>
<!-- {PRIVATE} --></service></safe>"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of this host are asked by the one test that is about them."""
    monkeypatch.setattr(facts, "_PROGRAMS", ("uname -a",))
    monkeypatch.setattr(facts, "_EVENTS", {"last.txt": (), "systemevt.txt": ()})
    monkeypatch.setattr(dumpfiles, "ROOM_BYTES", 0)


@pytest.fixture
def module(safe: Path) -> Path:
    """A module `demo` that used secrets wherever it could; its SAFEUSERVAR."""
    var, source = safe / "var/modules/demo", safe / "safe/modules/demo"
    (safe / "var/cluster").mkdir()
    (safe / "var/cluster/cluster.key").write_text(KEY + "\n")
    (safe / "var/cluster/cluster.xml").write_text("<cluster><lans/></cluster>")
    for folder in (source, safe / "safe/private/modules/demo"):
        (folder / "conf").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "conf/userconfig.xml").write_text(CONFIG)
    (source / "bin/start_prim").write_text("#!/bin/sh\nPASSWORD=in-the-script psql\n")
    (source / "bin/tool").write_bytes(b"\x7fELF\0in-a-binary")
    (source / "conf/server.key").write_text(PRIVATE)
    log = ModuleLog(str(var / "log.db"))
    log.write("heart", Level.EVENT, "Local state ALONE Ready")
    log.write("custom", Level.INFO, f"connected as hunter-two with {KEY}")
    log.close()
    commands = CommandLog(str(safe / "var/log.db"))
    commands.start("demo", 7, "set --password typed-password -m demo -u root")
    commands.close()
    resources = Resources(str(var / "resource.db"))
    for value in ("init", "up"):
        resources.set("custom.x", value, "checker")
        resources.set("custom.token", "=1+1", "hunter-two")
    resources.close()
    (var / "userlog_2026-11-23T080000_start_prim.ulog").write_text(f"opened {KEY}\n{PRIVATE}done\n")
    (var / "doors/0").mkdir(parents=True)
    (var / "doors/0/data").write_text("the application's data")
    (safe / "safe/modules/lastconfig").mkdir()
    for day in range(1, 6):
        packed = safe / f"safe/modules/lastconfig/demo_2026-11-0{day}_080000.safe"
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    archive.write(path, str(path.relative_to(source)))
    return var


@pytest.fixture
def health(safe: Path) -> None:
    program = safe / "safe/private/bin/healthcheck.sh"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text('#!/bin/sh\necho "[OK] $SAFEVAR"; echo DB_PASSWORD=hunter-two\n')
    program.chmod(0o755)


def texts(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def unzipped(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def no_secret(files: dict[str, str]) -> None:
    found = [(name, each) for name, text in files.items() for each in SECRETS if each in text]
    assert files and not found


def test_a_dump_has_the_parts_of_the_reference(
    run: Any, daemon: FakeManager, safe: Path, module: Path, health: None
) -> None:
    done = run("dump", "-m", "demo")
    assert done.exit_code == 0 and done.stderr == "", done.output
    folder = Path(done.stdout.strip())
    assert folder.parent == safe / "var/snapshot/modules/demo"
    assert time.strptime(folder.name, "dump_%Y_%m_%d_%H_%M_%S")
    found = texts(folder)
    assert set(found) == {
        *("log.txt", "logverbose.txt", "commandlog.txt", "heartplug", "state.json", "last.txt"),
        *("systemevt.txt", "healthcheck.txt", "missing.txt", "var/cluster/cluster.xml"),
        *("csv/logverbose.csv", "csv/resource.csv", "csv/resourcelog.csv", "csv/commandlog.csv"),
        *("csv/modules.csv", "csv/clusterstate.csv", "conf/userconfig.xml"),
        *("var/modules/demo/record.json", "var/modules/demo/listing.txt"),
        "userlog/userlog_2026-11-23T080000_start_prim.ulog",
    }
    no_secret(found)
    assert found["missing.txt"] == "nothing\n"
    assert "Local state ALONE Ready" in found["log.txt"] and "connected" not in found["log.txt"]
    assert f"connected as {MASK} with {MASK}" in found["logverbose.txt"]
    assert f"--password {MASK} -m demo" in found["commandlog.txt"]
    assert "PRIM Ready" in found["heartplug"] and "== uname -a\nLinux" in found["heartplug"]
    assert json.loads(found["state.json"])[0]["state"] == "PRIM"
    assert json.loads(found["var/modules/demo/record.json"])["epoch"] == 0
    assert 'name="PORT" value="5432"' in found["conf/userconfig.xml"]
    assert "log.db" in found["var/modules/demo/listing.txt"]
    assert "data" not in found["var/modules/demo/listing.txt"]
    assert str(safe / "var") in found["healthcheck.txt"]
    rows = list(csv.DictReader(io.StringIO(found["csv/resourcelog.csv"])))
    assert [row["value"] for row in rows if row["name"] == "custom.x"] == ["init", "up"]
    assert [row["value"] for row in rows if row["name"] == "custom.token"] == ["'=1+1"]
    assert {row["module"] for row in csv.DictReader(io.StringIO(found["csv/modules.csv"]))} == {
        *("demo", "raw")
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (each for each in folder.rglob("*") if each.is_file()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_daemon_it_is_made_and_says_what_is_missing(
    run: Any, safe: Path, module: Path
) -> None:
    done = run("dump", "-m", "demo", "-o", "json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    missing = {each["name"]: each["reason"] for each in told["missing"]}
    assert set(missing) == {
        *("state.json", "csv/modules.csv", "csv/clusterstate.csv", "healthcheck.txt"),
    }
    assert "not running" in missing["state.json"] and "No such file" in missing["healthcheck.txt"]
    found = texts(Path(told["folder"]))
    assert len(found) == told["files"] and "ALONE Ready" in found["log.txt"]
    assert "the states of the modules are not known" in found["heartplug"]
    assert "state.json: safeadmin" in found["missing.txt"]


LISTENER = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_daemon_that_hangs_costs_its_limit_once(
    run: Any, safe: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumps, "_ANSWER_S", 0.3)
    asked = []
    ask = dumps.Client.call
    monkeypatch.setattr(dumps.Client, "call", lambda *words: asked.append(words) or ask(*words))
    (safe / "var/run").mkdir()
    listener = subprocess.Popen(
        [sys.executable, "-c", LISTENER, str(safe / "var/run/safeadmin.sock")],
        stdout=subprocess.PIPE,
    )
    with listener:
        try:
            assert listener.stdout is not None and listener.stdout.readline() == b"ready\n"
            listener.send_signal(signal.SIGSTOP)
            done = run("dump", "-m", "demo")
        finally:
            listener.kill()
    assert done.exit_code == 0 and len(asked) == 1
    assert "note: not in it: state.json: safeadmin did not answer within 0.3" in done.stderr


def test_the_last_three_dumps_stay_and_what_a_kill_left_goes(
    run: Any, safe: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = safe / "var/snapshot/modules/demo"
    (folder / ".new_0123").mkdir(parents=True)
    os.utime(folder / ".new_0123", (1.0, 1.0))
    for year in (2020, 2021, 2022):
        (folder / f"dump_{year}_01_01_00_00_00").mkdir()
    (folder / "notes of the administrator").mkdir()
    made = Path(run("dump", "-m", "demo").stdout.strip()).name
    assert sorted(path.name for path in folder.iterdir()) == [
        *("dump_2021_01_01_00_00_00", "dump_2022_01_01_00_00_00", made),
        "notes of the administrator",
    ]


def test_a_snapshot_has_dumps_and_configurations_and_no_secret(
    run: Any, daemon: FakeManager, safe: Path, module: Path, health: None
) -> None:
    first = Path(run("dump", "-m", "demo").stdout.strip()).name
    target = safe / "new.zip"
    done = run("snapshot", "-m", "demo", str(target), "-o", "json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["bytes"] == target.stat().st_size and told["dumps"][0] == first
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    found = unzipped(target)
    no_secret(found)
    (top,) = {tuple(name.split("/")[:2]) for name in found}
    assert top[0] == f"snapshot_{os.uname().nodename}_demo" and top[1] == "demo"
    folders = {name.split("/")[2] for name in found}
    assert folders == {
        *("config_2026_11_03_08_00_00", "config_2026_11_04_08_00_00"),
        *("config_2026_11_05_08_00_00", first, told["dumps"][1], "missing.txt"),
    }
    script = found["/".join((*top, "config_2026_11_05_08_00_00/module/bin/start_prim"))]
    assert script == f"#!/bin/sh\nPASSWORD={MASK} psql\n"
    missing = {each["name"].split("/module/")[-1]: each["reason"] for each in told["missing"]}
    assert missing == {
        "bin/tool": "it is no text",
        "conf/server.key": "its name says that it is secret",
    }
    assert "bin/tool: it is no text" in found["/".join((*top, "missing.txt"))]


@pytest.mark.parametrize("target", ["relative.zip", "/nowhere/x.zip", "@"])
def test_a_target_that_cannot_be_is_refused_in_one_line(
    run: Any, safe: Path, module: Path, target: str
) -> None:
    (safe / "there").write_text("precious")
    done = run("snapshot", "-m", "demo", target.replace("@", str(safe / "there")))
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("safekit: error: ")
    assert (safe / "there").read_text() == "precious"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    subprocess.run(words, check=True, timeout=20)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=20)


def test_a_full_disk_is_said_and_nothing_is_left(
    run: Any, safe: Path, module: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        noise = os.urandom(125_000).hex()
        (module / f"userlog_2026-11-23T08000{number}_x.ulog").write_text(noise + "\n")
    monkeypatch.setattr(dumpfiles, "DUMP_BYTES_MAX", 0)  # it seems to be enough
    done = run("snapshot", "-m", "demo", str(small_disk / "x.zip"))
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"safekit: error: {small_disk}/x.zip cannot be written: No space left on device"
    )
    made = dumps.collect(Paths.from_environment(os.environ), _paths(safe))
    with pytest.raises(RequestRefused, match="cannot be written: No space left on device"):
        dumpfiles.keep(small_disk / "dumps", made)
    left = [path for path in small_disk.rglob("*") if path.name != "dumps"]
    assert not left, "half a dump"


def test_a_dump_never_takes_the_last_room_and_the_zip_may_lie_elsewhere(
    run: Any, safe: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dumpfiles, "ROOM_BYTES", 1 << 60)
    done = run("dump", "-m", "demo")
    assert done.exit_code == 1 and "no room for a dump" in done.stderr
    assert "safekit snapshot" in done.stderr
    assert not (safe / "var/snapshot").exists()
    done = run("snapshot", "-m", "demo", str(safe / "x.zip"))
    assert done.exit_code == 0 and "not in it: the same in SAFEVAR: no room" in done.stderr
    assert any(name.endswith("/dump_now/log.txt") for name in unzipped(safe / "x.zip"))


def _paths(safe: Path) -> Any:
    return Paths(safe / "safe", safe / "var").module("demo")


def test_size_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "DUMP_BYTES_MAX", 1_600_000)
    monkeypatch.setattr(dumps, "FILE_BYTES_MAX", 300_000)
    clock = [0.0]
    dump = Dump((), lambda: clock[0])
    line = "x" * 99 + "\n"
    for number in range(8):
        dump.part(f"{number}", lambda: line * 6_000)
    assert dump.size_bytes <= dumps.DUMP_BYTES_MAX
    assert {len(data) for data in dump.files.values()} == {
        len("(the beginning is left out)\n") + dumps.FILE_BYTES_MAX - 100
    }
    assert [name for name, _ in dump.missing] == ["5", "6", "7"]
    clock[0] = dumps.DUMP_LIMIT_S
    dump.part("late", lambda: "never")
    assert dump.missing[-1] == ("late", "the time of 60 seconds was over")


def test_a_file_is_read_from_its_end_and_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert dumps.read_text(path, 20) == "line 998\nline 999\n"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(path)
    for name, text in (("pipe", "it is no file"), ("link", "symbolic links")):
        with pytest.raises(OSError, match=text):
            dumps.read_text(tmp_path / name)


def test_what_hangs_is_ended_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_LIMIT_S", 0.2)
    monkeypatch.setattr(facts, "_PROGRAMS", ("sleep 30", "no-such-program"))
    text = "\n".join(facts.facts(lambda: 10.0))
    assert "== sleep 30\n\n(ended: too long" in text
    assert "== no-such-program\nit cannot be run: No such file" in text
    assert "no time was left" in "\n".join(facts.facts(lambda: 0.0))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('<var name="DB_PASSWORD" value="x y"/>', f'<var name="DB_PASSWORD" value="{MASK}"/>'),
        ("<var value='x' name='apiKey'/>", f"<var value='{MASK}' name='apiKey'/>"),
        ("PGPASSWORD=x psql", f"PGPASSWORD={MASK} psql"),
        ('PASSWORD="$GIVEN"', 'PASSWORD="$GIVEN"'),
        ('{"token": "a\\"b c", "n": 1}', f'{{"token": "{MASK}", "n": 1}}'),
        ('"custom.token": {\n  "value"', '"custom.token": {\n  "value"'),
        ("password='x y", f"password='{MASK}'"),
        ("run --password x --all", f"run --password {MASK} --all"),
        ("postgres://u:x@h/db", f"postgres://u:{MASK}@h/db"),
        ("Authorization: Bearer abcdefgh.x", f"Authorization: Bearer {MASK}"),
        ("mysqldump -u root -px db", f"mysqldump -u root -p{MASK} db"),
        ("curl -s -u admin:x https://h", f"curl -s -u admin:{MASK} https://h"),
        ("ALTER USER a IDENTIFIED BY 'x'", f"ALTER USER a IDENTIFIED BY '{MASK}'"),
        (f"a\n{PRIVATE}b", f"a\n{MASK} (a private key)\nb"),
        ("MIIE\n-----END RSA PRIVATE KEY-----\nb", f"{MASK} (a private key)\nb"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMIIE", f"a {MASK} (a private key)"),
        ("no password was given: stop", "no password was given: stop"),
    ],
)
def test_secrets_are_masked_and_nothing_else(said: str, shown: str) -> None:
    assert masked(said) == shown


def test_what_a_configuration_calls_secret_is_found_elsewhere() -> None:
    assert named_secrets(CONFIG) == {"hunter-two"}
    assert masked("it said hunter-two!", {"hunter-two"}) == f"it said {MASK}!"


@pytest.mark.parametrize("hostile", ["password-", 'name="passwd" ', "a.password.b.", "mysql -x "])
def test_a_hostile_line_costs_no_more_than_its_length(hostile: str) -> None:
    def costs_s(times: int) -> float:
        began = time.process_time()
        masked(hostile * times)
        return time.process_time() - began

    short, long = costs_s(2_000), costs_s(16_000)
    assert long < 40 * short + 0.5, "a square would be 64 times as long"
