"""Checkers on real nodes, each until maxloop: a service that is killed (tcp), a cable that is
pulled (ping, intf), a program of the module's own (custom).

Four modules side by side, so that one lab and four rounds do: `web` restarts in place, `route` and
`cable` wait while their lan is away, `probe` stops and starts again. The fourth detection stops a
module on its node for good, and the other one serves; `cable` and `probe` are on one node only, so
that each round comes back to it.
"""

from __future__ import annotations

from functools import partial

import pytest
from labkit import modules
from labkit.lab import Lab
from labkit.layout import CLIENT_NUMBER
from labkit.modules import PULSE_MS, TIMEOUT_MS
from labkit.node import Node
from labkit.safekit import module_log, safekit, wait_pair, wait_state

pytestmark = pytest.mark.lab

PORT = 7080
DIRECTORY = "/data/route"
BROKEN = "/run/probe.broken"
MODULES = ("web", "route", "cable", "probe")
#: Of these the other node has a secondary.
PAIRS = ("web", "route")
ROUNDS = 4

CONFIG = f"""\
<safe><service mode="mirror">
  <heart pulse="{PULSE_MS}" timeout="{TIMEOUT_MS}">
    <heartbeat name="lan1" ident="lan1"/><heartbeat name="lan2" ident="lan2"/>
  </heart>
  <user nicestoptimeout="20" forcestoptimeout="20"/>
  PARTS
  <failover period="500" handle_time="500"/>
</service></safe>
"""
SERVE = f"""\
#!/bin/sh
/usr/bin/python3 /lab/programs/greeter.py {PORT} </dev/null >/dev/null 2>&1 &
until ss -Hltn "sport = :{PORT}" | grep -q .; do sleep 0.1; done
"""
END = f"#!/bin/sh\npkill -KILL -f '[g]reeter.py {PORT}'\nexit 0\n"
NOTHING = "#!/bin/sh\nexit 0\n"
#: As the reference describes one: endless, its module and its resource come as arguments.
PROBE = f"""\
#!/bin/sh
said=
while sleep 0.3; do
    value=up
    [ ! -e {BROKEN} ] || value=down
    [ "$value" = "$said" ] || safekit set -r "$2" -v "$value" -i "$3" -m "$1"
    said=$value
done
"""
#: The start mends it, as most starts do.
MEND = f"#!/bin/sh\nrm -f {BROKEN}\n"


def _install(lab: Lab, module: str, parts: str, **scripts: str) -> None:
    quiet = {"prestart": NOTHING, "start_prim": NOTHING, "stop_prim": NOTHING}
    modules.install(lab, module, CONFIG.replace("PARTS", parts), quiet | scripts)


def _install_all(lab: Lab) -> None:
    client = lab.layout.address(2, CLIENT_NUMBER)
    to = f'<to addr="127.0.0.1" port="{PORT}" interval="1" timeout="1"/>'
    tcp = f'<tcp ident="web" when="prim" action="restart">{to}</tcp>'
    _install(lab, "web", f"<check>{tcp}</check>", start_prim=SERVE, stop_prim=END)
    ping = f'<ping ident="client"><to addr="{client}" interval="1" timeout="1"/></ping>'
    rfs = f'<rfs><replicated dir="{DIRECTORY}" mode="read_only"/></rfs>'
    for node in lab.nodes.values():
        node.shell(f"mkdir -p {DIRECTORY}")
    _install(lab, "route", f"{rfs}<check>{ping}</check>")
    own = f'<to local_addr="{lab["n1"].addresses["lan2"]}" interval="1"/>'
    _install(lab, "cable", f'<check><intf ident="lan2" when="pre">{own}</intf></check>')
    custom = '<custom ident="own" when="prim" exec="probe" arg="ownprobe" action="stopstart"/>'
    _install(lab, "probe", f"<check>{custom}</check>", probe=PROBE, prestart=MEND)


def _server(node: Node) -> str:
    return node.shell(f"pgrep -o -f '[g]reeter.py {PORT}' || true").strip()


def _served_by_another_than(node: Node, before: str) -> bool:
    return _server(node) not in ("", before)


def _stopstarted(node: Node, times: int) -> bool:
    return _times(node, "probe", "Action stopstart from failover rule c_own") >= times


def _why(node: Node, module: str) -> str:
    return safekit(node, "why", "-m", module)


def _times(node: Node, module: str, text: str) -> int:
    return safekit(node, "log", "-m", module, "-s", "1000", "-A").count(text)


def test_each_checker_acts_three_times_and_then_the_module_stops(lab: Lab) -> None:
    _install_all(lab)
    n1, n2 = lab["n1"], lab["n2"]
    for module in MODULES:
        safekit(n1, "prim", "-m", module)
    for module in PAIRS:
        safekit(n2, "start", "-m", module)
    for module in PAIRS:
        wait_pair(lab, module, "n1", "n2")
    for module in ("cable", "probe"):
        wait_state(n1, module, "ALONE Ready")

    # A checker that dies is started again, and nothing else happens.
    n1.run("pkill", "-KILL", "-f", "[o]wnprobe")
    n1.wait_until("said", lambda: "The checker of custom.own died" in module_log(n1, "probe"), 15)
    n1.wait_until("it runs again", lambda: n1.shell("pgrep -f '[o]wnprobe' || true"), 15)

    for turn in range(1, ROUNDS + 1):
        served_by = _server(n1)
        n1.cut("lan2")
        n1.run("kill", "-KILL", served_by)
        n1.shell(f"touch {BROKEN}")
        if turn == ROUNDS:
            break
        for module in ("route", "cable"):
            wait_state(n1, module, "WAIT NotReady")
        wait_state(n2, "route", "ALONE Ready")
        n1.wait_until("another server", partial(_served_by_another_than, n1, served_by), 30)
        wait_state(n1, "web", "PRIM Ready")
        if turn == 1:
            _assert_told_while_it_waits(n1)
        n1.heal("lan2")
        wait_pair(lab, "route", "n2", "n1")
        wait_state(n1, "cable", "ALONE Ready")
        n1.wait_until(
            f"detection {turn} of the program",
            partial(_stopstarted, n1, turn),
            30,
        )
        wait_state(n1, "probe", "ALONE Ready")
        n1.wait_until(
            "tested again",
            lambda: safekit(n1, "get", "-r", "tcp.web", "-m", "web").strip() == "up",
            15,
        )
    for module in MODULES:
        wait_state(n1, module, "STOP NotReady")
        assert "Action stop called by maxloop" in module_log(n1, module)
        told = _why(n1, module)
        assert "stopped by maxloop" in told and f"safekit start -m {module}" in told, told
    for module in PAIRS:
        wait_state(n2, module, "ALONE Ready")
    assert _server(n2) and not _server(n1)
    for module, action in {
        "web": "restart from failover rule t_web",
        "route": "wait from failover rule p_client",
        "cable": "wait from failover rule interface_failure",
        "probe": "stopstart from failover rule c_own",
    }.items():
        assert _times(n1, module, f"Action {action}") == ROUNDS, module


def _assert_told_while_it_waits(node: Node) -> None:
    """What an administrator sees who asks why nothing runs here."""
    for module, resource in {"route": "ping.client", "cable": "intf.lan2"}.items():
        told = _why(node, module)
        shown = safekit(node, "state", "-v", "-m", module)
        for text in (told, shown):
            assert f"{resource} is down: " in text, text
            assert "safekit checker off" in text, text
