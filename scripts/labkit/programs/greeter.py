"""Says its host's name to everybody who connects, and then keeps the connection."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading


def main(port: int) -> None:
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            threading.Thread(target=keep, args=(server.accept()[0],), daemon=True).start()


def keep(link: socket.socket) -> None:
    with link, contextlib.suppress(OSError):
        link.sendall(f"{socket.gethostname()}\n".encode())
        while link.recv(4096):
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
