"""Virtual addresses without the daemon: taken away when it has died, and what the generated
wrappers of a module do while it is stopped (reference: userconfig 1.1).

`python -m safepy.daemon.releasing set|remove AM` is the wrappers' part.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from safepy.admin.client import Client
from safepy.checkers.ip import probe
from safepy.config.module import is_configured
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import ModuleConfig
from safepy.daemon.addresses import Order, orders
from safepy.daemon.boot import config_of, for_each_configured
from safepy.errors import DaemonAbsent, LocalFault, RequestRefused, SafekitError
from safepy.host import virtualip
from safepy.model import Active, Snapshot, State
from safepy.storage.record import RecordFile

#: A daemon that does not answer at once is asked no further: it may be the reason for all this.
_ANSWER_S = 5.0

log = logging.getLogger(__name__)


def release_all(paths: Paths) -> bool:
    """No virtual address of any configured module is on this node: for a moment at which no daemon
    runs, after a crash of it or of the node. True: all went well. Blocks."""

    def release(module: ModulePaths, config: ModuleConfig) -> None:
        if config.vip is not None:
            for _, text in orders(config.vip, module.state_dir).remove():
                log.warning("%s: %s", module.name, text)

    return for_each_configured(paths, release)


# -- wrappers --------------------------------------------------------------------------------------

_START = """\
#!/bin/sh
# Made by `safekit config`: starts the application of {module} by hand, with its virtual addresses.
# Only while the module is stopped on every node: nothing is replicated meanwhile.
{environment}
{python} -m safepy.daemon.releasing set {module} || exit 1
cd "$SAFEUSERBIN" || exit 1
for script in {start}; do
    [ ! -x "./$script" ] || "./$script" {started} || exit 1
done
"""
_STOP = """\
#!/bin/sh
# Made by `safekit config`: undoes what {module}_start_wrapper.sh did.
{environment}
cd "$SAFEUSERBIN" || exit 1
for script in {stop}; do
    [ ! -x "./$script" ] || "./$script" {stopped}
done
exec {python} -m safepy.daemon.releasing remove {module}
"""


def wrappers(
    module: ModulePaths, config: ModuleConfig, environment: Sequence[tuple[str, str]]
) -> dict[str, bytes]:
    """The two scripts by name. `environment`: what module scripts are told."""
    light = config.mode == "light"
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment)
    values = {
        "module": module.name,
        "environment": exports,
        "python": shlex.quote(sys.executable),
        "start": "start_both" if light else "start_both start_prim",
        "stop": "stop_both" if light else "stop_prim stop_both",
        "started": "WAIT UP start" if light else "WAIT ALONE start",
        "stopped": "UP WAIT stop" if light else "ALONE WAIT stop",
    }
    return {
        f"{module.name}_start_wrapper.sh": _START.format(**values).encode(),
        f"{module.name}_stop_wrapper.sh": _STOP.format(**values).encode(),
    }


def by_hand(paths: Paths, name: str, wanted: str) -> None:
    """Set or remove the virtual addresses of a module that is stopped. Raises SafekitError."""
    module = paths.module(name)
    if not is_configured(module):
        raise RequestRefused(f"module {name} is not configured", f"safekit config -m {name}")
    _require_stopped(paths, module)
    vip = config_of(module).vip
    if vip is None:
        return
    order = orders(vip, module.state_dir)
    try:
        if wanted == "set":
            _require_free(order)
            order.set()
        else:
            for _, text in order.remove():
                print(text, file=sys.stderr)
    except OSError as error:
        raise LocalFault(f"virtual address of {name}: {error.strerror or error}") from error


def _require_stopped(paths: Paths, module: ModulePaths) -> None:
    """Nothing but the module itself may touch its addresses while it runs, here or there."""
    stop = f"safekit stop -m {module.name}"
    try:
        client = Client(str(paths.control_socket), wait_s=0.0, answer_s=_ANSWER_S)
        (shown,) = client.call("state", module.name)
    except DaemonAbsent:
        if RecordFile(str(module.record)).load().active is not Active.NONE:
            raise RequestRefused(
                f"module {module.name} was running when the daemon ended",
                "systemctl start safeadmin; then stop the module",
            ) from None
        return
    assert isinstance(shown, Snapshot)
    if shown.state is not State.STOP:
        raise RequestRefused(f"module {module.name} is {shown.state}: only in STOP", stop)
    if shown.peer_state in (State.ALONE, State.PRIM):
        text = f"module {module.name} is {shown.peer_state} on {shown.peer}, which has the address"
        raise RequestRefused(text, f"{stop} there")


def _require_free(order: Order) -> None:
    for wanted in order.wanted:
        name = virtualip.interface_for(wanted)
        if not virtualip.is_here(wanted.address):
            other = asyncio.run(probe(name, wanted.address))
            if other:
                raise RequestRefused(f"another host has {wanted.address}: {other}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="safepy.daemon.releasing", description=by_hand.__doc__)
    parser.add_argument("wanted", choices=("set", "remove"))
    parser.add_argument("module")
    options = parser.parse_args(argv)
    try:
        by_hand(Paths.from_environment(os.environ), options.module, options.wanted)
    except SafekitError as error:
        print(f"safekit: {error}", file=sys.stderr)
        return error.exit_code or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
