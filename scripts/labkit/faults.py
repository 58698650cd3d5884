"""The faults of tests/e2e/soak.py: what the design promises to survive, one function each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .lab import Lab
from .modules import TIMEOUT_MS
from .victims import DatabaseLoad, WriterLoad

TIMEOUT_S = TIMEOUT_MS / 1000
NFT_RULES = """
table inet torment {
  chain in { type filter hook input priority 0; tcp dport 5600 drop; tcp sport 5600 drop; }
  chain out { type filter hook output priority 0; tcp dport 5600 drop; tcp sport 5600 drop; }
}
"""


class Pain:
    """What faults act on: the lab, its roles, and the dice."""

    def __init__(self, lab: Lab, draw: random.Random) -> None:
        self.lab = lab
        self.draw = draw
        self.load: WriterLoad | DatabaseLoad
        self.prim, self.second = "n1", "n2"

    def dwell(self, least_s: float, most_s: float) -> float:
        seconds = self.draw.uniform(least_s, most_s)
        time.sleep(seconds)
        return seconds

    def other(self, node: str) -> str:
        return "n2" if node == "n1" else "n1"

    def both(self, node: str) -> tuple[str, str]:
        return (node, self.other(node))


@dataclass(frozen=True)
class Fault:
    """`act` does it and says what it did. `second`: may also strike during a return. `stops`:
    the module passes through STOP on the node it strikes. `splits`: both may go on alone."""

    act: Callable[[Pain, str], str]
    second: bool = True
    stops: bool = False
    splits: bool = False


def power_cut(t: Pain, node: str) -> str:
    t.lab[node].power_cut()
    off_s = t.dwell(0, 3 * TIMEOUT_S)
    t.lab[node].power_on()
    return f"power off for {off_s:.1f} s"


def power_cut_both(t: Pain, node: str) -> str:
    for name in t.both(node):
        t.lab[name].power_cut()
    t.dwell(0, TIMEOUT_S)
    t.lab[node].power_on()
    apart_s = t.dwell(0, 2 * TIMEOUT_S)
    t.lab[t.other(node)].power_on()
    return f"both without power, the other one back {apart_s:.1f} s later"


def reboot(t: Pain, node: str) -> str:
    t.lab[node].run("systemctl", "reboot", "--no-block")
    return "orderly reboot"


def poweroff(t: Pain, node: str) -> str:
    t.lab[node].power_off(at_most_s=90)
    off_s = t.dwell(0, 2 * TIMEOUT_S)
    t.lab[node].power_on()
    return f"orderly power off for {off_s:.1f} s"


def short_freeze(t: Pain, node: str) -> str:
    t.lab[node].freeze()
    frozen_s = t.dwell(0.5, TIMEOUT_S - 1)
    t.lab[node].thaw()
    return f"frozen for {frozen_s:.1f} s"


def long_freeze(t: Pain, node: str) -> str:
    t.lab[node].freeze()
    frozen_s = t.dwell(TIMEOUT_S - 1, 6 * TIMEOUT_S)
    t.lab[node].thaw()
    return f"frozen for {frozen_s:.1f} s"


def freeze_both(t: Pain, node: str) -> str:
    for name in t.both(node):
        t.lab[name].freeze()
    frozen_s = t.dwell(1, 3 * TIMEOUT_S)
    t.lab[node].thaw()
    apart_s = t.dwell(0, 1)
    t.lab[t.other(node)].thaw()
    return f"both frozen for {frozen_s:.1f} s, the other one for {apart_s:.1f} s more"


def kill_worker(t: Pain, node: str) -> str:
    t.lab[node].run("pkill", "-KILL", "-f", "[s]afepy.worker", check=False)
    return "SIGKILL to the worker"


def kill_daemon(t: Pain, node: str) -> str:
    t.lab[node].run("pkill", "-KILL", "-x", "safeadmin", check=False)
    pid = t.lab[node].shell("systemctl show --property MainPID --value safeadmin").strip()
    if pid != "0":
        t.lab[node].run("kill", "-KILL", pid, check=False)
    return "SIGKILL to safeadmin"


def kill_application(t: Pain, node: str) -> str:
    t.load.kill(t.lab[node])
    return "SIGKILL to the application, if it runs here"


def restart_service(t: Pain, node: str) -> str:
    t.lab[node].run("systemctl", "restart", "--no-block", "safeadmin")
    return "systemctl restart safeadmin"


def command(verb: str) -> Callable[[Pain, str], str]:
    def act(t: Pain, node: str) -> str:
        done = t.lab[node].run("safekit", verb, "-m", t.load.module, check=False)
        refused = done.stderr.strip().splitlines()[:1]
        return f"safekit {verb}" + (f" (refused: {refused[0]})" if refused else "")

    return act


def stop_and_start(t: Pain, node: str) -> str:
    text = command("stop")(t, node)
    stopped_s = t.dwell(0, 2 * TIMEOUT_S)
    return f"{text}, and start after {stopped_s:.1f} s"


def cut_one_lan(t: Pain, node: str) -> str:
    lan = t.draw.choice(["lan1", "lan2"])
    t.lab[node].cut(lan)
    cut_s = t.dwell(0.5, 4 * TIMEOUT_S)
    t.lab[node].heal(lan)
    return f"{lan} cut for {cut_s:.1f} s"


def blink(t: Pain, node: str) -> str:
    t.lab[node].cut()
    cut_s = t.dwell(0.3, TIMEOUT_S - 2)
    t.lab[node].heal()
    return f"both lans cut for {cut_s:.1f} s"


def cut_both_lans(t: Pain, node: str) -> str:
    t.lab[node].cut()
    cut_s = t.dwell(TIMEOUT_S - 1, 5 * TIMEOUT_S)
    t.lab[node].heal()
    return f"both lans cut for {cut_s:.1f} s"


def drop_replication(t: Pain, node: str) -> str:
    t.lab[node].run("nft", "-f", "-", stdin=NFT_RULES)
    dropped_s = t.dwell(1, 5 * TIMEOUT_S)
    t.lab[node].run("nft", "delete", "table", "inet", "torment")
    return f"replication port dropped for {dropped_s:.1f} s"


def full_disk(t: Pain, node: str) -> str:
    """The secondary's disk: the application must not notice."""
    second = t.second
    t.lab[second].shell(
        "free=$(df --output=avail -B1 /data | tail -1); "
        "fallocate -l $free /data/ballast 2>/dev/null || true; "
        "dd if=/dev/zero of=/data/ballast2 bs=4k 2>/dev/null || true"
    )
    full_s = t.dwell(2, 3 * TIMEOUT_S)
    t.lab[second].run("rm", "-f", "/data/ballast", "/data/ballast2")
    return f"the disk of {second} full for {full_s:.1f} s"


FAULTS = {
    "power_cut": Fault(power_cut),
    "power_cut_both": Fault(power_cut_both, second=False),
    "reboot": Fault(reboot, stops=True),
    "poweroff": Fault(poweroff, stops=True),
    "short_freeze": Fault(short_freeze),
    "long_freeze": Fault(long_freeze),
    "freeze_both": Fault(freeze_both, second=False),
    "kill_worker": Fault(kill_worker),
    "kill_daemon": Fault(kill_daemon),
    "kill_application": Fault(kill_application),
    "restart_service": Fault(restart_service, stops=True),
    "swap": Fault(command("swap")),
    "restart": Fault(command("restart")),
    "stopstart": Fault(command("stopstart")),
    "stop": Fault(stop_and_start, stops=True),
    "cut_one_lan": Fault(cut_one_lan),
    "blink": Fault(blink, second=False),
    "cut_both_lans": Fault(cut_both_lans, second=False, splits=True),
    "drop_replication": Fault(drop_replication),
    "full_disk": Fault(full_disk, second=False),
}
