"""Every command of the reference's section 13 with its forms and options: carried out, or refused
by name with the reason."""

from __future__ import annotations

import shlex
import socket
from typing import Any

import click
import pytest
from fake_manager import FakeManager
from test_cli_help import parsed

from safepy.cli.context import App
from safepy.cli.table import WHERE, every
from safepy.cli.unsupported import FORMS, OPTIONS, REASONS

#: What is carried out, as it is typed; @ stands for an absolute path that does not exist yet.
CARRIED_OUT = """
    start -m demo
    waitstart -m demo
    stop -m demo
    stop -m demo -i checker
    waitstop -m demo -t 0
    waitstate -m demo STOP -t 0
    waitstate -m demo ALONE -t 0
    waitstate -m demo UP -t 0
    waitstate -m demo PRIM
    waitstate -m demo SECOND -t 0
    shutdown
    restart -m demo
    restart -m demo -i checker
    stopstart -m demo
    stopstart -m demo -i checker
    forcestop -m demo
    swap -m demo
    swap nosync -m demo
    swap -m demo -i checker
    prim -m demo
    prim fullsync -m demo
    second -m demo
    second fullsync -m demo
    primforce -m demo
    secondforce -d 2026-01-02 -m demo --yes
    update -m demo
    get -m demo -r rfs.uptodate
    set -m demo -r custom.x -v up
    set -m demo -r custom.x -v up -n
    set -m demo -r custom.x -v up -l
    set -m demo -r custom.x -v up -i checker
    level
    level -m demo
    state
    state -m demo
    state -m demo -v
    log -m demo
    log -m demo -s 10
    log -m demo -A
    log -m demo -l en
    logview -m demo
    logview -m demo -s 10 -A -l en
    logsave -m demo @
    logsave -m demo -A -l en @
    printi -m demo text
    printe -m demo text
    printw -m demo text
    cmdlog
    -p
    module install -m demo
    module install -m demo -M 7 -r mirror.safe
    module uninstall -m demo
    module package -m demo @
    module list
    module listid
    module getports -m demo
    module getports -i 1
    config -m demo
    confcheck -m demo
    confinfo -m demo
    deconfig -m demo
    boot on -m demo
    boot off -m demo
    boot status
    boot status -m demo
    errd off -m demo
    errd on -m demo
    errd suspend -m demo
    errd resume -m demo
    errd enable prim -m demo
    errd disable prim -m demo
    errd list -m demo
    checker off -m demo
    checker on -m demo
    failover off -m demo
    failover on -m demo
    kill -name=n -argregex=re -level=test
    kill -name=n -level=terminate
    kill -name=n -level=9
    kill -name=n -level=15
    incloop -m demo -i handler
    resetloop -m demo
    resetloop -m demo -i handler
    checkloop -m demo
    clean -m demo
    clean all -m demo
    clean log -m demo
    clean process -m demo
    clean resource -m demo
    rfsdiff -m demo
    rfsverify -m demo
    rfssync -m demo
    rfssync full -m demo
    rfssync external prim uid -m demo
    rfssync external second uid -m demo
    rfssync -d prim uid -m demo
    rfssync -d second uid -m demo --yes
    cluster config
    cluster confinfo
    cluster deconfig
    cluster state
    cluster genkey
    dump -m demo
    snapshot -m demo @
"""

#: What is refused, and a word of the reason.
REFUSED = {
    "-H * state": "between nodes: follows",
    "-H n1,n2 -E demo": "between nodes: follows",
    "-H * -G": "between nodes: follows",
    "-E demo": "between nodes: follows",
    "-G": "between nodes: follows",
    "log -m demo -l fr": "the log is in English",
    "logsave -m demo -l ja /none": "the log is in English",
    "module genkey -m demo": "cluster key",
    "module delkey -m demo": "cluster key",
    "boot webon": "web service follows",
    "boot weboff": "web service follows",
    "boot webstatus": "web service follows",
    "boot snmpon": "no SNMP agent",
    "boot snmpoff": "no SNMP agent",
    "boot snmpstatus": "no SNMP agent",
    "webserver start": "web service follows",
    "webserver stop": "web service follows",
    "webserver restart": "web service follows",
    "webservercfg -passwd p -user u": "web service follows",
    "webservercfg -rcmdpasswd p -rcmduser u": "web service follows",
    "safeagent start": "no SNMP agent",
    "safeagent check": "no SNMP agent",
    "notification enable": "e-mail agent follows",
    "notification disable": "e-mail agent follows",
    "notification status": "e-mail agent follows",
    "uninstall": "scripts/install --uninstall",
    "uninstall -all": "scripts/install --uninstall",
    "cluster config file.zip": "between nodes: follows",
    "cluster config lock": "between nodes: follows",
    "cluster config unlock": "between nodes: follows",
    "cluster config /x.xml lock": "between nodes: follows",
    "cluster delkey": "genkey --force",
    "cluster create 10.0.0.1 10.0.0.2": "cluster.xml",
}


