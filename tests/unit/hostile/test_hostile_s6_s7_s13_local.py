"""S6, S7, S11 to S14 on this host: keys, scripts, sockets, files, expressions."""

from __future__ import annotations

import ast
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepy.config.ere import compile_ere
from safepy.config.paths import Paths
from safepy.config.schema import Proc
from safepy.core.replica import ops
from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.patterns import Pattern
from safepy.daemon import site
from safepy.daemon.site import Site
from safepy.dataplane.resync import messages as resync
from safepy.errors import LocalFault, PeerError
from safepy.host.processes import Process, matching
from safepy.host.scripts import script_environment
from safepy.model import Beat, PeerView, Record
from safepy.storage.private import create_private
from safepy.wire import heartbeat, replication, secure
from safepy.worker import messages

SOURCE = Path(__file__).parents[3] / "src" / "safepy"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


# -- S6: keys --------------------------------------------------------------------------------------

KEY = "c0ffee5ec2e7" * 5 + "c0ff"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A real worker process that was given the key, as the daemon gives it."""
    (tmp_path / "data").mkdir()
    log = tmp_path / "output"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    start = f"import os; os.dup2({theirs.fileno()}, 3); from safepy.worker.main import main; main()"
    environment = dict(os.environ, PYTHONPATH=str(SOURCE.parent))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", start],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=tmp_path,
        )
    theirs.close()
    (tmp_path / "state").mkdir()
    setup = messages.Setup(
        step_id=1, module="AM", node="n1", peer="n2", key=KEY, listen=("127.0.0.1", 0),
        dial=("127.0.0.2", 9), paths=[str(tmp_path / "data")], doors=[str(tmp_path / "data")],
        acknowledge_on="apply", acl=False, transfers=1, locktimeout_s=1.0, sendtimeout_s=1.0,
        keep_dir=str(tmp_path / "keep"), state_dir=str(tmp_path / "state"),
    )  # fmt: skip
    try:
        ours.send(messages.encode(setup))
        limit_s = time.monotonic() + 30
        while True:
            assert time.monotonic() < limit_s, log.read_text()
            assert select.select([ours], [], [], 30)[0], log.read_text()
            report = messages.REPORT.decode(ours.recv(1 << 16))
            if isinstance(report, messages.Done):
                assert report.ok, report.detail
                break
        yield process, tmp_path
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        ours.close()


def forms(key: bytes) -> list[bytes]:
    import base64

    return [key, key.hex().encode(), base64.b64encode(key), repr(key).encode()]


def test_s6_the_key_is_in_no_argument_environment_file_or_output_of_a_worker(
    worker: tuple[subprocess.Popen[bytes], Path],
) -> None:
    process, folder = worker
    looked_at = []
    places = [Path(f"/proc/{process.pid}/{name}") for name in ("cmdline", "environ", "comm")]
    places += [path for path in folder.rglob("*") if path.is_file()]
    for place in places:
        content = place.read_bytes()
        looked_at.append(place)
        for form in forms(bytes.fromhex(KEY)):
            assert form not in content, place
    assert len(looked_at) >= 4


def test_s6_a_key_is_not_printed_by_accident() -> None:
    key = bytes.fromhex(KEY)
    holder = Site(Paths(Path("/x"), Path("/y")), None, None, key, "n1")  # type: ignore[arg-type]
    setup = messages.Setup(
        1, "AM", "n1", "n2", KEY, ("a", 1), ("b", 2), [], [], "apply", False, 1, 1.0, 1.0, ""
    )
    sealer = heartbeat.Sealer(key, "AM", "n1", "ab" * 16)
    for each in (holder, setup, sealer, secure.Sealer(key), secure.Opener(key)):
        for form in forms(key):
            assert form.decode("latin-1") not in f"{each!r} {each}"


def test_s6_the_key_file_is_made_private_and_a_public_one_is_refused(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "safe", tmp_path / "var")
    outer = os.umask(0)
    try:
        key = site.make_key(paths)
    finally:
        os.umask(outer)
    assert stat.S_IMODE(paths.cluster_key.stat().st_mode) == 0o600
    assert site.load_key(paths) == key
    for mode in (0o640, 0o604, 0o620, 0o602):
        paths.cluster_key.chmod(mode)
        with pytest.raises(LocalFault, match="open to others"):
            site.load_key(paths)
    paths.cluster_key.chmod(0o600)
    moved = tmp_path / "elsewhere"
    paths.cluster_key.rename(moved)
    paths.cluster_key.symlink_to(moved)
    with pytest.raises(LocalFault):
        site.load_key(paths)


def test_s6_nothing_compares_keys_or_tags_by_hand() -> None:
    """Authenticity is decided by AES-GCM alone, in constant time inside of the library."""
    for path in (*(SOURCE / "wire").glob("*.py"), *(SOURCE / "net").glob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                secrets = {name for name in names if re.search(r"key$|tag$|secret|digest$", name)}
                assert not secrets, f"{path.name}: {ast.unparse(node)}"


# -- S7: no text of the wire is ever run -----------------------------------------------------------


def test_s7_the_words_of_the_protocol_are_these() -> None:
    """A new message has to be looked at: can it make this node run something, or read or write
    outside of the module's trees? Then it may be added here."""
    live = {each.__name__ for each in get_args(replication.AnyMessage)}
    assert live == {
        *("Apply", "Ack", "Completed", "Fault", "Checkpoint", "CheckpointDone", "Resume"),
        *("SyncBegin", "SyncFlush", "Flushed", "SyncFailed", "SyncProgress", "SyncOffer"),
        *("Adopt", "AdoptDone", "SyncAgain", "Leave", "VerifyAsk", "VerifyStop", "MoreNames"),
        *("MoreNamesAre", "Inspect", "Inspected", "VerifyTold", "Owed", "ReadAt", "ReadDone"),
    }
    transfer = {each.__name__ for each in (*get_args(resync.Request), *get_args(resync.Answer))}
    assert transfer >= {"Listing", "Group", "Compare", "Data", "Attributes", "Barrier", "End"}
    operations = {each.__name__ for each in get_args(ops.AnyOp)}
    assert operations == {
        *("Bind", "Forget", "Write", "SetAttr", "Fallocate", "Make", "Tmpfile", "Symlink"),
        *("Link", "Unlink", "Rmdir", "Rename", "SetXattr", "RemoveXattr", "Fsync", "Identify"),
    }


