"""errd against the real systemd, a handler that speaks to safekit, and the programs of SAFEBIN, on
nodes that scripts/install has made."""

from __future__ import annotations

import pytest
from labkit.lab import Lab
from labkit.modules import PULSE_MS, TIMEOUT_MS, install
from labkit.node import Node
from labkit.safekit import module_log, safekit, wait_state

pytestmark = pytest.mark.lab

CONFIG = f"""\
<safe><service mode="mirror">
  <heart pulse="{PULSE_MS}" timeout="{TIMEOUT_MS}"><heartbeat name="lan1"/></heart>
  <user nicestoptimeout="20" forcestoptimeout="20"/>
  <errd polltimer="1">
    <proc name="toy" service="yes" class="prim" action="restart" restart_services="toy"/>
    <proc name="toyagent" class="agents" action="repair"/>
  </errd>
</service></safe>
"""
UNIT = "[Service]\nExecStart=/usr/local/bin/toyagent 86399\n"
SCRIPTS = {
    "prestart": "#!/bin/sh\nsystemctl stop toy\n",
    "start_prim": '#!/bin/sh\necho "$(basename "$0") $*" >>"$SAFEUSERVAR/calls"\n'
    "systemctl start toy\nsafekit errd enable agents\n",
    "stop_prim": '#!/bin/sh\necho "$(basename "$0") $*" >>"$SAFEUSERVAR/calls"\n'
    'safekit errd disable agents\nsystemctl stop toy\n[ "$1" != force ] ||\n'
    '    safekit kill -name="toyagent" -argregex="86400" -level="9"\n',
    "repair": "#!/bin/sh\nsafekit errd disable agents\n"
    'safekit kill -name="toyagent" -argregex="86400" -level="terminate"\n'
    "/usr/local/bin/toyagent 86400 >/dev/null 2>&1 &\nsafekit errd enable agents\n",
}
CALLS = "/var/safekit/modules/toy/calls"
AGENT = "pgrep -f 'toyagent [8]6400' || true"


def _code(node: Node, *words: str) -> int:
    return node.run(*words, check=False).returncode


def test_services_handlers_and_special_commands(lab: Lab) -> None:
    config = CONFIG.replace('name="toyagent"', 'name="toyagent" argregex="86400"')
    for node in lab.nodes.values():
        node.shell("cp /bin/sleep /usr/local/bin/toyagent")
        node.write("/etc/systemd/system/toy.service", UNIT)
        node.run("systemctl", "daemon-reload")
    install(lab, "toy", config, SCRIPTS)
    n1 = lab["n1"]
    safekit(n1, "prim", "-m", "toy")
    wait_state(n1, "toy", "ALONE Ready")
    # Nobody started the agent but its handler.
    n1.wait_until("an agent", lambda: n1.shell(AGENT).strip() != "", 20)
    assert "Process toyagent not running" in module_log(n1, "toy")
    n1.wait_until(
        "toy is up",
        lambda: safekit(n1, "get", "-r", "proc.toy", "-m", "toy").strip() == "up",
        20,
    )
    n1.run("systemctl", "kill", "-s", "KILL", "toy")
    n1.wait_until(
        "a restart that names the service",
        lambda: "start_prim ALONE ALONE start -Services toy" in n1.shell(f"cat {CALLS}"),
        20,
    )
    wait_state(n1, "toy", "ALONE Ready")
    assert "Service toy not running" in module_log(n1, "toy")
    assert n1.shell("systemctl is-active toy").strip() == "active"
    n1.wait_until("an agent again", lambda: n1.shell(AGENT).strip() != "", 20)
    # What scripts of existing modules call.
    listed = n1.shell("safekit -r processtree list toyagent 86400")
    assert listed.split()[0] == n1.shell(AGENT).strip()
    assert _code(n1, "/opt/safekit/private/bin/boundcmd", "1", "sleep", "20") == 2
    n1.shell("safekit -r errdpoll_running; grep toyagent /var/safekit/errdpoll_reserrd")
    found = n1.shell(
        "/opt/safekit/private/bin/xpathGet '//proc[@service]/@name' "
        "/opt/safekit/private/modules/toy/conf/safeconf.xml"
    )
    assert found == "toy\n"
    report = n1.shell("safekit -r healthcheck.sh")
    assert "[OK] safeadmin answers" in report and "[ERROR]" not in report
    assert "farm" in n1.shell("safekit -r saferpc_send vipd SETGROUPS all all all 2>&1 || true")
    safekit(n1, "stop", "-m", "toy")
    wait_state(n1, "toy", "STOP NotReady")
    assert n1.shell(AGENT).strip() == ""
