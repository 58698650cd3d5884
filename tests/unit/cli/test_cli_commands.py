"""Every command: what it asks of the daemon, what it prints, its exit code."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_manager import READY, SYNCHRONISING, WAITING, FakeManager

from safepy.model import Snapshot, State, Status


def snapshot(state: State, status: Status, **more: Any) -> Snapshot:
    from dataclasses import replace

    return replace(READY, state=state, status=status, **more)


STARTING = snapshot(State.WAIT, Status.TRANSIENT)
STOPPED = snapshot(State.STOP, Status.NOT_READY, reason="stopped by root")

ASKED: list[tuple[list[str], tuple[Any, ...]]] = [
    (["start"], ("action", "demo", "start", "root", "", False)),
    (["stop"], ("action", "demo", "stop", "root", "", False)),
    (["stop", "-i", "checker"], ("action", "demo", "stop", "checker", "checker", False)),
    (["restart"], ("action", "demo", "restart", "root", "", False)),
    (["stopstart"], ("action", "demo", "stopstart", "root", "", False)),
    (["swap"], ("action", "demo", "swap", "root", "", False)),
    (["forcestop"], ("action", "demo", "forcestop", "root", "", False)),
    (["prim"], ("action", "demo", "prim", "root", "", False)),
    (["prim", "fullsync"], ("action", "demo", "prim", "root", "", True)),
    (["second"], ("action", "demo", "second", "root", "", False)),
    (["second", "fullsync"], ("action", "demo", "second", "root", "", True)),
    (["primforce"], ("action", "demo", "primforce", "root", "", False)),
    (
        ["secondforce", "--yes", "-d", "2026-01-02T03:04:05Z"],
        ("action", "demo", "secondforce", "root", "", False, 1_767_323_045.0),
    ),
    (["rfssync"], ("snapshot", "demo")),
    (["rfssync", "full"], ("rfssync", "demo", "full", "default", "", True, "root")),
    (
        ["rfssync", "external", "prim", "b1"],
        ("rfssync", "demo", "external", "prim", "b1", True, "root"),
    ),
    (
        ["rfssync", "-d", "second", "b1", "--yes"],
        ("rfssync", "demo", "external", "second", "b1", False, "root"),
    ),
    (["failover", "on"], ("failover", "demo", True, "root")),
    (["failover", "off"], ("failover", "demo", False, "root")),
    (["checker", "on"], ("checker", "demo", True, "root")),
    (["checker", "off"], ("checker", "demo", False, "root")),
    (["errd", "on"], ("errd", "demo", True, "root")),
    (["errd", "off"], ("errd", "demo", False, "root")),
    (["errd", "resume"], ("errd", "demo", True, "root")),
    (["errd", "suspend"], ("errd", "demo", False, "root")),
    (["errd", "enable", "agent"], ("errd_class", "demo", "agent", True)),
    (["errd", "disable", "agent"], ("errd_class", "demo", "agent", False)),
    (["kill", "-name=app", "-level=9"], ("kill", "app", "", "9")),
    (
        ["kill", "-name", "app", "-argregex=a b", "-level", "terminate"],
        ("kill", "app", "a b", "terminate"),
    ),
    (["boot", "on"], ("boot", "demo", True)),
    (["boot", "off"], ("boot", "demo", False)),
    (["printi", "a  b"], ("print", "demo", "I", "a  b", "safekit")),
    (["printw", "w"], ("print", "demo", "W", "w", "safekit")),
    (["printe", "e"], ("print", "demo", "E", "e", "safekit")),
    (["set", "-r", "custom.x", "-v", "up"], ("set", "demo", "custom.x", "up", "root", None)),
    (
        ["set", "-r", "custom.x", "-v", "up", "-n", "-i", "me"],
        ("set", "demo", "custom.x", "up", "me", False),
    ),
    (["get", "-r", "rfs.uptodate"], ("snapshot", "demo")),
    (["incloop", "-i", "me"], ("loop", "demo", "inc", "me")),
    (["resetloop"], ("loop", "demo", "reset", "")),
    (["checkloop"], ("loop", "demo", "check", "")),
    (["module", "install", "mirror.safe"], ("install", "demo", "mirror.safe", None, False)),
    (["module", "install"], ("install", "demo", "", None, False)),
    (["module", "install", "-M", "7", "-r", "x"], ("install", "demo", "x", 7, True)),
    (["module", "uninstall"], ("uninstall", "demo")),
    (["module", "package", "/tmp/new.safe"], ("package", "demo", "/tmp/new.safe")),
    (["module", "getports"], ("ports", "demo")),
    (["config"], ("config", "demo")),
    (["confcheck"], ("confcheck", "demo")),
    (["confinfo"], ("confinfo", "demo")),
    (["deconfig"], ("deconfig", "demo")),
    (["state"], ("snapshot", "demo")),
    (["errd", "list"], ("errd_list", "demo")),
    (["rfsverify"], ("verify", "demo", "", "root")),
    (["rfsverify", "--mend", "prim"], ("verify", "demo", "prim", "root")),
    (["rfsdiff"], ("estimate", "demo")),
]


@pytest.mark.parametrize(("words", "asked"), ASKED, ids=lambda value: " ".join(map(str, value)))
def test_a_command_asks_for_what_it_says(
    run: Any, daemon: FakeManager, words: list[str], asked: tuple[Any, ...]
) -> None:
    before = run("-m", "demo", *words)
    after = run(*words, "-m", "demo")
    assert (before.exit_code, after.exit_code) == (0, 0), before.output + after.output
    assert daemon.asked.count(asked) == 2


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["shutdown"], ("shutdown", "root")),
        (["cluster", "genkey"], ("cluster_genkey", False)),
        (["cluster", "genkey", "--force"], ("cluster_genkey", True)),
        (["cluster", "deconfig"], ("cluster_deconfig",)),
        (["cluster", "confinfo"], ("cluster_confinfo",)),
        (["cluster", "state"], ("cluster_state",)),
        (["cluster", "config"], ("cluster_config", None, "the active cluster.xml")),
    ],
    ids=str,
)
def test_commands_of_the_node(
    run: Any, daemon: FakeManager, words: list[str], asked: tuple[Any, ...]
) -> None:
    assert run(*words).exit_code == 0
    assert asked in daemon.asked
    refused = run(*words, "-m", "demo")
    assert refused.exit_code == 2 and "leave out -m" in refused.stderr


def test_the_module_may_come_from_the_environment(
    run: Any, daemon: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFEMODULE", "other")
    daemon.states["other"] = [READY]
    assert run("restart").exit_code == 0
    assert run("restart", "-m", "demo").exit_code == 0
    assert [asked[1] for asked in daemon.asked] == ["other", "demo"]


def test_m_inside_a_group_is_the_same(run: Any, daemon: FakeManager) -> None:
    assert run("module", "-m", "demo", "uninstall").exit_code == 0
    assert run("-m", "demo", "boot", "-m", "demo", "on", "-m", "demo").exit_code == 0
    two = run("-m", "demo", "boot", "on", "-m", "other")
    assert two.exit_code == 2 and "two modules are named: demo and other" in two.stderr


def test_a_file_that_exists_is_named_absolutely(
    run: Any, daemon: FakeManager, safe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(safe)
    (safe / "my.safe").touch()
    assert run("module", "install", "-m", "demo", "my.safe").exit_code == 0
    assert ("install", "demo", str(safe / "my.safe"), None, False) in daemon.asked


def test_cluster_config_sends_the_files_bytes(run: Any, daemon: FakeManager, safe: Path) -> None:
    file = safe / "cluster.xml"
    file.write_bytes(b"<cluster>\xe9</cluster>")
    assert run("cluster", "config", str(file)).exit_code == 0
    assert run("cluster", "confcheck", str(file)).exit_code == 0
    assert ("cluster_config", b"<cluster>\xe9</cluster>", str(file)) in daemon.asked
    assert ("cluster_confcheck", b"<cluster>\xe9</cluster>", str(file)) in daemon.asked
    file.write_bytes(b"broken")
    broken = run("cluster", "config", str(file))
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert broken.stderr == (f"safekit: error: {file}: line 1: no XML (see docs/userconfig.md)\n")
    file.write_bytes(b"x" * 200_000)
    assert "longer than" in run("cluster", "config", str(file)).stderr
    assert "cannot be read: No such file" in run("cluster", "config", "/none.xml").stderr


def test_genkey_prints_only_the_fingerprint_as_data(run: Any, daemon: FakeManager) -> None:
    done = run("cluster", "genkey")
    assert done.stdout == "0123:4567:89ab:cdef\n"
    assert "cluster.key" in done.stderr and "0600" in done.stderr


def test_state_in_words(run: Any, daemon: FakeManager) -> None:
    text = run("state", "-m", "demo").stdout
    assert text.startswith("Module demo, node n1, peer n2\n")
    assert "PRIM Ready  since 20" in text and "SECOND Ready" in text
    assert "resources" not in text and "waits for" not in text


def test_state_says_what_it_waits_for_and_what_ends_it(run: Any, daemon: FakeManager) -> None:
    daemon.states["demo"] = [WAITING]
    text = run("state", "-m", "demo").stdout
    assert "waits for  the start of node n2" in text
    assert "to end it  safekit start -m demo on n2" in text
    assert "peer       UNKNOWN" in text


def test_state_shows_the_progress(run: Any, daemon: FakeManager) -> None:
    daemon.states["demo"] = [SYNCHRONISING]
    text = run("state", "-m", "demo").stdout
    assert (
        "compare: 120 of 20000 files, 3.0 MiB of 5.0 GiB compared, 1.0 MiB copied,"
        " 2.4 MiB/s, about 1 h 2 min left" in text
    )
    assert "compares" not in text


def test_state_tells_how_much_is_compared_and_why(run: Any, daemon: FakeManager) -> None:
    from dataclasses import replace

    assert SYNCHRONISING.progress is not None
    progress = replace(SYNCHRONISING.progress, mode="walk", reason="n2 crashed as primary")
    daemon.states["demo"] = [replace(SYNCHRONISING, progress=progress)]
    text = run("state", "-m", "demo").stdout
    wanted = "names and attributes of all, content where they ask for it: n2 crashed as primary"
    assert f"compares     {wanted}" in text
    shown = json.loads(run("state", "-m", "demo", "-o", "json").stdout)["progress"]
    assert (shown["mode"], shown["reason"]) == ("walk", "n2 crashed as primary")


def test_state_and_why_show_what_a_checker_found(run: Any, daemon: FakeManager) -> None:
    from dataclasses import replace

    note = "ping.router is down: no answer in time"
    daemon.states["demo"] = [replace(WAITING, notes=(note,))]
    for command in ("state", "why"):
        (line,) = (line for line in run(command, "-m", "demo").stdout.splitlines() if note in line)
        assert line.split()[0] == "note"
    assert json.loads(run("why", "-m", "demo", "-o", "json").stdout)["notes"] == [note]


def test_state_v_adds_lanes_record_and_dated_resources(run: Any, daemon: FakeManager) -> None:
    lines = run("state", "-m", "demo", "-v").stdout.splitlines()
    assert "    default  up" in lines and "    private  down" in lines
    assert any(line.split()[:2] == ["epoch", "5"] for line in lines)
    (resource,) = (line.split() for line in lines if "rfs.uptodate" in line)
    assert resource[:2] == ["rfs.uptodate", "up"] and len(resource) == 4


def test_state_of_all_names_the_unconfigured(run: Any, daemon: FakeManager) -> None:
    daemon.states["other"] = [WAITING]
    text = run("state").stdout
    assert text.count("Module ") == 3
    assert "NOT CONFIGURED (safekit config -m raw)" in text


def test_get_prints_the_value_the_automaton_knows_or_what_was_set(
    run: Any, daemon: FakeManager
) -> None:
    assert run("get", "-m", "demo", "-r", "rfs.uptodate").stdout == "up\n"
    assert run("get", "-m", "demo", "-r", "usersetting.boot").stdout == "on\n"
    unknown = run("get", "-m", "demo", "-r", "custom.x")
    assert unknown.exit_code == 1 and "has no resource custom.x" in unknown.stderr


def test_state_as_json_and_yaml(run: Any, daemon: FakeManager) -> None:
    one = json.loads(run("state", "-m", "demo", "-o", "json").stdout)
    assert (one["module"], one["state"], one["status"]) == ("demo", "PRIM", "Ready")
    assert one["resources"]["rfs.uptodate"]["value"] == "up"
    assert one["lanes"] == {"default": "up", "private": "down"}
    assert one["since_unix_s"] == READY.since and one["since"].endswith("Z")
    assert one["record"]["disk"] == "UPTODATE" and one["progress"] is None
    everything = json.loads(run("state", "-o", "json").stdout)
    assert [found["module"] for found in everything["modules"]] == ["demo"]
    assert yaml.safe_load(run("state", "-m", "demo", "-o", "yaml").stdout) == one


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.STOP, 0), (State.WAIT, 1), (State.ALONE, 2), (State.PRIM, 3), (State.SECOND, 4)],
)
def test_state_lq_ends_with_the_states_code(
    run: Any, daemon: FakeManager, state: State, code: int
) -> None:
    daemon.states["demo"] = [snapshot(state, Status.READY)]
    done = run("state", "-lq", "-m", "demo")
    assert (done.exit_code, done.stdout) == (code, f"{state} Ready\n")
    quiet = run("state", "-q", "-m", "demo")
    assert (quiet.exit_code, quiet.stdout) == (code, "")


def test_state_lq_never_takes_an_error_for_a_state(run: Any, daemon: FakeManager) -> None:
    assert run("state", "-lq", "-m", "nope").exit_code == 10
    assert run("state", "-lq").exit_code == 10
    assert run("state", "-m", "nope").exit_code == 1


def test_state_lq_without_daemon(run: Any) -> None:
    assert run("state", "-lq", "-m", "demo").exit_code == 10


def test_waitstart_waits_until_the_module_is_ready(run: Any, daemon: FakeManager) -> None:
    daemon.states["demo"] = [STOPPED, STARTING, READY]
    assert run("waitstart", "-m", "demo").exit_code == 0
    assert [asked[2] for asked in daemon.asked] == [0, 1, 2]


def test_waitstart_fails_with_the_remedy_when_the_module_waits(
    run: Any, daemon: FakeManager
) -> None:
    daemon.states["demo"] = [STARTING, WAITING]
    done = run("waitstart", "-m", "demo")
    assert done.exit_code == 1
    assert done.stderr == (
        "safekit: error: module demo waits for the start of node n2 (safekit start -m demo on n2)\n"
    )


def test_waitstart_of_a_stopped_module_ends(
    run: Any, daemon: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safepy.cli.waiting._STOP_GRACE_S", 0.2)
    daemon.states["demo"] = [STOPPED]
    done = run("waitstart", "-m", "demo")
    assert done.exit_code == 1 and "module demo is stopped (stopped by root)" in done.stderr


def test_waitstop_and_waitstate(run: Any, daemon: FakeManager) -> None:
    daemon.states["demo"] = [READY, STARTING, STOPPED]
    assert run("waitstop", "-m", "demo").exit_code == 0
    assert run("waitstate", "stop", "-m", "demo").exit_code == 0
    assert run("waitstate", "PRIM", "-m", "demo").exit_code == 0
    late = run("waitstate", "SECOND", "-m", "demo", "-t", "0.3")
    assert late.exit_code == 1
    assert "module demo is STOP NotReady after 0.3 seconds" in late.stderr
    assert run("waitstate", "FARM", "-m", "demo").exit_code == 2


@pytest.mark.parametrize("words", [("waitstart",), ("waitstop",), ("waitstate", "PRIM")])
def test_a_wait_ends_in_its_time_although_the_daemon_hangs(
    run: Any, safe: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("safepy.cli.waiting._ANSWER_S", 0.1)
    path = safe / "var" / "run" / "safeadmin.sock"
    path.parent.mkdir()
    # To who asks, a daemon that was stopped (SIGSTOP) is this: the kernel takes the connection.
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(path))
        hanging.listen()
        done = run(*words, "-m", "demo", "-t", "0.2")
    assert done.exit_code != 0
    assert "safeadmin did not answer within 0.3 seconds (systemctl status safeadmin" in done.stderr


def test_loops_limit_is_an_exit_code(run: Any, daemon: FakeManager) -> None:
    assert run("checkloop", "-m", "demo").exit_code == 0
    daemon.reached = True
    assert run("checkloop", "-m", "demo").exit_code == 1
    assert run("incloop", "-m", "demo", "-i", "me").exit_code == 1
    assert run("resetloop", "-m", "demo").exit_code == 0


def test_boot_status_lists_or_picks(run: Any, daemon: FakeManager) -> None:
    assert run("boot", "status").stdout == "demo  on\nraw   off\n"
    assert run("boot", "status", "-m", "raw").stdout == "raw  off\n"
    assert run("boot", "status", "-m", "nope").exit_code == 1


def test_modules_and_their_ids(run: Any, daemon: FakeManager) -> None:
    assert run("module", "list").stdout == "demo\nraw\n"
    assert run("module", "listid").stdout == "demo  1\nraw   9\n"
    (first, second) = json.loads(run("module", "list", "-o", "json").stdout)["modules"]
    assert first["configured"] and second["config_date"] is None


def test_getports_in_the_known_layout(run: Any, daemon: FakeManager) -> None:
    assert run("module", "getports", "-m", "demo").stdout == (
        "List of the ports used by SafeKit\nProcess Ports\nsafeadmin\nport UDP 4800\n"
        "webconsole\nport TCP 9010\nheart\nport UDP 8888\nrfs\nsafenfs_port TCP 5600\n"
    )


def test_confcheck_notes_go_to_standard_error(run: Any, daemon: FakeManager) -> None:
    done = run("confcheck", "-m", "demo")
    assert done.stdout == "the configuration is correct\n"
    assert done.stderr == "note: split brain is possible: there is one lan only\n"


def test_confinfo_shows_what_is_missing_as_a_dash(run: Any, daemon: FakeManager) -> None:
    active, current = run("confinfo", "-m", "demo").stdout.splitlines()
    assert active.split() == ["active", "-", "-", "-"]
    assert current.split()[:3] == ["current", "c0ffee", "1795000000"]


def test_cluster_confinfo_and_state(run: Any, daemon: FakeManager) -> None:
    head, node, key = run("cluster", "confinfo").stdout.splitlines()
    assert head.split() == ["Node", "Signature", "Date", "Lock"]
    assert node.split()[0] == "n1" and node.split()[-1] == "0"
    assert key == "Key fingerprint: 0123:4567:89ab:cdef"
    assert json.loads(run("cluster", "confinfo", "-o", "json").stdout)["nodes"] == ["n1", "n2"]
    assert run("cluster", "state").stdout.splitlines()[1].split()[:4] == [
        "n1",
        "demo",
        "mirror",
        "1",
    ]


def test_printe_keeps_the_line_even_if_it_is_no_text(run: Any, daemon: FakeManager) -> None:
    assert run("printe", "-m", "demo", "file \udcff").exit_code == 0
    assert ("print", "demo", "E", "file \\udcff", "safekit") in daemon.asked


def test_the_environment(run: Any, safe: Path) -> None:
    lines = run("-p", "-m", "demo").stdout.splitlines()
    assert f'SAFE="{safe}/safe"' in lines and f'SAFEVAR="{safe}/var"' in lines
    assert f'SAFEUSERVAR="{safe}/var/modules/demo"' in lines and 'SAFEMODULE="demo"' in lines
    assert not any(line.startswith("SAFEUSER") for line in run("-p").stdout.splitlines())


def test_level(run: Any) -> None:
    heads = [line.split(":")[0] for line in run("level").stdout.splitlines()]
    assert heads == ["Host", "OS", "SafeKit", "License"]


def test_record_is_read_from_its_file(run: Any, safe: Path) -> None:
    from safepy.storage.record import RecordFile

    empty = json.loads(run("record", "-m", "demo", "-o", "json").stdout)
    assert empty["disk"] == "UNCONFIGURED"
    RecordFile(str(safe / "var/modules/demo/state/record")).save(READY.record)
    shown = json.loads(run("record", "-m", "demo", "-o", "json").stdout)
    assert shown["epoch"] == 5 and shown["history"] == [[4, "cd" * 16]]
    lines = run("record", "-m", "demo").stdout.splitlines()
    assert ["history", "4:" + "cd" * 16] in [line.split() for line in lines]
    (safe / "var/modules/demo/state/record").write_bytes(b"\0" * 8192)
    damaged = run("record", "-m", "demo")
    assert damaged.exit_code == 1 and "damaged" in damaged.stderr
