"""The programs of SAFEBIN, as processes of their own, with real processes and real files."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from safepy.special.__main__ import run
from safepy.special.gencron import disabled, restored
from safepy.special.table import PROGRAMS, REFUSED

SOURCE = Path(__file__).parents[3] / "src"
LIMIT_S = 20.0
#: Keeps crontabs as files, one for each user, and speaks as Debian's does.
CRONTAB = """#!/bin/sh
[ "$1" = -u ] || exit 64
file=$(dirname "$0")/tabs/$2
case $3 in
-l) [ -e "$file" ] || { echo "no crontab for $2" >&2; exit 1; }; cat "$file" ;;
-) cat >"$file.new" && mv "$file.new" "$file"; echo "$2" >>"$(dirname "$0")/written" ;;
*) exit 64 ;;
esac
"""
TABLE = """# m h dom mon dow command
MAILTO=root
 PATH = /usr/bin:/bin
TEXT = run one two three /opt/app/ four

0 3 * * 1-5 /opt/app/nightly.sh --all % text
@reboot   /opt/app/start.sh
*/5 * * * * /opt/other/run >/dev/null
#*/7 * * * * /opt/app/never.sh
#mine#0 4 * * * /opt/app/of-another-tool.sh
"""


class Special:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.var = root / "var"
        self.var.mkdir()
        (root / "path" / "tabs").mkdir(parents=True)
        crontab = root / "path" / "crontab"
        crontab.write_text(CRONTAB)
        crontab.chmod(0o755)
        self.environment = {
            "PATH": f"{root / 'path'}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "SAFE": str(root / "safe"),
            "SAFEVAR": str(self.var),
        }
        self.started: list[int] = []

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "safepy.special", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """In this process, which is ten times as fast."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run(list(words))
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def process(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def launch(self, name: str, script: str = "") -> int:
        """A copy of sleep (or of a shell) under a name of its own; no child of ours."""
        program = self.root / name
        if not program.exists():
            found = shutil.which("bash" if script else "sleep")
            assert found is not None
            shutil.copy(found, program)
        words = f"-c '{script}'" if script else "600"
        command = f"{program} {words} >/dev/null 2>&1 & echo $!"
        pid = int(subprocess.check_output(["/bin/sh", "-c", command]))
        self.started.append(pid)
        until(lambda: comm(pid) == name)
        return pid


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def special(tmp_path: Path) -> Iterator[Special]:
    made = Special(tmp_path)
    try:
        yield made
    finally:
        for pid in made.started:
            if comm(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_each_has_a_help_with_usage_exit_codes_and_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: {name}")
    assert "Exit code:" in text and "Example:" in text
    wrong = {"healthcheck.sh": ["x"], "errdpoll_running": ["x"]}.get(name, [])
    assert run([name, *wrong]) == (1 if name == "boundcmd" else 2)
    assert capsys.readouterr().err.startswith(f"{name}: error: ")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_why(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "vipd", "SETGROUPS", "all", "all", "all"]) == 1
    assert REFUSED[name] in capsys.readouterr().err


def test_an_unknown_one_names_those_there_are(special: Special) -> None:
    done = special.run("nonsense")
    assert done.returncode == 2 and "boundcmd" in done.stderr
    assert set(special.run("--list").stdout.split()) == {*PROGRAMS, *REFUSED}


# -- boundcmd ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["10", "sh", "-c", "exit 7"], 7),
        (["10", "true"], 0),
        (["10", "sh", "-c", "kill -9 $$"], 137),
        (["10", "/nonexistent"], 127),
        (["10", "/etc"], 126),
        (["0", "true"], 1),
        (["soon", "true"], 1),
        (["nan", "true"], 1),
        (["10"], 1),
    ],
)
def test_boundcmd_ends_as_the_command_does(special: Special, words: list[str], code: int) -> None:
    assert special.process("boundcmd", *words).returncode == code


def test_boundcmd_passes_output_and_arguments(special: Special) -> None:
    done = special.process("boundcmd", "10", "printf", "%s|", "-x", "a b", "--")
    assert done.stdout == "-x|a b|--|"


