"""safeadmin: read the configuration, build the parts, one TaskGroup, signals."""

from __future__ import annotations

import argparse
import asyncio
import grp
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from safepy import __version__
from safepy.admin.server import AdminServer
from safepy.config.paths import Paths
from safepy.daemon import boot, logs, releasing, site
from safepy.daemon.manager import ModuleManager
from safepy.daemon.node import Node
from safepy.errors import SafekitError
from safepy.host.memory import keep_large_buffers
from safepy.host.notify import Notifier
from safepy.host.priority import prefer_this_process
from safepy.model import Snapshot
from safepy.web.probe import Probe

#: Who stops the modules when the service ends (reference 15.3).
AT_SHUTDOWN = "at shutdown"
STATUS_EVERY_S = 2.0
THREADS = 64
#: The users of this group may command safekit, if it exists (reference 3.1).
ADMIN_GROUP = "safekit"

log = logging.getLogger(__name__)


class _Stopped(Exception):
    """Ends the daemon's TaskGroup in the wanted way."""


class Daemon:
    """One run of safeadmin."""

    def __init__(self, paths: Paths, notifier: Notifier) -> None:
        self._paths = paths
        self._notifier = notifier
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM, then stop the modules in order. Raises SafekitError at a start that
        cannot succeed; a bug is raised as it is."""
        loop = asyncio.get_running_loop()
        # A thread that hangs in a broken disk must not keep the other modules from theirs.
        loop.set_default_executor(ThreadPoolExecutor(THREADS, "blocking"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        try:
            await self._work()
        except BaseExceptionGroup as group:
            rest = group.split(_Stopped)[1]
            if rest is None:
                return
            refused = rest.split(SafekitError)[0]
            # What an operator should read is shown as itself, without a stack trace.
            raise (rest if refused is None else _first(refused)) from None

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            node = Node(self._paths, tasks)
            manager = ModuleManager(node)
            probe = Probe(
                lambda name: _snapshot(node, name),
                lambda: site.probe_addresses(node.site),
                node.site.settings.probe_port,
            )
            node.on_site = probe.renew
            server = AdminServer(manager, str(self._paths.control_socket), _admin_group())
            # First the socket: a second daemon finds it taken before it touches anything.
            await server.start(hold=True)
            tasks.create_task(probe.run(), name="probe")
            tasks.create_task(self._tell_manager(node), name="notify")
            tasks.create_task(self._reloading(node), name="reload")
            await node.begin()
            server.open()
            self._notifier.ready()
            log.info("safeadmin %s is ready", __version__)
            await self._stop.wait()
            self._notifier.stopping()
            log.info("safeadmin stops")
            await node.stop_all(AT_SHUTDOWN, going_down=True)
            await server.close()
            await node.close()
            await asyncio.to_thread(manager.close)
            raise _Stopped

    async def _tell_manager(self, node: Node) -> None:
        """The watchdog is answered by this loop, the one that sends the heartbeats."""
        period_s = (self._notifier.watchdog_s or 2 * STATUS_EVERY_S) / 2
        shown = ""
        while True:
            self._notifier.alive()
            sentence = describe([module.snapshot for module in node])
            if sentence != shown:
                shown = sentence
                self._notifier.status(sentence)
            await asyncio.sleep(min(period_s, STATUS_EVERY_S))

    async def _reloading(self, node: Node) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            try:
                await node.reload()
                log.info("configuration read again")
            except SafekitError as error:
                log.error("nothing is changed: %s", error)


def describe(snapshots: Sequence[Snapshot]) -> str:
    """The states in one sentence, for `systemctl status`."""
    if not snapshots:
        return "no modules are configured"
    if len(snapshots) <= 5:
        return ", ".join(f"{each.module} {each.state} {each.status}" for each in snapshots)
    counts = Counter(str(each.state) for each in snapshots)
    return f"{len(snapshots)} modules: " + ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _snapshot(node: Node, name: str) -> tuple[Snapshot | None, str]:
    module = node.find(name)
    return (None, "") if module is None else (module.snapshot, module.ready_since.mark)


def _admin_group() -> str:
    try:
        grp.getgrnam(ADMIN_GROUP)
    except KeyError:
        return ""
    return ADMIN_GROUP


def main() -> None:
    """The command `safeadmin`. Exit code 0: stopped as asked; 1: cannot work; else a bug."""
    parser = argparse.ArgumentParser(prog="safeadmin", description="The safekit daemon.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--close-directories",
        action="store_true",
        help="only cover the directories of modules that were active at a crash, and end",
    )
    parser.add_argument(
        "--release-addresses",
        action="store_true",
        help="only remove virtual addresses that a safeadmin left behind, and end",
    )
    options = parser.parse_args()
    os.umask(0o022)
    paths = Paths.from_environment(os.environ)
    try:
        logs.set_up(site.load_settings(paths).log_level)
        if options.close_directories:
            closed = boot.close_directories(paths)
            sys.exit(0 if releasing.release_all(paths) and closed else 1)
        if options.release_addresses:
            sys.exit(0 if releasing.release_all(paths) else 1)
        prefer_this_process()
        # asyncio receives each datagram in a buffer of 256 KiB.
        keep_large_buffers()
        asyncio.run(Daemon(paths, Notifier()).run())
    except SafekitError as error:
        print(f"safeadmin: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
