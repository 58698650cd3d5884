"""The command line of `scripts/lab`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from .lab import Lab
from .node import ENVIRONMENT
from .procs import LabError

ON_A_NODE = {
    "power-cut": "cut the power: every process of the node dies at once, its disks stay",
    "power-on": "give power again; returns when the node has booted",
    "reboot": "orderly reboot from inside; returns when the node has booted",
    "freeze": "stop every process of the node where it is",
    "thaw": "let them go on",
}
ON_A_CABLE = {"cut": "pull a cable (all cables if no lan is named)", "heal": "plug it in again"}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab", description="A cluster of real hosts, by hand.")
    top.add_argument("--name", default="lab", help="several labs stand side by side by name")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    up = verbs.add_parser("up", help="raise nodes n1, n2, ... with safepy on them")
    up.add_argument("--nodes", type=int, default=2, metavar="N")
    up.add_argument("--lans", type=int, default=2, metavar="L")
    up.add_argument("--plain", action="store_true", help="nodes without safepy")
    verbs.add_parser("down", help="end and remove the lab")
    listing = verbs.add_parser("list", help="name, state, leader process, root, addresses")
    listing.add_argument("-o", dest="output", choices=["text", "json"], default="text")
    inside = verbs.add_parser("exec", help="run a command in a node: exec NODE -- COMMAND...")
    inside.add_argument("node")
    inside.add_argument("command", nargs=argparse.REMAINDER)
    client = verbs.add_parser("client", help="run a command on a host that is no node")
    client.add_argument("command", nargs=argparse.REMAINDER)
    for verb, meaning in ON_A_NODE.items():
        verbs.add_parser(verb, help=meaning).add_argument("node")
    for verb, meaning in ON_A_CABLE.items():
        cable = verbs.add_parser(verb, help=meaning)
        cable.add_argument("node")
        cable.add_argument("lan", nargs="?")
    return top


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        return _carry_out(Lab(arguments.name), arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _carry_out(lab: Lab, arguments: argparse.Namespace) -> int:
    verb = arguments.verb
    if verb == "up":
        lab.up(arguments.nodes, arguments.lans, product=not arguments.plain)
        _list(lab, "text")
    elif verb == "down":
        lab.down()
    elif verb == "list":
        _list(lab, arguments.output)
    elif verb == "exec":
        node = lab[arguments.node]
        terminal = {"TERM": os.environ.get("TERM", "dumb")}
        _become(node.entering(_command(arguments), terminal), dict(os.environ))
    elif verb == "client":
        _become(lab.on_client(_command(arguments)), os.environ | {"PATH": ENVIRONMENT["PATH"]})
    elif verb in ON_A_CABLE:
        node = lab[arguments.node]
        (node.cut if verb == "cut" else node.heal)(arguments.lan)
    else:
        node = lab[arguments.node]
        getattr(node, verb.replace("-", "_"))()
        if verb == "power-on":
            node.wait_booted()
    return 0


def _command(arguments: argparse.Namespace) -> list[str]:
    command: list[str] = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise LabError(f"{arguments.verb}: no command given")
    return command


def _become(argv: list[str], environment: dict[str, str]) -> None:
    """Replace this process: output, signals and the exit code pass through by themselves."""
    sys.stdout.flush()
    os.execvpe(argv[0], argv, environment)


def _list(lab: Lab, output: str) -> None:
    described = lab.describe()
    if output == "json":
        print(json.dumps(described, indent=2))
        return
    for node in described:
        addresses = node["addresses"]
        assert isinstance(addresses, dict)
        listed = " ".join(f"{lan}={address}" for lan, address in addresses.items())
        leader = node["leader"] or "-"
        print(f"{node['name']:<4} {node['state']:<8} {leader!s:<8} {node['root']}  {listed}")