def test_s7_code_that_speaks_with_the_peer_starts_no_process() -> None:
    forbidden = {"subprocess", "system", "popen", "posix_spawn", "execv", "execve", "eval", "exec"}
    forbidden |= {"create_subprocess_exec", "create_subprocess_shell", "pickle", "marshal"}
    for package in ("wire", "net", "dataplane", "core", "storage", "worker"):
        for path in (SOURCE / package).rglob("*.py"):
            tree = parsed(path)
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {
                n.name
                for node in ast.walk(tree)
                if isinstance(node, ast.Import)
                for n in node.names
            }
            assert not names & forbidden, f"{path}: {names & forbidden}"


def test_s7_s14_no_shell_anywhere() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert "shell=True" not in text and "create_subprocess_shell" not in text, path
        assert "os.system(" not in text and "os.popen(" not in text, path


@pytest.mark.parametrize(
    "hostile", ["PATH=/evil", "x\x1b[2J", "$(reboot)", "`id`", "a\nb", "x" * 300]
)
def test_s7_words_of_the_peer_are_refused_or_made_harmless(hostile: str) -> None:
    view = PeerView("n2", "SECOND", "Ready", Record(gen=hostile))  # type: ignore[arg-type]
    session = "ab" * 16
    datagram = heartbeat.Sealer(bytes(32), "AM", "n2", session).seal(
        0, Beat(session, 1, "", 0, view)
    )
    with pytest.raises(PeerError, match="record that is none"):
        heartbeat.Opener(bytes(32), "AM", "n2").open(0, datagram)
    with pytest.raises(PeerError):
        replication.decode(replication.encode(replication.Adopt(1, hostile, "", ())))


