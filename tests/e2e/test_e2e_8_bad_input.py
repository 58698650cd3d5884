"""Point 8: bad input is answered with one clear line and changes nothing."""

from __future__ import annotations

import io
import zipfile

import pytest
from labkit.lab import Lab
from labkit.modules import userconfig
from labkit.pair import Pair
from labkit.procs import CommandError
from labkit.safekit import state

pytestmark = pytest.mark.lab
GOOD = userconfig("/data/app")

#: What is broken, and a word that the answer must contain.
BROKEN = {
    "not xml at all": ("stop it\n", "userconfig.xml"),
    "an element left open": (GOOD.replace("</heart>", ""), "heart"),
    "an unknown element": (GOOD.replace("<rfs ", "<rfz ").replace("</rfs>", "</rfz>"), "rfz"),
    "an unknown attribute": (GOOD.replace("<rfs ", '<rfs colour="red" '), "colour"),
    "a number that is none": (GOOD.replace('pulse="500"', 'pulse="often"'), "pulse"),
    "a lan nobody knows": (GOOD.replace('name="lan2"', 'name="lan9"'), "lan9"),
    "a relative directory": (GOOD.replace('dir="/data/app"', 'dir="data/app"'), "dir"),
    "a directory that is not there": (GOOD.replace("/data/app", "/data/none"), "/data/none"),
    "a value outside the list": (GOOD.replace('async="second"', 'async="third"'), "async"),
    "a typographic quote": (GOOD.replace('mode="mirror"', "mode=\u201dmirror\u201d"), "quot"),
    "an entity": (
        GOOD.replace("<!DOCTYPE safe>", '<!DOCTYPE safe [<!ENTITY x "y">]>'),
        "DOCTYPE",
    ),
    "a thing not built yet": (
        GOOD.replace("<user ", "<farm/>\n    <user "),
        "farm",
    ),
}


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def test_bad_input_is_refused_in_one_line(lab: Lab) -> None:
    """One lab for all: nothing of what is asked here may change it."""
    pair = Pair(lab)
    pair.start()
    n1 = lab["n1"]
    running = n1.shell(f"cat /opt/safekit/private/modules/{pair.module}/conf/userconfig.xml")
    pair("n1", "stop")
    pair.wait("n1", "STOP NotReady")

    for what, (text, word) in BROKEN.items():
        n1.write(f"/opt/safekit/modules/{pair.module}/conf/userconfig.xml", text)
        refused = n1.run("safekit", "config", "-m", pair.module, check=False)
        assert refused.returncode != 0, what
        assert word in one_line(refused.stderr), what
        active = n1.shell(f"cat /opt/safekit/private/modules/{pair.module}/conf/userconfig.xml")
        assert active == running, what

    n1.write(f"/opt/safekit/modules/{pair.module}/conf/userconfig.xml", running)
    pair("n1", "config")
    pair("n1", "start")
    pair.wait_pair("n2", "n1")


def test_broken_packages_and_names_are_refused(lab: Lab) -> None:
    pair = Pair(lab)
    n1 = lab["n1"]
    packages = {
        "noise": b"this is no zip",
        "escape": _zip({"../../etc/evil": b"x", "conf/userconfig.xml": GOOD.encode()}),
        "absolute": _zip({"/etc/evil": b"x", "conf/userconfig.xml": GOOD.encode()}),
        "empty": _zip({}),
    }
    for name, content in packages.items():
        n1.write(f"/root/{name}.safe", content)
        refused = n1.run(
            "safekit", "module", "install", "-m", name, f"/root/{name}.safe", check=False
        )
        assert refused.returncode != 0, name
        one_line(refused.stderr)
    again = n1.run(
        "safekit", "module", "install", "-m", pair.module, "/lab/modules/app.safe", check=False
    )
    assert again.returncode != 0
    assert pair.module in one_line(again.stderr)
    listed = n1.shell("safekit module list").split()
    assert pair.module in listed
    assert not set(packages) & set(listed)
    assert n1.run("test", "-e", "/etc/evil", check=False).returncode == 1


def test_commands_on_what_is_not_there_are_refused(lab: Lab) -> None:
    n1 = lab["n1"]
    for command in (
        ("start", "-m", "nobody"),
        ("config", "-m", "nobody"),
        ("state", "-m", "nobody"),
        ("cluster", "config", "/root/missing.xml"),
        ("nonsense",),
    ):
        refused = n1.run("safekit", *command, check=False)
        assert refused.returncode != 0, command
        assert "Traceback" not in refused.stderr + refused.stdout
    n1.write("/root/broken.xml", "<cluster><lans><lan name='a'/></lans></cluster>")
    before = n1.shell("cat /var/safekit/cluster/cluster.xml")
    refused = n1.run("safekit", "cluster", "config", "/root/broken.xml", check=False)
    assert refused.returncode != 0
    one_line(refused.stderr)
    assert n1.shell("cat /var/safekit/cluster/cluster.xml") == before


def test_a_port_in_use_is_named(lab: Lab) -> None:
    """Both heartbeat addresses of n1 are taken before the module comes."""
    n1 = lab["n1"]
    program = (
        "import socket, sys, time\n"
        "held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in sys.argv[1:]]\n"
        "for s, address in zip(held, sys.argv[1:]): s.bind((address, 8888))\n"
        "time.sleep(600)"
    )
    hog = n1.popen("/usr/bin/python3", "-c", program, *n1.addresses.values())
    try:
        n1.wait_until("the port is taken", lambda: ":8888" in n1.shell("ss -lun"), 10)
        try:
            pair = Pair(lab)
            told = pair.log("n1")
        except CommandError as refused:
            told = one_line(refused.output)
        assert "8888" in told
        assert "Traceback" not in told + n1.shell("journalctl -o cat --no-pager -u safeadmin")
    finally:
        hog.terminate()
        n1.run("pkill", "-KILL", "-f", "held = ", check=False)
        hog.wait(10)


def test_what_the_secondary_had_is_kept_aside(lab: Lab) -> None:
    pair = Pair(lab)
    theirs = pair.files("n2")
    (theirs / "old").mkdir()
    (theirs / "old" / "deep").write_text("of n2\n")
    (theirs / "both").write_text("of n2\n")
    (pair.files("n1") / "both").write_text("of n1\n")
    pair.start()
    assert (theirs / "both").read_text() == "of n1\n"
    assert not (theirs / "old").exists()
    assert pair.kept("n2", "both") == ["of n2\n"]
    assert pair.kept("n2", "old/deep") == ["of n2\n"]
    assert "kept" in pair.log("n2")
    assert state(lab["n2"], pair.module)["state"] == "SECOND"


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
