"""Two real daemons with replication on one host: each in a mount namespace of its own, where the
same path shows its own directory. The whole product but systemd and a second machine."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "daemon"))

from pair import MODULE, Daemon, config, until

pytestmark = pytest.mark.kernel

MODULE_ID = 38
#: A detection time of 1 s: the worker's beat decides after 2.5 s.
PULSE_MS, TIMEOUT_MS = 200, 1000


class Mirror:
    def __init__(self, root: Path) -> None:
        net = f"127.{os.getpid() % 250 + 1}.{secrets.randbelow(250) + 1}"
        nodes = "".join(f'<node name="n{n}" addr="{net}.{n}"/>' for n in (1, 2))
        cluster = f'<cluster><lans><lan name="default">{nodes}</lan></lans></cluster>'
        key = base64.b64encode(secrets.token_bytes(32)) + b"\n"
        self.data = root / "data"
        self.data.mkdir()
        self.nodes = [Daemon(root, f"n{n}", f"{net}.{n}", key, cluster) for n in (1, 2)]
        for node in self.nodes:
            real = root / node.name / "data"
            real.mkdir()
            node.launcher = [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
                f'mount --bind {real} {self.data} && exec "$0" "$@"',
            ]
        self.n1, self.n2 = self.nodes

    def begin(self, *nodes: Daemon, timeout_ms: int = TIMEOUT_MS) -> None:
        rfs = f'<rfs><replicated dir="{self.data}"/></rfs>'
        # The configuration has to be the same on both nodes: no variable that names the node.
        xml = config(PULSE_MS, timeout_ms, "", rfs).replace("%NODE%", "one")
        for node in nodes or self.nodes:
            node.start()
            node.install(xml, MODULE_ID)
            node.configure()

    def at(self, node: Daemon) -> Path:
        """The replicated directory as processes on `node` see it."""
        assert node.process is not None
        return Path(f"/proc/{node.process.pid}/root{self.data}")

    def worker(self, node: Daemon) -> int:
        """Its process; 0 while there is none."""
        path = node.var / "modules" / MODULE / "state" / "worker.pid"
        try:
            return int(path.read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return 0

    def tree(self, node: Daemon) -> dict[str, bytes]:
        top = self.at(node)
        return {
            str(path.relative_to(top)): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }

    def become(self, one: str, two: str) -> None:
        until(
            lambda: (self.n1.shown, self.n2.shown) == (one, two),
            lambda: self.story(f"wanted {one} and {two}"),
        )

    def story(self, wanted: str) -> str:
        parts = [wanted]
        for node in self.nodes:
            parts += [f"--- {node.name}: {node.shown}", *node.lines(), node.log.read_text()[-3000:]]
        return "\n".join(parts)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    # Not below pytest's own folder: its walk must not meet a mount that a failed test left.
    root = Path(tempfile.mkdtemp(prefix="safepy-pair-", dir="/var/tmp"))
    made = Mirror(root)
    try:
        yield made
    finally:
        for node in made.nodes:
            node.end()
        # The mounts went with their namespaces, unless a test worked in this one.
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        for point in [line.split()[4] for line in reversed(table) if str(root) in line]:
            subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(root, ignore_errors=True)


def pair_up(mirror: Mirror, timeout_ms: int = TIMEOUT_MS) -> None:
    mirror.begin(timeout_ms=timeout_ms)
    mirror.n1.act("prim")
    until(lambda: mirror.n1.shown == "ALONE Ready", lambda: mirror.story("alone"))
    for number in range(100):
        (mirror.at(mirror.n1) / f"before {number}").write_bytes(os.urandom(number * 100))
    mirror.n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")


def test_replication_swap_stop_and_return(mirror: Mirror) -> None:
    pair_up(mirror)
    for number in range(100):
        (mirror.at(mirror.n1) / f"live {number}").write_bytes(os.urandom(number * 100))
    assert len(mirror.tree(mirror.n1)) == 200
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)
    with pytest.raises(OSError, match="Read-only"):
        (mirror.at(mirror.n2) / "forbidden").write_text("x")
    mirror.n1.act("swap")
    mirror.become("SECOND Ready", "PRIM Ready")
    (mirror.at(mirror.n2) / "after the swap").write_text("x")
    mirror.n2.act("stop")
    mirror.become("ALONE Ready", "STOP NotReady")
    (mirror.at(mirror.n1) / "while alone").write_text("x")
    mirror.n2.act("start")
    mirror.become("PRIM Ready", "SECOND Ready")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)
    assert "while alone" in mirror.tree(mirror.n2)


def test_f16_f17_a_killed_worker_on_either_side(mirror: Mirror) -> None:
    pair_up(mirror)
    os.kill(mirror.worker(mirror.n1), signal.SIGKILL)
    mirror.become("SECOND Ready", "PRIM Ready")
    (mirror.at(mirror.n2) / "one").write_text("x")
    before = mirror.worker(mirror.n1)
    os.kill(before, signal.SIGKILL)
    until(
        lambda: (
            (mirror.n1.shown, mirror.n2.shown) == ("SECOND Ready", "PRIM Ready")
            and mirror.worker(mirror.n1) not in (0, before)
        ),
        lambda: mirror.story("a new worker follows"),
    )
    (mirror.at(mirror.n2) / "two").write_text("x")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)


def test_f35b_a_hanging_worker_is_as_good_as_dead(mirror: Mirror) -> None:
    """F35b: only the worker stops; the daemon misses its beat and the other node takes over."""
    pair_up(mirror)
    os.kill(mirror.worker(mirror.n1), signal.SIGSTOP)
    mirror.become("SECOND Ready", "PRIM Ready")
    (mirror.at(mirror.n2) / "one").write_text("x")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)


def test_f35_a_frozen_primary_wakes_up_as_secondary(mirror: Mirror) -> None:
    # Longer than what the stream's keepalive may be late.
    pair_up(mirror, timeout_ms=3_000)
    worker = mirror.worker(mirror.n1)
    mirror.n1.freeze(True)
    os.kill(worker, signal.SIGSTOP)
    try:
        until(lambda: mirror.n2.shown == "ALONE Ready", lambda: mirror.story("take-over"))
        (mirror.at(mirror.n2) / "meanwhile").write_text("x")
    finally:
        os.kill(worker, signal.SIGCONT)
        mirror.n1.freeze(False)
    mirror.become("SECOND Ready", "PRIM Ready")
    assert mirror.tree(mirror.n1) == mirror.tree(mirror.n2)
    assert "meanwhile" in mirror.tree(mirror.n1)


def test_f16b_a_killed_daemon_never_shows_the_bare_directory(mirror: Mirror) -> None:
    """One daemon, in this namespace: its mounts stay when it dies, and are taken over."""
    node, data = mirror.n1, mirror.data
    node.launcher = []
    mirror.begin(node)
    node.act("prim")
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (data / "one").write_text("x")
    node.kill()
    with pytest.raises(OSError, match=r"not connected|Read-only|Software caused connection abort"):
        (data / "two").write_text("x")
    node.start()
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone again"))
    (data / "three").write_text("x")
    node.act("stop")
    until(lambda: node.shown == "STOP NotReady", lambda: mirror.story("stopped"))
    assert sorted(path.name for path in data.iterdir()) == ["one", "three"]
    assert str(data) not in Path("/proc/self/mountinfo").read_text()


def test_the_guard_closes_what_was_active_at_a_crash(mirror: Mirror) -> None:
    node, data = mirror.n1, mirror.data
    node.launcher = []
    mirror.begin(node)
    node.act("prim")
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone"))
    (data / "one").write_text("x")
    node.kill()
    # The host comes back: no mount is left, the record says that the module was active.
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    for point in [line.split()[4] for line in reversed(table) if str(mirror.data.parent) in line]:
        subprocess.run(["umount", "-l", point], check=True)
    (data / "bare").write_text("x")
    environment = {**os.environ, "SAFE": str(node.safe), "SAFEVAR": str(node.var)}
    subprocess.run(
        [sys.executable, "-m", "safepy.daemon.main", "--close-directories"],
        check=True,
        env=environment,
        timeout=30,
    )
    with pytest.raises(OSError, match="Read-only"):
        (data / "two").write_text("x")
    assert (data / "one").read_text() == "x"
    node.start()
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone again"))
    (data / "three").write_text("x")
    node.act("stop")
    until(lambda: node.shown == "STOP NotReady", lambda: mirror.story("stopped"))
    subprocess.run(
        [sys.executable, "-m", "safepy.daemon.main", "--close-directories"],
        check=True,
        env=environment,
        timeout=30,
    )
    (data / "four").write_text("a cleanly stopped module's directory stays usable")


def test_f48_another_file_system_under_the_path_is_refused(mirror: Mirror) -> None:
    """F48: the directory is not the one that was replicated; nothing may start on it."""
    node, data = mirror.n1, mirror.data
    node.launcher = []
    mirror.begin(node)
    node.act("prim")
    until(lambda: node.shown == "ALONE Ready", lambda: mirror.story("alone"))
    node.act("stop")
    until(lambda: node.shown == "STOP NotReady", lambda: mirror.story("stopped"))
    data.rename(data.with_name("gone"))
    data.mkdir()
    node.act("start")
    until(
        lambda: any("is not the tree" in line for line in node.lines()),
        lambda: mirror.story("refused"),
    )
    assert "Ready" not in node.shown.replace("NotReady", "")