@pytest.mark.parametrize("trap", ["", 'trap "" TERM; '])
def test_boundcmd_ends_all_that_the_command_started(special: Special, trap: str) -> None:
    began = time.monotonic()
    script = f"{trap}sleep 611 & echo $!; sleep 612 & echo $!; wait; wait"
    done = special.process("boundcmd", "0.5", "bash", "-c", script)
    assert done.returncode == 2
    assert time.monotonic() - began >= 0.5
    pids = [int(each) for each in done.stdout.split()]
    assert len(pids) == 2
    until(lambda: not any(comm(pid) == "sleep" for pid in pids))


def test_boundcmd_that_is_ended_ends_its_command(special: Special) -> None:
    child = subprocess.Popen(
        special.words("boundcmd", "600", "sh", "-c", "echo $$; exec sleep 613"),
        env=special.environment,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    until(lambda: comm(pid) == "sleep")
    child.terminate()
    assert child.wait(LIMIT_S) == 128 + signal.SIGTERM
    until(lambda: not comm(pid))


# -- processtree, errdpoll_running -------------------------------------------------------------


def unique(what: str) -> str:
    return f"{what}{os.getpid() % 100_000}{os.urandom(2).hex()}"


def test_processtree_lists_a_tree_and_kills_it_but_nothing_else(special: Special) -> None:
    name, other = unique("tre"), unique("oth")
    bystander = special.launch(other)
    root = special.launch(name, "sleep 621 & sleep 622 & wait; wait")
    children = Path(f"/proc/{root}/task/{root}/children")
    until(lambda: len(children.read_text().split()) == 2)
    below = [int(each) for each in children.read_text().split()]
    until(lambda: all(comm(pid) == "sleep" for pid in below))
    listed = special.run("processtree", "list", name).stdout.splitlines()
    assert listed[0].startswith(f"{root} {name} ") and listed[0].endswith(")")
    assert [line.split(" ")[:4] for line in listed[1:]] == [
        ["", "", str(pid), "sleep"] for pid in below
    ]
    assert f"(parent={root})" in listed[1]
    everything = special.run("processtree", "list", "all").stdout.splitlines()
    assert {str(root), str(bystander), "1"} <= {line.split()[0] for line in everything}
    by_line = special.run("processtree", "list", "all", f"{other} 60+$").stdout
    assert by_line.split()[:2] == [str(bystander), other] and by_line.count("\n") == 1
    killed = special.run("processtree", "kill", name)
    assert (killed.returncode, killed.stdout.splitlines()) == (0, listed)
    until(lambda: not any(comm(pid) for pid in (root, *below)))
    assert comm(bystander) == other
    again = special.run("processtree", "kill", name)
    assert (again.returncode, again.stdout) == (0, "")


def test_processtree_does_not_kill_its_caller(special: Special) -> None:
    """The script that asks has the expression in its own command line."""
    name = unique("vic")
    victim = special.launch(name)
    words = " ".join(special.words("processtree", "kill", "all", name))
    script = f"{words}; echo survived"
    done = subprocess.run(
        ["bash", "-c", script],
        env=special.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "survived"
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == [str(victim)]
    until(lambda: not comm(victim))


@pytest.mark.parametrize(
    "words", [["kill", "all"], ["kill"], ["show", "x"], ["list", "x", "("], ["list", "a", "b", "c"]]
)
def test_processtree_used_wrongly(special: Special, words: list[str]) -> None:
    done = special.run("processtree", *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_errdpoll_running_writes_what_errd_compares(special: Special) -> None:
    name = unique("pol")
    pid = special.launch(name)
    for _ in range(2):
        assert special.run("errdpoll_running").returncode == 0
    target = special.var / "errdpoll_reserrd"
    (line,) = (line for line in target.read_text().splitlines() if line.startswith(f"{pid} "))
    assert line.startswith(f"{pid} {name} {special.root / name} 600 (parent=")
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in special.var.iterdir()] == ["errdpoll_reserrd"]


# -- gencron -----------------------------------------------------------------------------------


def test_gencron_comments_out_and_restores_the_very_same_crontab(special: Special) -> None:
    tab = special.root / "path" / "tabs" / "oracle"
    tab.write_text(TABLE)

    def gencron(*words: str) -> str:
        done = special.run("gencron", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return tab.read_text()

    without = gencron("del", "oracle", "/opt/app/", "-c", "app elsewhere")
    assert [line for line in without.splitlines() if line.startswith("#app elsewhere#")] == [
        "#app elsewhere#0 3 * * 1-5 /opt/app/nightly.sh --all % text",
        "#app elsewhere#@reboot   /opt/app/start.sh",
    ]
    assert gencron("del", "oracle", "/opt/app/", "-c", "app elsewhere") == without
    assert gencron("add", "oracle", "all", "-c", "another") == without
    assert gencron("add", "oracle", "nightly", "-c", "app elsewhere").count("#app elsewhere#") == 1
    assert gencron("add", "oracle", "all", "-c", "app elsewhere") == TABLE
    assert gencron("del", "oracle", "all").count("#safekit#") == 3
    assert gencron("add", "oracle", "all") == TABLE
    # Nothing to change: nothing is written.
    written = (special.root / "path" / "written").read_text()
    assert gencron("add", "oracle", "all") == TABLE
    assert (special.root / "path" / "written").read_text() == written


def test_gencron_without_a_crontab_or_with_a_broken_one(special: Special) -> None:
    done = special.run("gencron", "del", "nobody", "all")
    assert (done.returncode, done.stdout) == (0, "gencron: nobody has no crontab\n")
    (special.root / "path" / "crontab").write_text("#!/bin/sh\necho 'must be root' >&2; exit 1\n")
    done = special.run("gencron", "del", "nobody", "all")
    assert (done.returncode, done.stderr) == (
        1,
        "gencron: error: crontab of nobody: must be root\n",
    )
    for words in (
        ["del", "-x", "all"],
        ["del", "u", "all", "-c"],
        ["del", "u", "all", "-c", "a\nb"],
    ):
        assert special.run("gencron", *words).returncode == 2


@pytest.mark.parametrize("command", ["", "/opt/app/", "run"])
@pytest.mark.parametrize("table", [TABLE, TABLE.rstrip("\n"), "", "\n\n", "0 1 * *\n@daily\n"])
def test_gencron_there_and_back(table: str, command: str) -> None:
    off = disabled(table, command, "here")
    assert disabled(off, command, "here") == off
    assert restored(off, command, "here") == table
    assert restored(off, "", "here") == table


# -- xpathGet, healthcheck.sh ------------------------------------------------------------------

DOCUMENT = """<safe><service mode="mirror"><user>
<var name="SERVICES" value="front, worker"/><var name="É" value="ü"/></user>
<note>a<b>c</b></note></service></safe>"""


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("//var[@name='SERVICES']/@value", "front, worker\n"),
        ("/safe/service/user/var/@value", "front, worker\nü\n"),
        ("//nothing", ""),
        ("count(//var)", "2\n"),
        ("count(//var) div 4", "0.5\n"),
        ("boolean(//var)", "true\n"),
        ("//note", "ac\n"),
        ("string(//service/@mode)", "mirror\n"),
        ("0 div 0", "nan\n"),
    ],
)
def test_xpathget(
    special: Special, expression: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = special.root / "safeconf.xml"
    file.write_text(DOCUMENT)
    assert run(["xpathGet", expression, str(file)]) == 0
    assert capsys.readouterr().out == found


def test_xpathget_says_what_it_cannot_read(special: Special) -> None:
    file = special.root / "safeconf.xml"
    assert special.run("xpathGet", "//a", str(file)).returncode == 1
    file.write_text("<a>\n<b></a>")
    broken = special.run("xpathGet", "//a", str(file))
    assert broken.returncode == 1 and "line 2: not well-formed" in broken.stderr
    file.write_text(DOCUMENT)
    wrong = special.run("xpathGet", "//[", str(file))
    assert wrong.returncode == 1 and "XPath" in wrong.stderr
    secret = special.root / "secret"
    secret.write_text("hidden")
    file.write_text(f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret}">]><a>&e;</a>')
    assert "hidden" not in special.run("xpathGet", "//a", str(file)).stdout


def test_healthcheck_tells_what_is_missing_and_keeps_it(special: Special) -> None:
    done = special.run("healthcheck.sh")
    assert done.returncode == 1
    kept = (special.var / "healthcheck.txt").read_text()
    assert kept == done.stdout
    lines = kept.splitlines()
    assert "[ERROR] safeadmin administrator daemon not running (systemctl start safeadmin)" in lines
    assert "[WARN] no cluster is configured (safekit cluster config)" in lines
    assert sum(line.startswith("[TEST] ") for line in lines) == 7
    assert {line.split()[0] for line in lines[1:]} <= {"[TEST]", "[OK]", "[WARN]", "[ERROR]"}
