"""Installing and configuring modules (13.4)."""

from __future__ import annotations

import os

import click

from safepy.admin.names import check_path
from safepy.admin.values import ConfigurationInfo, ModuleInfo, Ports, Signature
from safepy.cli.consent import confirm, consent
from safepy.cli.context import Command, Group, app, notes, yes_option
from safepy.cli.output import iso, moment, output_option, structured, table
from safepy.cli.unsupported import refused
from safepy.errors import RequestRefused


@click.group(cls=Group)
def module() -> None:
    """Install, list and package modules."""


@module.command(example="safekit module install -m AM mirror.safe")
@click.option("-M", "module_id", type=click.IntRange(1, 999), help="Impose the module's id.")
@click.option("-r", "replace", is_flag=True, help="Install over a module of that name.")
@click.argument("source", required=False, default="", metavar="[FILE-OR-FOLDER]")
@output_option
def install(module_id: int | None, replace: bool, source: str, form: str) -> None:
    """Install a .safe file or an unpacked folder under the name AM.

    A name that is no path is searched below SAFE/Application_Modules; without any, AM.safe is.
    """
    here = app()
    if source and os.path.exists(source):
        source = os.path.abspath(source)
    given = here.call(
        "module.install", here.module, source=source, module_id=module_id, replace=replace
    )
    if form != "text":
        structured({"module": here.module, "id": given}, form)
        return
    click.echo(f"module {here.module} is installed with id {given}")


@module.command(example="safekit module uninstall -m AM")
@yes_option
def uninstall(yes: bool) -> None:
    """Deconfigure the module and remove it; a backup is kept, its data is not touched."""
    here = app()
    consent("uninstall", yes)
    confirm(f"Module {here.module} and its configuration are removed", yes)
    here.call("module.uninstall", here.module)


@module.command(example="safekit module package -m AM /root/AM.safe")
@click.argument("target", metavar="/ABS/NEW.safe")
def package(target: str) -> None:
    """Make a .safe file from the installed module."""
    check_path(target)
    here = app()
    here.call("module.package", here.module, path=target)


def _installed() -> list[ModuleInfo]:
    rows: list[ModuleInfo] = app().call("modules")
    return rows


@module.command("list", example="safekit module list")
@output_option
def list_(form: str) -> None:
    """Names of the installed modules."""
    rows = _installed()
    if form != "text":
        structured({"modules": [_module_object(row) for row in rows]}, form)
        return
    for row in rows:
        click.echo(row.module)


@module.command(example="safekit module listid")
@output_option
def listid(form: str) -> None:
    """Names and ids of the installed modules."""
    rows = _installed()
    if form != "text":
        structured({"modules": [_module_object(row) for row in rows]}, form)
        return
    for line in table([(row.module, str(row.id)) for row in rows]):
        click.echo(line)


def _module_object(row: ModuleInfo) -> dict[str, object]:
    return {
        "module": row.module,
        "id": row.id,
        "mode": row.mode,
        "configured": row.configured,
        "signature": row.digest,
        "config_date": iso(row.config_date),
        "boot": row.boot,
        "state": row.state,
        "status": row.status,
    }


@module.command(example="safekit module getports -m AM")
@click.option("-i", "module_id", type=click.IntRange(1, 999), help="Of the module with this id.")
@output_option
def getports(module_id: int | None, form: str) -> None:
    """Ports that must be open between the nodes."""
    here = app()
    name = here.module if module_id is None else _named(module_id)
    ports: Ports = here.call("ports", name)
    rows = [
        ("safeadmin", "port UDP", ports.safeadmin),
        ("webconsole", "port TCP", ports.webconsole),
    ]
    if ports.heart is not None:
        rows.append(("heart", "port UDP", ports.heart))
    if ports.rfs is not None:
        rows.append(("rfs", "safenfs_port TCP", ports.rfs))
    if form != "text":
        structured(
            {name: {"protocol": text[-3:], "port": number} for name, text, number in rows}, form
        )
        return
    click.echo("List of the ports used by SafeKit\nProcess Ports")
    for name, text, number in rows:
        click.echo(f"{name}\n{text} {number}")


def _named(module_id: int) -> str:
    """The module with this id. Raises RequestRefused."""
    for row in _installed():
        if row.id == module_id:
            return row.module
    raise RequestRefused(f"no module has the id {module_id}", "safekit module listid")


for _form in ("genkey", "delkey"):
    module.add_command(refused(f"module {_form}"))


@click.command(cls=Command, example="safekit config -m AM")
@output_option
def config(form: str) -> None:
    """Check SAFE/modules/AM and make it the active configuration."""
    here = app()
    notes(here.call("config", here.module), form)


@click.command(cls=Command, example="safekit confcheck -m AM")
@output_option
def confcheck(form: str) -> None:
    """Check SAFE/modules/AM without applying it."""
    here = app()
    notes(here.call("confcheck", here.module), form)
    if form == "text":
        click.echo("the configuration is correct")


@click.command(cls=Command, example="safekit confinfo -m AM")
@output_option
def confinfo(form: str) -> None:
    """Signature and date of the active and of the edited configuration."""
    here = app()
    info: ConfigurationInfo = here.call("confinfo", here.module)
    found = {"active": info.active, "current": info.current}
    if form != "text":
        structured({name: _signature_object(one) for name, one in found.items()}, form)
        return
    rows = [
        (name, one.signature, str(int(one.date)), moment(one.date))
        if one
        else (name, "-", "-", "-")
        for name, one in found.items()
    ]
    for line in table(rows):
        click.echo(line)


def _signature_object(one: Signature | None) -> dict[str, object] | None:
    if one is None:
        return None
    return {"signature": one.signature, "date": iso(one.date), "date_unix_s": int(one.date)}


@click.command(cls=Command, example="safekit deconfig -m AM")
@yes_option
def deconfig(yes: bool) -> None:
    """Remove the active configuration; the module stays installed, its data is not touched."""
    here = app()
    consent("deconfig", yes)
    confirm(f"The active configuration of {here.module} is removed", yes)
    here.call("deconfig", here.module)


COMMANDS: list[click.Command] = [module, config, confcheck, confinfo, deconfig]
