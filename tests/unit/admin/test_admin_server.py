from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_manager import FakeManager, serving

from safepy.admin import server as server_module
from safepy.admin.client import Client
from safepy.admin.server import AdminServer, whence
from safepy.errors import ConfigError, DaemonAbsent, LocalFault, RequestRefused, SafekitError
from safepy.model import Snapshot
from safepy.wire.admin import MAX_REQUEST_BYTES, decode_reply


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager()


@pytest.fixture
def path(manager: FakeManager, tmp_path: Path) -> Iterator[str]:
    where = str(tmp_path / "run" / "safeadmin.sock")
    with serving(manager, where):
        yield where


def raw(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(path)
    return connection


def line_of(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return received


def test_an_answer_has_its_type(path: str) -> None:
    (found,) = Client(path).call("state", "demo")
    assert isinstance(found, Snapshot) and found.state == "PRIM"


def test_only_the_owner_reaches_the_socket(path: str) -> None:
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_a_folder_that_was_open_is_closed(manager: FakeManager, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o777)
    with serving(manager, str(folder / "s")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_stranger_is_sent_away_whatever_the_socket_allows(
    manager: FakeManager, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = server_module.Caller(pid=1, uid=4711, groups=frozenset({4711}))
    monkeypatch.setattr(server_module, "_caller", lambda _connection: stranger)
    with pytest.raises(SafekitError, match="permission denied"):
        Client(path).call("shutdown")
    assert not manager.asked and not manager.commands


def test_a_member_of_the_group_is_served_under_its_own_name(
    manager: FakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = server_module.Caller(pid=1, uid=4711, groups=frozenset({0}))
    monkeypatch.setattr(server_module, "_caller", lambda _connection: member)
    where = str(tmp_path / "run" / "s")

    async def scene() -> None:
        server = AdminServer(manager, where, group="root")
        await server.start()
        try:
            request = b'{"verb":"shutdown","user":"root"}\n'
            reader, writer = await asyncio.open_unix_connection(where)
            writer.write(request)
            assert decode_reply(await reader.readline()).ok
            writer.close()
        finally:
            await server.close()

    asyncio.run(scene())
    assert manager.asked == [("shutdown", "uid 4711")]
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o710


def test_the_kernel_says_who_calls(path: str) -> None:
    caller_, other = socket.socketpair()
    with caller_, other:
        caller = server_module._caller(caller_)
    assert (caller.pid, caller.uid) == (os.getpid(), os.geteuid())
    assert os.getegid() in caller.groups


def test_refusals_come_with_hint_and_exit_code(manager: FakeManager, path: str) -> None:
    manager.failure = ConfigError("line 7: no", "write yes")
    manager.failure.exit_code = 7
    with pytest.raises(SafekitError) as refusal:
        Client(path).call("config", "demo")
    assert (refusal.value.message, refusal.value.hint) == ("line 7: no", "write yes")
    assert refusal.value.exit_code == 7


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_a_disk_refuses_is_told_by_name_with_what_to_do(
    manager: FakeManager, path: str, number: int
) -> None:
    manager.failure = OSError(number, os.strerror(number), "/var/lib/x")
    with pytest.raises(SafekitError) as refusal:
        Client(path).call("config", "demo")
    assert refusal.value.message == f"/var/lib/x: {os.strerror(number)}"
    assert refusal.value.hint


def test_a_bug_is_logged_and_answered_in_one_line(
    manager: FakeManager, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager.failure = ZeroDivisionError("secret detail")
    with pytest.raises(SafekitError) as refusal:
        Client(path).call("config", "demo")
    assert refusal.value.message == "internal error of safeadmin: ZeroDivisionError"
    assert "secret detail" in caplog.text
    manager.failure = None
    assert Client(path).call("state", "demo")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"[]\n",
        b'{"verb":1}\n',
        b'{"verb":"state","module":"../x"}\n',
        b"\xff\xfe\n",
        b'{"verb":"action","module":"demo","args":{"action":"rm -rf"}}\n',
        b"[" * 5000 + b"\n",
    ],
)
def test_garbage_is_answered_and_the_connection_goes_on(path: str, line: bytes) -> None:
    with raw(path) as connection:
        connection.sendall(line)
        reply = decode_reply(line_of(connection))
        assert not reply.ok and reply.error and reply.exit_code == 1
        connection.sendall(b'{"verb":"modules"}\n')
        assert decode_reply(line_of(connection)).ok


def test_a_line_without_end_is_cut_off(path: str) -> None:
    with raw(path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * (MAX_REQUEST_BYTES * 3))
        reply = decode_reply(line_of(connection))
        assert reply.error == "the request is too long"
    assert Client(path).call("modules")


def test_clients_that_hang_harm_nobody(path: str) -> None:
    hung = [raw(path) for _ in range(50)]
    try:
        for connection in hung[::2]:
            connection.sendall(b'{"verb":"sta')
        began = time.monotonic()
        assert Client(path).call("state", "demo")
        assert time.monotonic() - began < 2.0
    finally:
        for connection in hung:
            connection.close()


def test_a_silent_client_is_dropped(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_S", 0.05)
    with raw(path) as connection:
        assert connection.recv(1) == b""


def test_too_many_clients_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)
    with raw(path) as one, raw(path) as two:
        for connection in (one, two):
            connection.sendall(b'{"verb":"modules"}\n')
            assert decode_reply(line_of(connection)).ok
        with pytest.raises(SafekitError, match="too many"):
            Client(path).call("modules")
    assert Client(path).call("modules")


def test_a_long_wish_does_not_block_the_others(manager: FakeManager, path: str) -> None:
    done: list[float] = []
    waiter = threading.Thread(
        target=lambda: done.append(
            Client(path).call("state.next", "demo", version=1, timeout_s=0.6).version
        )
    )
    began = time.monotonic()
    waiter.start()
    for _ in range(20):
        Client(path).call("action", "demo", action="stop")
    assert time.monotonic() - began < 0.6 and not done
    waiter.join(5)
    assert done == [1]


def test_commands_that_change_are_recorded_with_what_was_typed_by_whom_and_from_where(
    manager: FakeManager, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CLIENT", "10.0.0.7 50001 22")
    client = Client(path, ["stop", "-m", "demo", "\udcff"])
    client.call("action", "demo", action="stop")
    client.call("state", "demo")
    with pytest.raises(SafekitError):
        client.call("action", "nope", action="stop")
    typed = ["stop", "-m", "demo", "\\udcff", "-u", "root@10.0.0.7"]
    assert manager.commands == [
        ("START", "demo", typed),
        ("END", 1, 0),
        ("START", "nope", typed),
        ("END", 3, 1),
    ]


def test_a_look_at_the_counter_or_at_processes_is_no_change(
    manager: FakeManager, path: str
) -> None:
    """The command log has what changes the system (reference 15.6)."""
    kill = {"name": "x", "argregex": "", "caller": 1}
    Client(path).call("loop", "demo", change="check", identity="")
    Client(path).call("kill", level="test", **kill)
    assert not manager.commands
    Client(path).call("loop", "demo", change="inc", identity="")
    Client(path).call("kill", level="15", **kill)
    assert [each[0] for each in manager.commands] == ["START", "END"] * 2


def test_a_checker_that_sets_its_resource_fills_no_command_log(
    manager: FakeManager, path: str
) -> None:
    Client(path).call("resource.set", "demo", name="custom.x", value="up", identity="checker")
    Client(path).call("loop", "demo", change="inc", identity="checker")
    assert not manager.commands
    Client(path).call("resource.set", "demo", name="custom.x", value="up")
    assert [each[0] for each in manager.commands] == ["START", "END"]


@pytest.mark.parametrize(
    ("who", "origin", "shown"),
    [
        ("root", "", "root"),
        ("root", "10.0.0.7", "root@10.0.0.7"),
        ("anna", "fe80::1", "anna@fe80::1"),
        ("root", "10.0.0.7\n| forged", "root"),
        ("admin@10.0.0.9", "10.0.0.7", "admin@10.0.0.9"),
    ],
)
def test_an_address_is_shown_only_if_it_is_one(who: str, origin: str, shown: str) -> None:
    assert whence(who, origin) == shown


def test_a_dead_daemons_socket_is_replaced_a_living_ones_not(
    manager: FakeManager, path: str, tmp_path: Path
) -> None:
    with pytest.raises(LocalFault, match="another safeadmin"), serving(manager, path):
        pass
    assert Client(path).call("modules"), "the living one was left alone"
    stale = tmp_path / "run2" / "s"
    stale.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    with serving(manager, str(stale)):
        assert Client(str(stale)).call("modules")
    assert not stale.exists()


def test_the_folder_must_be_a_folder(manager: FakeManager, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(LocalFault, match="cannot open"), serving(manager, str(tmp_path / "run/s")):
        pass


def test_an_absent_daemon_is_waited_for_with_dots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with pytest.raises(DaemonAbsent) as absent:
        Client(str(tmp_path / "none"), wait_s=0.2).call("modules")
    assert 0.2 <= time.monotonic() - began < 2.0
    assert str(absent.value) == (
        "safeadmin administrator daemon not running (systemctl start safeadmin)"
    )
    assert capsys.readouterr().err == "Waiting for safeadmin .\n"


def test_a_daemon_that_comes_late_is_found(manager: FakeManager, tmp_path: Path) -> None:
    where = str(tmp_path / "run" / "s")
    answers: list[object] = []
    caller = threading.Thread(
        target=lambda: answers.append(Client(where, wait_s=5.0).call("modules"))
    )
    caller.start()
    time.sleep(0.15)
    with serving(manager, where):
        caller.join(5)
    assert answers


def test_a_daemon_that_dies_before_it_answers(tmp_path: Path) -> None:
    where = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(where)
        listener.listen()

        def accept_and_close() -> None:
            connection, _ = listener.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=accept_and_close)
        thread.start()
        with pytest.raises(DaemonAbsent, match="ended before it answered"):
            Client(where).call("modules")
        thread.join(5)


def test_an_answer_of_another_program_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(where)
        listener.listen()

        def answer_nonsense() -> None:
            for line in (b"220 hello\n", b'{"ok":true,"data":[{"module":7}]}\n'):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(line)
                connection.close()

        thread = threading.Thread(target=answer_nonsense)
        thread.start()
        with pytest.raises(RequestRefused, match="answer that is none"):
            Client(where).call("modules")
        with pytest.raises(RequestRefused, match="another version"):
            Client(where).call("modules")
        thread.join(5)


async def test_commands_wait_for_a_daemon_that_is_being_started(
    manager: FakeManager, tmp_path: Path
) -> None:
    where = str(tmp_path / "run" / "safeadmin.sock")
    server = AdminServer(manager, where)
    await server.start(hold=True)
    try:
        asked = asyncio.create_task(asyncio.to_thread(Client(where).call, "state", "demo"))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        server.open()
        assert (await asyncio.wait_for(asked, 5))[0].state == "PRIM"
    finally:
        await server.close()