def commands() -> list[str]:
    return [line.strip() for line in CARRIED_OUT.splitlines() if line.strip()]


COMMANDS = dict(every())
#: What needs no daemon: it answers from files.
FROM_FILES = ("level", "log", "logview", "logsave", "cmdlog", "-p", "dump", "snapshot")


def command_of(typed: str) -> click.Command | None:
    """The longest name of a command with which this begins; None: an option of the program."""
    plain = typed.replace("-m demo", "").split()
    names = [" ".join(plain[:count]) for count in (2, 1)]
    return next((COMMANDS[name] for name in names if name in COMMANDS), None)


@pytest.mark.parametrize("typed", commands())
def test_it_is_carried_out(
    run: Any, daemon: FakeManager, safe: Any, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if typed.startswith("logview"):  # it goes on until somebody ends it

        def ctrl_c(_s: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("safepy.cli.logs.time.sleep", ctrl_c)
    words = [str(safe / "new") if word == "@" else word for word in typed.split()]
    done = run(*words)
    command = command_of(typed)
    if command is not None and all(option.name != "form" for option in command.params):
        assert not done.stdout, "what prints takes -o"
    late = "-t" in words and done.exit_code == 1 and "after 0 seconds" in done.stderr
    ended = words[0] == "logview" and done.exit_code == 130
    assert done.exit_code == 0 or late or ended, done.output


@pytest.mark.parametrize("typed", commands())
def test_a_daemon_that_hangs_is_left_in_time(
    run: Any, safe: Any, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the request and never answers."""
    monkeypatch.setenv("SAFEKIT_ANSWER_S", "0.05")
    words = [str(safe / "new") if word == "@" else word for word in typed.split()]
    if words[0] in FROM_FILES:
        return
    folder = safe / "var" / "run"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "safeadmin.sock"))
        listening.listen()
        done = run(*words)
    assert done.exit_code == 1 and done.stdout == "", done.output
    assert done.stderr.startswith("safekit: error: safeadmin did not answer within 0.05 seconds (")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "typed", [typed for typed in commands() if "-m demo" in typed and typed.split()[0] != "logview"]
)
def test_m_may_stand_anywhere(typed: str) -> None:
    before, _, after = typed.partition("-m demo")
    rest = [*before.split(), *after.split()]
    wanted = command_of(typed)
    with_value = [
        option
        for each in ([] if wanted is None else wanted.params)
        if isinstance(each, click.Option) and not each.is_flag
        for option in each.opts
    ]
    for place in range(len(rest) + 1):
        if place and rest[place - 1] in with_value:
            continue  # what stands there is the value
        words = [*rest[:place], "-m", "demo", *rest[place:]]
        name, context = parsed(shlex.join(["safekit", *words]))
        found = context.find_object(App)
        assert found is not None and found.named == "demo", words
        assert wanted is None or COMMANDS[name] is wanted, words


@pytest.mark.parametrize(("typed", "reason"), REFUSED.items())
def test_it_is_refused_by_name_with_the_reason(
    run: Any, daemon: FakeManager, typed: str, reason: str
) -> None:
    done = run(*typed.split())
    assert done.exit_code == 1 and done.stdout == "", done.output
    assert "is not supported yet: " in done.stderr and reason in done.stderr
    assert not daemon.asked


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_state_lq(run: Any, daemon: FakeManager, code: int) -> None:
    from dataclasses import replace

    from safepy.model import STATE_CODES

    wanted = next(state for state, number in STATE_CODES.items() if number == code)
    daemon.states["demo"] = [replace(daemon.states["demo"][0], state=wanted)]
    done = run("state", "-m", "demo", "-lq")
    assert (done.exit_code, done.stdout) == (code, f"{wanted} Ready\n")


def test_the_table_names_every_command_of_ours_and_every_refusal() -> None:
    """So that what is added, or taken away, is looked up in the reference."""
    ours = {"maintenance", "plan", "record", "resource", "why"}
    typed = {words.split()[0] for words in commands()} - {"-p"}
    assert typed | ours == set(WHERE)
    refused = " ".join(REFUSED)
    for name in (*OPTIONS, *REASONS, *(form.replace("FILE", "file") for form in FORMS)):
        assert name in refused, name
