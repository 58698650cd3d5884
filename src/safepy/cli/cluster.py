"""The cluster's configuration and key (13.8)."""

from __future__ import annotations

import os
import time

import click

from safepy.admin.values import ClusterInfo, ClusterModule
from safepy.cli.consent import confirm
from safepy.cli.context import Group, app, notes, paths, yes_option
from safepy.cli.output import iso, moment, output_option, structured, table
from safepy.cli.unsupported import FORMS, not_yet, refused
from safepy.errors import ConfigError

#: A cluster.xml is a page of text.
_FILE_BYTES_MAX = 128 * 1024


@click.group(cls=Group)
def cluster() -> None:
    """Nodes, lans and key of the cluster."""


@cluster.command("config", example="safekit cluster config /root/cluster.xml")
@click.argument("file", required=False)
@click.argument("lock", required=False)
@output_option
def config_(file: str | None, lock: str | None, form: str) -> None:
    """Apply FILE (a cluster.xml) on this node; without FILE, apply the active one again."""
    here = app()
    here.for_the_node()
    if lock or file in ("lock", "unlock"):
        not_yet(f"cluster config {lock or file}", FORMS["cluster config lock"])
    if file is None:
        told = here.call("cluster.config", content=None, source="the active cluster.xml")
    else:
        content = _document(file)
        told = here.call("cluster.config", content=content, source=os.path.abspath(file))
    notes(told, form)


@cluster.command(example="safekit cluster confcheck /root/cluster.xml")
@click.argument("file")
@output_option
def confcheck(file: str, form: str) -> None:
    """Check FILE without applying it."""
    here = app()
    here.for_the_node()
    content = _document(file)
    notes(here.call("cluster.confcheck", content=content, source=os.path.abspath(file)), form)
    if form == "text":
        click.echo("the cluster configuration is correct")


def _document(path: str) -> bytes:
    if path.endswith(".zip"):
        not_yet("cluster config FILE.zip", FORMS["cluster config FILE.zip"])
    try:
        with open(path, "rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} is longer than {_FILE_BYTES_MAX} bytes: no cluster.xml")
    return content


@cluster.command(example="safekit cluster genkey")
@click.option("--force", is_flag=True, help="Replace the key that is there.")
@yes_option
@output_option
def genkey(force: bool, yes: bool, form: str) -> None:
    """Make the cluster key and print its fingerprint."""
    here = app()
    here.for_the_node()
    if force:
        confirm("Every node of the cluster will need the new key", yes)
    fingerprint = here.call("cluster.genkey", force=force)
    if form != "text":
        structured({"fingerprint": fingerprint, "file": os.fspath(paths().cluster_key)}, form)
    else:
        click.echo(fingerprint)
    click.echo(
        f"copy {paths().cluster_key} to the same place on the other node (root, mode 0600)",
        err=True,
    )


@cluster.command(example="safekit cluster confinfo")
@output_option
def confinfo(form: str) -> None:
    """Signature, date and key fingerprint of this node's cluster configuration."""
    here = app()
    here.for_the_node()
    info: ClusterInfo = here.call("cluster.confinfo")
    if form != "text":
        shown = {
            "node": info.node,
            "nodes": list(info.nodes),
            "cluster_id": info.cluster_id,
            "signature": info.signature,
            "date": iso(info.date),
            "lock": info.lock,
            "key_fingerprint": info.fingerprint,
        }
        structured(shown, form)
        return
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(info.date)) if info.date else "-"
    rows = [
        ("Node", "Signature", "Date", "Lock"),
        (info.node or "-", info.signature or "-", when, "1" if info.lock else "0"),
    ]
    for line in table(rows):
        click.echo(line)
    click.echo(f"Key fingerprint: {info.fingerprint or 'none (safekit cluster genkey)'}")


@cluster.command(example="safekit cluster deconfig --yes")
@yes_option
def deconfig(yes: bool) -> None:
    """Remove the cluster configuration and the key from this node."""
    here = app()
    here.for_the_node()
    confirm("The cluster configuration and the cluster key of this node are removed", yes)
    here.call("cluster.deconfig")


@cluster.command(example="safekit cluster state")
@output_option
def state(form: str) -> None:
    """Modules of this node with the dates and signatures of their configurations."""
    here = app()
    here.for_the_node()
    rows: list[ClusterModule] = here.call("cluster.state")
    if form != "text":
        objects = [
            {
                "node": row.node,
                "module": row.module,
                "mode": row.mode,
                "id": row.id,
                "date": iso(row.date),
                "signature": row.signature,
            }
            for row in rows
        ]
        structured({"modules": objects}, form)
        return
    cells = [("Node", "Module", "Mode", "Id", "Date", "Signature")]
    cells += [
        (row.node, row.module, row.mode, str(row.id), moment(row.date), row.signature or "-")
        for row in rows
    ]
    for line in table(cells):
        click.echo(line)


for _form in ("delkey", "create"):
    cluster.add_command(refused(f"cluster {_form}"))


COMMANDS: list[click.Command] = [cluster]