def test_s14_a_script_gets_nothing_of_the_daemons_environment() -> None:
    os.environ["SAFEPY_CANARY"] = "secret"
    try:
        given = script_environment({"SAFEMODULE": "AM"}, [("SAFEMODULE", "evil"), ("A", "1")])
    finally:
        del os.environ["SAFEPY_CANARY"]
    assert set(given) == {"PATH", "LANG", "SAFEMODULE", "A"} and given["SAFEMODULE"] == "AM"


# -- S13: files that root makes --------------------------------------------------------------------

#: Written in place on purpose: the file of an installed module, in a folder made for it alone.
OPEN_FOR_WRITING = {
    ("config/module.py", "temporary.open('xb')"),
    ("config/module.py", "path.open('xb')"),
    ("config/module.py", "out.open(info, 'w')"),  # a member of a zip
    ("cli/logs.py", "open(descriptor, 'w', encoding='utf-8')"),  # of a file just made
}


def test_s13_every_file_is_made_with_excl_and_nofollow() -> None:
    checked = 0
    for path in SOURCE.rglob("*.py"):
        place = str(path.relative_to(SOURCE))
        for line in path.read_text().splitlines():
            if "O_CREAT" in line:
                assert "O_EXCL" in line and "O_NOFOLLOW" in line, f"{place}: {line.strip()}"
                checked += 1
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert called not in ("write_text", "write_bytes", "mkstemp", "mktemp"), place
            modes = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            writes = any(isinstance(m, str) and re.fullmatch(r"[wxa]b?\+?", m) for m in modes)
            if called == "open" and writes and "private_opener" not in ast.unparse(node):
                assert (place, ast.unparse(node)) in OPEN_FOR_WRITING
                checked += 1
    assert checked >= 8


def test_s13_nothing_of_ours_lies_in_tmp() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r"/(var/)?tmp\b", node.value), f"{path}: {node.value}"


def test_s13_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for plant in (lambda p: p.symlink_to(victim), lambda p: os.link(victim, p)):
        place = tmp_path / "record.new"
        plant(place)
        os.close(create_private(str(place)))
        assert victim.read_text() == "precious" and not place.is_symlink()
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        place.unlink()


# -- S11: expressions ------------------------------------------------------------------------------

SLOW = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){12}$", "(x+x+)+y", "([a-z]+)*=", "(((a*)*)*)*b"]


@pytest.mark.parametrize("expression", SLOW)
def test_s11_a_name_chosen_with_care_costs_its_length(expression: str) -> None:
    """With Python's own engine each of these takes longer than the universe is old."""
    pattern = Pattern(expression)
    for name in ("a" * 4000 + "!", "x" * 4000, "ab" * 2000 + "="):
        pattern.search(name)


@pytest.mark.parametrize("kind", ["regex", "only"])
def test_s11_what_is_left_out_is_found_in_linear_time(kind: str) -> None:
    """Applications, and a peer, choose the names and paths that notreplicated is compared with."""
    exclusion = Exclusion([(kind, expression) for expression in (*SLOW, "(x+x+)+/y")])
    for name in (b"a" * 250 + b"!", b"x" * 250, b"ab" * 120 + b"="):
        exclusion.excludes((b"x" * 250, name), False)
        exclusion.covers((name, name), True)


@pytest.mark.parametrize(
    "expression", ["(){999999999}", "((){9999}){9999}", "(a{99}){99}", "a" * 2000]
)
def test_s11_expressions_have_bounds_of_their_own(expression: str) -> None:
    with pytest.raises(ValueError):
        Pattern(expression)


@settings(max_examples=200, deadline=None)
@given(st.text("ab|*+?.()[]^$\\{1,2}-x", max_size=12), st.text("abx1", max_size=12))
def test_s11_both_engines_mean_the_same(expression: str, name: str) -> None:
    try:
        linear = Pattern(expression)
    except ValueError:
        return
    try:
        usual = compile_ere(expression)
    except ValueError:
        return
    assert linear.search(name) == (usual.search(name) is not None)


def test_s11_the_processes_of_others_are_matched_in_linear_time() -> None:
    proc = Proc("p", "prim", nameregex="^(a+)+$", argregex="(x+x+)+y")
    assert matching(proc, [Process(1, 0, "a" * 15 + "!", "x" * 4000)]) == []
    assert matching(proc, [Process(1, 0, "a" * 15, "xxxy")]) != []
