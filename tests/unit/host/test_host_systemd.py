"""systemd's units by state: what systemctl prints, and what it fails to (14.1)."""

import os
import time
from pathlib import Path

import pytest

from safepy.errors import LocalFault
from safepy.host import systemd
from safepy.host.systemd import Unit, parse, show, unit_name

#: Printed by systemd 255: an alias, a unit that does not exist, one that is started again.
PRINTED = """Id=ssh.service
Names=sshd.service ssh.service
LoadState=loaded
ActiveState=active
SubState=running

Id=nothing.service
Names=nothing.service
LoadState=not-found
ActiveState=inactive
SubState=dead

SubState=auto-restart
ActiveState=activating
LoadState=loaded
Names=flapping.service
Id=flapping.service
"""


def test_parse_knows_all_names_of_a_unit() -> None:
    found = parse(PRINTED)
    assert found["sshd.service"] == found["ssh.service"] == Unit("loaded", "active", "running")
    assert found["nothing.service"] == Unit("not-found", "inactive", "dead")
    assert found["flapping.service"] == Unit("loaded", "activating", "auto-restart")
    assert parse("") == {}


@pytest.mark.parametrize(
    ("active", "sub", "runs"),
    [
        ("active", "running", True),
        ("active", "exited", True),
        ("reloading", "reload", True),
        ("activating", "start", True),
        ("activating", "auto-restart", False),
        ("activating", "auto-restart-queued", False),
        ("deactivating", "stop-sigterm", False),
        ("inactive", "dead", False),
        ("failed", "failed", False),
        ("maintenance", "", False),
        ("", "", False),
    ],
)
def test_which_states_run(active: str, sub: str, runs: bool) -> None:
    assert Unit("loaded", active, sub).runs is runs


def test_the_suffix_is_service() -> None:
    names = ("front", "db@1", "x.timer", "a.b")
    assert [unit_name(name) for name in names] == [
        *("front.service", "db@1.service", "x.timer", "a.b.service")
    ]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def write(stub: Path, text: str) -> None:
    stub.write_text(f"#!/bin/sh\n{text}\n")
    stub.chmod(0o755)


async def test_one_call_for_all_units(stub: Path) -> None:
    write(stub, f'echo "$@" >>{stub}.calls\ncat <<"END"\n{PRINTED}END')
    found = await show(["sshd", "nothing", "unheard", "sshd"], 5)
    assert found == {
        "sshd": Unit("loaded", "active", "running"),
        "nothing": parse(PRINTED)["nothing.service"],
    }
    (call,) = Path(f"{stub}.calls").read_text().splitlines()
    assert call.endswith(" -- nothing.service sshd.service unheard.service")
    assert await show([], 5) == {}


async def test_an_answer_in_pieces_is_read_to_its_end(stub: Path) -> None:
    first, _, rest = PRINTED.partition("\n\n")
    write(stub, f'echo "{first}"\necho\nsleep 0.2\ncat <<"END"\n{rest}END')
    assert set(await show(["ssh", "flapping"], 5)) == {"ssh", "flapping"}


async def test_a_systemd_that_cannot_be_asked(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(stub, "echo 'Failed to connect to bus' >&2\necho more >&2\nexit 1")
    with pytest.raises(LocalFault, match=r"^systemctl: Failed to connect to bus$"):
        await show(["a"], 5)
    monkeypatch.setattr(systemd, "SYSTEMCTL", str(stub.with_name("none")))
    with pytest.raises(LocalFault, match="No such file"):
        await show(["a"], 5)


async def test_one_that_hangs_or_floods_is_ended(
    stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stub, f"echo $$ >{stub}.pid\nexec sleep 60")
    began = time.monotonic()
    with pytest.raises(LocalFault, match=r"does not answer within 0\.5 s"):
        await show(["a"], 0.5)
    assert time.monotonic() - began < 10
    assert not Path("/proc", Path(f"{stub}.pid").read_text().strip()).exists()
    monkeypatch.setattr(systemd, "OUTPUT_BYTES_MAX", 100_000)
    write(stub, "while :; do echo 0123456789012345678901234567890123456789; done")
    with pytest.raises(LocalFault, match="without end"):
        await show(["a"], 10)
