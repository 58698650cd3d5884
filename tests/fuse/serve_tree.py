"""Serve one tree, ALONE, until standard input ends: `serve_tree.py DIR DOOR [acl]`.

A process of its own, because whoever serves a mount must not use it.
"""

from __future__ import annotations

import os
import sys

from safepy.dataplane.gate import GateKeeper, boottime_s
from safepy.dataplane.primary import Primary
from safepy.dataplane.reading import ColdReader
from safepy.fuse.operations import Filesystem
from safepy.fuse.session import Session
from safepy.host import mounts
from safepy.host.loop import Loop
from safepy.model import Gate
from safepy.storage.backing import Tree


def main(directory: str, door: str, acl: bool) -> None:
    loop = Loop()
    tree = Tree(os.open(door, os.O_RDONLY | os.O_DIRECTORY), 0, acl)
    gate = GateKeeper()
    gate.open(Gate.ALONE, 1, boottime_s() + 3600)
    primary = Primary(loop, [tree], gate, lambda: primary.modified_recorded(), sys.exit)
    session = Session(directory, acl)
    session.mount()
    filesystem = Filesystem(session, 0, tree, primary, ColdReader(loop))

    def serve() -> None:
        if not session.serve(filesystem.handle):
            loop.remove_reader(session.fd)
            session.close()
            loop.stop()

    def order() -> None:
        word = os.read(0, 100)
        if word == b"detach\n":
            session.unmount(abort=False)
            return
        if not session.closed:
            loop.remove_reader(session.fd)
            session.unmount(abort=True)
        loop.stop()

    loop.add_reader(session.fd, serve)
    loop.add_reader(0, order)
    print("serving", flush=True)
    loop.run()
    print(f"ended, {len(mounts.stack(directory))} mounts left", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "acl" in sys.argv[3:])
