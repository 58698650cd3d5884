"""The virtual address, as a third host on the lan sees it: where it is, and what becomes of open
connections, by a swap, a power cut and a killed daemon."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from labkit import modules
from labkit.lab import Lab
from labkit.layout import CLIENT
from labkit.pair import kill_daemon
from labkit.procs import LabError, run, wait_until
from labkit.safekit import safekit, wait_pair, wait_state

pytestmark = pytest.mark.lab

MODULE, DIRECTORY, PORT = "app", "/data/app", 7070
#: Of a service that runs on both nodes all the time, whatever the module does.
OTHER_PORT = 7071
VIP6 = "fd00:5afe::50"
#: The announcements after a take-over end after 4 s.
ANNOUNCED_S = 6.0

START = f"""\
#!/bin/sh
/usr/bin/python3 /lab/programs/greeter.py {PORT} </dev/null >/dev/null 2>&1 &
"""
STOP = f"""\
#!/bin/sh
pkill -KILL -f '[g]reeter.py {PORT}'
exit 0
"""
#: Prints the greeting, and then how the connection ended.
CLIENT_PROGRAM = """
import socket, sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
link.settimeout(120)
print(link.makefile().readline().strip(), flush=True)
if len(sys.argv) > 3:
    try:
        print("ended" if not link.recv(1) else "data", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class World:
    """The module on both nodes, and the client."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.vip = lab.layout.address(1, 50)
        for number, node in enumerate(lab.nodes.values(), 1):
            self.give_ipv6(node.name, number)
        self.give_ipv6(CLIENT, 200)
        vip = "".join(
            f'<virtual_addr addr="{address}" where="one_side_alias" connections="on"/>'
            for address in (self.vip, VIP6)
        )
        config = modules.userconfig(DIRECTORY, lans=2).replace(
            "    <rfs ",
            f"    <vip><interface_list><interface><real_interface>{vip}</real_interface>"
            "</interface></interface_list></vip>\n    <rfs ",
        )
        for node in lab.nodes.values():
            node.shell(f"mkdir -p {DIRECTORY}")
            node.popen("/usr/bin/python3", "/lab/programs/greeter.py", str(OTHER_PORT))
        scripts = {"prestart": modules.PRESTART, "start_prim": START, "stop_prim": STOP}
        modules.install(lab, MODULE, config, scripts)

    def give_ipv6(self, host: str, number: int) -> None:
        namespace = self.lab.layout.namespace(host)
        address = f"fd00:5afe::{number:x}/64"
        run("ip", "-n", namespace, "address", "replace", address, "dev", "lan1", "nodad")

    def mac(self, node: str) -> str:
        shown = run("ip", "-n", self.lab.layout.namespace(node), "-o", "link", "show", "lan1")
        words = shown.stdout.split()
        return words[words.index("link/ether") + 1]

    def believed(self, address: str) -> str:
        """The hardware address that the client's tables have, without asking anybody."""
        words = self.lab.client("ip", "neigh", "show", address, "dev", "lan1").stdout.split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""

    def greeting(self, address: str) -> str:
        argv = ["/usr/bin/python3", "-c", CLIENT_PROGRAM, address, str(PORT)]
        return self.lab.client(*argv, check=False).stdout.strip()

    def wait_believed(self, address: str, node: str) -> None:
        what = f"the client believes {address} at {node}"
        wait_until(what, lambda: self.believed(address) == self.mac(node), ANNOUNCED_S)

    def wait_greeting(self, address: str, node: str) -> None:
        wait_until(f"{node} answers", lambda: self.greeting(address) == node, 20.0)

    def hold(self, address: str) -> Held:
        return Held(self.lab, address)

    def here(self, node: str) -> set[str]:
        """Which virtual addresses are on the node."""
        shown = run("ip", "-n", self.lab.layout.namespace(node), "-o", "address", "show").stdout
        return {address for address in (self.vip, VIP6) if f" {address}/" in shown}

    def assert_at(self, node: str) -> None:
        """The clients' tables, what answers, and the nodes' own interfaces say the same."""
        for address in (self.vip, VIP6):
            self.wait_believed(address, node)
            self.wait_greeting(address, node)
        others = {each for each in self.lab.nodes if each != node}
        assert self.here(node) == {self.vip, VIP6}
        assert not any(self.here(each) for each in others)


class Held:
    """A connection of the client that stays open, silent."""

    def __init__(self, lab: Lab, address: str) -> None:
        self._output = lab.shared_path(f"held-{address.replace(':', '-')}-{time.monotonic_ns()}")
        argv = ("/usr/bin/python3", "-c", CLIENT_PROGRAM, address, str(OTHER_PORT), "hold")
        self._process: subprocess.Popen[bytes] = lab.client_popen(*argv, output=self._output)
        wait_until("the client is connected", lambda: len(self.lines()) == 1, 15.0)

    def lines(self) -> list[str]:
        return Path(self._output).read_text().splitlines()

    def ended(self, at_most_s: float) -> str:
        try:
            self._process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            raise LabError("the client's connection is still open") from None
        return self.lines()[-1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def test_clients_find_the_address_where_the_primary_is(lab: Lab) -> None:
    world = World(lab)
    safekit(lab["n2"], "start", "-m", MODULE)
    safekit(lab["n1"], "prim", "-m", MODULE)
    wait_pair(lab, MODULE, "n1", "n2", 60)
    assert world.greeting(world.vip) == world.greeting(VIP6) == "n1"
    world.assert_at("n1")
    held = [world.hold(address) for address in (world.vip, VIP6)]
    wait_until(
        "connections are counted",
        lambda: (
            safekit(lab["n1"], "get", "-r", f"connections.{world.vip}", "-m", MODULE).strip() == "1"
        ),
        25.0,
    )

    # By a swap. Who holds them lives on, and would never tell: the address takes them along.
    safekit(lab["n1"], "swap", "-m", MODULE)
    ends = [each.ended(10.0) for each in held]
    assert set(ends) == {"Connection reset by peer"}, ends
    wait_pair(lab, MODULE, "n2", "n1", 60)
    world.assert_at("n2")

    # By a power cut: nobody says goodbye, and the tables learn by announcements alone.
    world.give_ipv6("n1", 1)
    lab["n2"].power_cut()
    wait_state(lab["n1"], MODULE, "ALONE Ready", at_most_s=30)
    world.assert_at("n1")

    # Its daemon dies: the address goes at once, and comes back with the module.
    lab["n1"].shell("ip monitor address >/tmp/monitor 2>&1 & echo $! >/tmp/monitor.pid")
    kill_daemon(lab["n1"])
    wait_state(lab["n1"], MODULE, "ALONE Ready", at_most_s=30)
    world.assert_at("n1")
    lab["n1"].shell("kill $(cat /tmp/monitor.pid)")
    seen = lab["n1"].shell("cat /tmp/monitor").splitlines()
    assert any(line.startswith("Deleted") and f" {world.vip}/" in line for line in seen), seen

    # An orderly stop, last: nothing is left.
    safekit(lab["n1"], "stop", "-m", MODULE)
    wait_state(lab["n1"], MODULE, "STOP NotReady")
    assert not world.here("n1")
