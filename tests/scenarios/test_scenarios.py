"""Stories and the traces they must produce (design-examples 9). Each file opens with the promise
it protects; above `----` stands what happens, below it what the two nodes log and run.

Verbs: with KEY=VALUE.. | pair | ACTION NODE (start, prim, second, stop, swap, restart,
stopstart) | detect NODE ACTION | power off|on NODE | kill daemon|worker NODE | freeze|awake NODE |
cut|join LANE|all | failover on|off NODE | until NODE STATE STATUS | status NODE | run SECONDS |
equal | witness|router lost NODE|all | witness|router back | ACTION fullsync NODE | primforce NODE |
secondforce DATE NODE | rfssync full NODE | rfssync external ROLE UID NODE | syncat NODE (the date
has come) | backup|restore NODE (the whole disk, with the records) | fails SCRIPT NODE |
xml ... (at the beginning: what stands in <service>) | resource NODE NAME VALUE (what a checker
would find) | checker on|off NODE | incloop|resetloop NODE | maintenance on SECONDS NODE |
maintenance off NODE | hangs SCRIPT NODE | disk fault NODE (an input/output error of its tree) |
update NODE (dynamic reconfiguration: the timeout is doubled) | interface gone|back NODE (of the
virtual address, which the nodes have with vip=on) | log NODE TIMES TEXT (so often it has been
logged or run there, whatever the trace below says)
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cluster import NAMES, Cluster
from configured import parameters
from disk import Disk

from safepy.core import events as e
from safepy.core.arbitration import Arbiter, Arbitration
from safepy.core.status import snapshot
from safepy.model import Disk as ModelDisk
from safepy.model import State, Status, SyncPolicy

FOLDER = Path(__file__).parent
STORIES = sorted(FOLDER.glob("*.txt"))
ACTIONS = ("start", "prim", "second", "stop", "shutdown", "swap", "restart", "stopstart")
UNTIL_S = 60.0


def _cluster(options: dict[str, str], configured: list[str]) -> Cluster:
    params = parameters(configured) | {"defaultprim": options.get("defaultprim", "alone")}
    if "arbiter" in options:
        required = tuple(Arbiter(name) for name in options["arbiter"].split("+"))
        params["arbitration"] = Arbitration(required, guarded="n2", watchdog_s=3.0)
    if options.get("failover") == "off":
        params["failover"] = False
    if "syncdelta" in options:
        params["syncdelta_s"] = float(options["syncdelta"])
    for switch in ("syncat", "callbacks"):
        params[switch] = options.get(switch) == "on"
    if options.get("rfs") == "off":
        params["has_rfs"] = False
    params["has_vip"] = options.get("vip") == "on"
    params["automatic_reboot"] = options.get("automatic_reboot") == "on"
    lanes = ("default", "flow") if options.get("lanes") == "2" else ("default",)
    if options.get("mode") == "light":
        lanes = ()
        params |= {"mode": "light", "has_rfs": False}
    cluster = Cluster(0, lanes=lanes, write_every_s=0.5, **params)
    for node in cluster.nodes.values():
        node.script_s = (0.1, 0.1)
        node.save_s = (0.005, 0.005)
        node.checkers.delay_s = (0.5, 0.5)
    for lane in cluster.network.lanes.values():
        lane.delay_s = (0.001, 0.001)
    cluster.network.stream_delay_s = (0.001, 0.001)
    cluster.network.stream_notice_s = (0.05, 0.05)
    cluster.sync_s = (1.0, 1.0)
    cluster.arbiters.delay_s = (0.01, 0.01)
    cluster.commit_s, cluster.flush_s, cluster.checkpoint_s = (0.001,) * 2, (0.01,) * 2, 5.0
    return cluster


class Story:
    """Plays the lines above the `----`."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [line for line in lines if line.strip() and not line.startswith("#")]
        options: dict[str, str] = {}
        if self.lines and self.lines[0].startswith("with "):
            options = dict(word.split("=") for word in self.lines.pop(0).split()[1:])
        configured: list[str] = []
        while self.lines and self.lines[0].startswith("xml "):
            configured.append(self.lines.pop(0).removeprefix("xml "))
        self.has_rules = bool(configured)
        self.cluster = _cluster(options, configured)
        self.began = 0.0
        self.backups: dict[str, Disk] = {}

    def play(self) -> str:
        for line in self.lines:
            self.cluster.story.append((self.cluster.clock.now, "--", line))
            self._verb(line.split())
        return "\n".join(self._trace())

    def _verb(self, words: list[str]) -> None:
        cluster = self.cluster
        match words:
            case ["pair"]:
                cluster.form_pair()
                cluster.run(2.0)
                cluster.story.clear()
                self.began = cluster.clock.now
            case [action, node] if action in ACTIONS:
                cluster.act(node, action)
            case [action, "fullsync", node] if action in ACTIONS:
                cluster.nodes[node].happen(e.ActionRequested(action, "root", fullsync=True))
            case ["primforce", node]:
                cluster.act(node, "primforce")
            case ["secondforce", date, node]:
                since = datetime.fromisoformat(date).timestamp()
                cluster.nodes[node].happen(e.ActionRequested("secondforce", "root", since=since))
            case ["rfssync", "full", node]:
                policy = SyncPolicy("full", why="rfssync full")
                cluster.nodes[node].happen(e.PolicySet(policy))
            case ["rfssync", "external", role, uid, node]:
                cluster.nodes[node].happen(e.PolicySet(SyncPolicy("external", role, uid)))
            case ["syncat", node]:
                cluster.nodes[node].happen(e.SyncDue(True))
            case ["backup", node]:
                self.backups[node] = cluster.nodes[node].disk.snapshot()
            case ["restore", node]:
                cluster.nodes[node].disk = self.backups[node]
                cluster.checks.put_back(cluster.nodes[node])
            case ["interface", gone, node]:
                cluster.nodes[node].interface_gone = gone == "gone"
            case ["fails", script, node]:
                cluster.nodes[node].failing.add(script)
            case ["detect", node, action]:
                cluster.act(node, action, who="errd", identity="errd")
            case ["power", "off", node]:
                cluster.nodes[node].power_off()
            case ["power", "on", node]:
                cluster.nodes[node].power_on()
            case ["hangs", script, node]:
                cluster.nodes[node].hanging.add(script)
            case ["disk", "fault", node]:
                worker = cluster.nodes[node].worker
                assert worker is not None
                worker.report(e.DiskFault(worker.epoch, ModelDisk.OUTDATED, "input/output error"))
            case ["maintenance", "on", seconds, node]:
                until = cluster.nodes[node].clock_now() + float(seconds)
                cluster.nodes[node].happen(e.MaintenanceSet(until, "new disks", "root"))
            case ["maintenance", "off", node]:
                cluster.nodes[node].happen(e.MaintenanceSet(None, "", "root"))
            case ["update", node]:
                params = cluster.nodes[node].params
                lanes = tuple(lane._replace(timeout_s=2 * lane.timeout_s) for lane in params.lanes)
                changed = replace(params, lanes=lanes, config_digest="other")
                cluster.nodes[node].params = changed
                cluster.nodes[node].reconfigured()
            case ["kill", "daemon", node]:
                cluster.nodes[node].kill_daemon(1.0)
            case ["kill", "worker", node]:
                cluster.nodes[node].kill_worker()
            case ["freeze", node]:
                cluster.nodes[node].freeze()
            case ["awake", node]:
                cluster.nodes[node].awake()
            case ["cut", "all"]:
                cluster.network.cut_lanes(*NAMES)
                cluster.cut_stream()
            case ["cut", lane]:
                cluster.network.lanes[lane].cut.update(NAMES)
            case ["join", "all"]:
                for each in cluster.network.lanes.values():
                    each.cut.clear()
                cluster.network.stream_cut = False
            case ["join", lane]:
                cluster.network.lanes[lane].cut.clear()
            case ["witness", "lost", "all"]:
                cluster.arbiters.witness_cut.update(NAMES)
            case ["witness", "lost", node]:
                cluster.arbiters.witness_cut.add(node)
            case ["witness", "back"]:
                cluster.arbiters.witness_cut.clear()
            case ["router", "lost", "all"]:
                cluster.arbiters.router_cut.update(NAMES)
            case ["router", "lost", node]:
                cluster.arbiters.router_cut.add(node)
            case ["router", "back"]:
                cluster.arbiters.router_cut.clear()
            case ["failover", on, node]:
                cluster.nodes[node].happen(e.FailoverSet(on == "on"))
            case ["resource", node, name, value]:
                cluster.nodes[node].checkers.becomes(name, value)
            case ["checker", on, node]:
                cluster.nodes[node].checkers.switch(on == "on")
            case ["incloop" | "resetloop" as change, node]:
                event = e.LoopChanged(change.removesuffix("loop"), "handler")
                cluster.nodes[node].happen(event)
            case ["until", node, state, status]:
                self._until(node, State(state), Status(status))
            case ["status", node]:
                self._status(node)
            case ["log", node, times, *words]:
                self._log(node, int(times), " ".join(words))
            case ["run", seconds]:
                cluster.run(float(seconds))
            case ["equal"]:
                cluster.write_every_s = 0.0
                cluster.run(1.0)
                assert cluster.quiet, cluster.tail()
                cluster.checks.at_rest()
            case _:
                raise ValueError(" ".join(words))

    def _until(self, node: str, state: State, status: Status) -> None:
        reached = self.cluster.until(lambda: self.cluster.is_shown(node, state, status), UNTIL_S)
        assert reached, f"{node} is not {state} {status}\n{self.cluster.tail()}"

    def _log(self, node: str, times: int, text: str) -> None:
        found = sum(text in said for _, name, said in self.cluster.story if name == node)
        assert found == times, f"{text!r}: {found} times on {node}\n{self.cluster.tail(200)}"

    def _status(self, node: str) -> None:
        state = self.cluster.nodes[node].state
        assert state is not None
        shown = snapshot(state, 0.0)
        text = f"= {shown.state} {shown.status}: {shown.reason}"
        if shown.waiting_for:
            text += f" | waits for: {shown.waiting_for}"
        if shown.remedy:
            text += f" | {shown.remedy}"
        self.cluster.noted(self.cluster.nodes[node], text)

    def _trace(self) -> list[str]:
        lines = []
        for moment, node, text in self.cluster.story:
            if node == "--":
                lines.append(f"         {'> ' + text}")
            elif _worth_telling(text) or (self.has_rules and "Implicit_wakeup" in text):
                lines.append(f"{moment - self.began:7.2f}  {node}  {text}")
        return lines


def _worth_telling(text: str) -> bool:
    if text.startswith(("I ", "E Remote state")):
        return False
    return not text.startswith("  ") or text.startswith(("  run", "  the address"))


def _rewrite_asked(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite-scenarios", default=False))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    above, _, expected = path.read_text().partition("----\n")
    trace = Story(above.splitlines()).play()
    if os.environ.get("REWRITE_SCENARIOS") or _rewrite_asked(request):
        path.write_text(f"{above}----\n{trace}\n")
        return
    assert trace == expected.rstrip("\n")


def test_there_are_scenarios() -> None:
    assert len(STORIES) >= 20
