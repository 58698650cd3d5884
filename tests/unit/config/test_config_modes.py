"""What a light module has and has not; the heartbeats' port; virtual host names and their file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from safepy.config import userconfig, vhost
from safepy.config.check import check_against
from safepy.config.schema import Cluster, VirtualHost
from safepy.errors import ConfigError

FILE = "userconfig.xml"


def light(children: str = "<user/>", attributes: str = "") -> bytes:
    return f'<safe>\n<service mode="light" {attributes}>\n{children}\n</service></safe>'.encode()


def refusal(data: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        userconfig.parse(data, FILE, {})
    return caught.value.message


def test_a_light_module_needs_nothing_but_its_service() -> None:
    config = userconfig.parse(b'<safe><service mode="light"/></safe>', FILE, {})
    assert (config.mode, config.heartbeats, config.user) == ("light", (), None)
    # The example of a follower of a local leader (reference: userconfig 23.17).
    follower = light(
        '<user/><errd><proc name="sidecar" service="yes" action="restart" class="both"/></errd>'
        '<check><module name="leader"/></check>',
        'boot="on" maxloop="5" automatic_reboot="on"',
    )
    config = userconfig.parse(follower, FILE, {})
    assert (config.boot, config.maxloop, config.automatic_reboot) == ("on", 5, True)
    assert config.errd.procs[0].checker_class == "both"
    assert check_against(config, Cluster(()), "n1") == "", "nobody is on the other side"


@pytest.mark.parametrize(
    ("children", "tag"),
    [
        ('<heart><heartbeat name="default"/></heart>', "heart"),
        ('<rfs><replicated dir="/srv/x"/></rfs>', "rfs"),
        ("<vip/>", "vip"),
    ],
)
def test_what_is_of_a_pair_is_refused_by_name(children: str, tag: str) -> None:
    assert refusal(light(children)).startswith(
        f'{FILE} line 3: <{tag}> in <service mode="light">: allowed only with mode="mirror"'
    )


def test_farms_and_roles_are_refused_in_a_light_module() -> None:
    assert "<farm> is not supported yet" in refusal(light("<farm/>"))
    for name, value in (("failover", "off"), ("defaultprim", "n1")):
        said = refusal(light("", f'{name}="{value}"'))
        assert said.startswith(f'{FILE} line 2: <service> attribute {name}="{value}"'), said


def mirror(heart: str, rest: str = "") -> bytes:
    beat = '<heartbeat name="default"/>'
    service = f'<service mode="mirror"><heart {heart}>{beat}</heart>{rest}</service>'
    return f"<safe>{service}</safe>".encode()


def test_the_port_of_the_heartbeats_may_be_given() -> None:
    assert userconfig.parse(mirror('port="9001"'), FILE, {}).port == 9001
    assert userconfig.parse(mirror('permanent_arp="off"'), FILE, {}).port == 0
    one, two = (userconfig.parse(mirror(heart), FILE, {}) for heart in ('port="9001"', ""))
    assert one.digest != two.digest, "both nodes have to use the same"


def test_virtual_host_names() -> None:
    given = '<user/><vhost><virtualhostname name="appsrv" envfile="vhostenv"/></vhost>'
    assert userconfig.parse(mirror("", given), FILE, {}).vhosts == (
        VirtualHost("appsrv", "vhostenv", "prim"),
    )
    for bad, says in (
        ('name="a b" envfile="x"', 'attribute name="a b"'),
        ('name="a" envfile="../x"', 'attribute envfile="../x"'),
        ('name="a" envfile="/etc/profile"', 'attribute envfile="/etc/profile"'),
        ('name="a" envfile="start_prim"', "is no name of a script"),
        ('name="a" envfile="x" when="sec"', 'attribute when="sec"'),
    ):
        said = refusal(mirror("", f"<user/><vhost><virtualhostname {bad}/></vhost>"))
        assert says in said, said
    assert "<virtualhostname> is missing" in refusal(mirror("", "<user/><vhost/>"))


def _named(folder: Path, script: str, *arguments: str) -> list[str]:
    """What a script sees that sources the file: its host name by the kernel, its arguments."""
    path = folder / script
    path.write_text('#!/bin/sh\n. "${0%/*}/vhostenv"\necho "$(uname -n)" "$@"\n')
    path.chmod(0o755)
    return subprocess.run(
        [str(path), *arguments], capture_output=True, text=True, check=True, timeout=20
    ).stdout.split()


def test_the_file_gives_a_script_and_its_children_the_name(tmp_path: Path) -> None:
    own = os.uname().nodename
    (tmp_path / "vhostenv").write_bytes(vhost.environment_file(VirtualHost("appsrv", "vhostenv")))
    assert _named(tmp_path, "start_prim", "WAIT", "ALONE", "start") == [
        *("appsrv", "WAIT", "ALONE", "start")
    ]
    assert _named(tmp_path, "stop_prim", "force", "WAIT", "STOP", "stop")[0] == "appsrv"
    assert _named(tmp_path, "start_both", "WAIT", "PRIM", "start")[0] == "appsrv"
    assert _named(tmp_path, "tool")[0] == "appsrv", "no role at all: the name holds"
    assert _named(tmp_path, "start_second", "SECOND", "SECOND", "start")[0] == own
    assert _named(tmp_path, "start_both", "WAIT", "SECOND", "start")[0] == own
    assert os.uname().nodename == own, "nobody else has it"
    both = VirtualHost("appsrv", "vhostenv", "both")
    (tmp_path / "vhostenv").write_bytes(vhost.environment_file(both))
    assert _named(tmp_path, "start_second", "SECOND", "SECOND", "start")[0] == "appsrv"
