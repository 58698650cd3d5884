"""mknod, mkfifo and sockets."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import threading

from cases import effect, file, folder, look, on_both, on_each_path, tried, user

KINDS = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "file": stat.S_IFREG, "none": 0}
DEVICES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}


@on_both
def test_a_pipe_at_each_path() -> object:
    return on_each_path(os.mkfifo)


@on_both
def test_a_device_at_each_path() -> object:
    return on_each_path(lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)))


@on_both
def test_every_kind_mode_and_umask() -> object:
    results = []
    modes = (0o777, 0o6751, 0)
    for (name, kind), mode, umask in itertools.product((KINDS | DEVICES).items(), modes, (0, 0o27)):
        os.umask(umask)
        path = f"{name}-{mode:o}-{umask:o}"
        results += [tried(os.mknod, path, kind | mode, os.makedev(259, 70_000)), look(path)]
    for kind in (stat.S_IFDIR, stat.S_IFLNK, 0o170000):
        results.append(tried(os.mknod, "odd", kind | 0o644))
    return results


@on_both
def test_what_it_stamps() -> object:
    return [effect(os.mknod, name, kind | 0o644, watch=[".", name]) for name, kind in KINDS.items()]


@on_both
def test_who_may() -> object:
    folder("open", 0o777)
    folder("closed", 0o755)
    folder("set-group", 0o2777, 0, 4242)
    results = []
    with user():
        for parent in ("open", "closed", "set-group"):
            for name, kind in (KINDS | DEVICES).items():
                path = f"{parent}/{name}"
                results += [tried(os.mknod, path, kind | 0o2755, os.makedev(1, 3)), look(path)]
    return results


@on_both
def test_a_pipe_carries_bytes() -> object:
    os.mkfifo("pipe")
    said: list[bytes] = []

    def read() -> None:
        with open("pipe", "rb") as pipe:
            said.append(pipe.read())

    reader = threading.Thread(target=read)
    reader.start()
    with open("pipe", "wb") as pipe:
        pipe.write(b"through the pipe")
    reader.join(10)
    return said, look("pipe")


@on_both
def test_a_socket_is_reached_by_its_name() -> object:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    again = socket.socket(socket.AF_UNIX)
    results = [look("socket"), tried(again.bind, "socket"), tried(again.connect, "socket")]
    listener.listen()
    caller = socket.socket(socket.AF_UNIX)
    caller.connect("socket")
    accepted, _ = listener.accept()
    caller.send(b"hello")
    results.append(accepted.recv(9))
    os.rename("socket", "moved")
    results.append(tried(socket.socket(socket.AF_UNIX).connect, "moved"))
    os.unlink("moved")
    file("plain")
    return [*results, tried(socket.socket(socket.AF_UNIX).connect, "plain")]


@on_both
def test_a_device_is_the_device() -> object:
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod("zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    fd = os.open("null", os.O_RDWR)
    with open("zero", "rb") as zero:
        return os.write(fd, b"swallowed"), os.read(fd, 9), zero.read(5), look("null")
