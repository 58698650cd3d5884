"""Resources: their values, labels and history (12, 13.2)."""

from __future__ import annotations

import click

from safepy.cli.context import Command, app, identity_option
from safepy.cli.output import iso, moment, output_option, structured, table
from safepy.errors import RequestRefused

_HISTORY_LINES = 100


@click.command(cls=Command, example="safekit get -m AM -r rfs.uptodate")
@click.option("-r", "resource", required=True, metavar="CLASS.ID")
@output_option
def get(resource: str, form: str) -> None:
    """Print the value of a resource."""
    here = app()
    value: str = here.call("resource.get", here.module, name=resource)
    if form != "text":
        structured({"name": resource, "value": value}, form)
        return
    click.echo(value)


@click.command("set", cls=Command, example="safekit set -m AM -r custom.test -v up -i test")
@click.option("-r", "resource", required=True, metavar="CLASS.ID")
@click.option("-v", "value", required=True)
@click.option("-n", "silent", is_flag=True, help="Not in the history.")
@click.option("-l", "always", is_flag=True, help="In the history even if unchanged.")
@identity_option
def set_(resource: str, value: str, silent: bool, always: bool, identity: str) -> None:
    """Give a resource a value."""
    if silent and always:
        raise click.UsageError("-n and -l exclude each other")
    log = False if silent else True if always else None
    here = app()
    here.call("resource.set", here.module, name=resource, value=value, identity=identity, log=log)


@click.command(cls=Command, example="safekit resource -m AM -r rfs.uptodate")
@click.option("-r", "resource", default="", metavar="CLASS.ID", help="The history of this one.")
@click.option(
    "-s",
    "count",
    type=click.IntRange(1),
    default=_HISTORY_LINES,
    metavar="N",
    show_default=True,
    help="The last N assignments.",
)
@output_option
def resource(resource: str, count: int, form: str) -> None:
    """List the resources with their labels; with -r the history of one, newest last.

    Both are read from their file, so they can be read while the daemon is down.
    """
    if resource:
        _print_history(resource, count, form)
        return
    from safepy.core.labels import label
    from safepy.storage import resources

    path = str(app().files.resource_db)
    found = resources.read(path)
    if form != "text":
        rows = [
            {
                "name": each.name,
                "label": label(each.name),
                "value": each.value,
                "who": each.who,
                "date": iso(each.time_s),
            }
            for each in found
        ]
        structured({"resources": rows}, form)
        return
    cells = [(each.name, each.value, moment(each.time_s), label(each.name)) for each in found]
    for line in table(cells):
        click.echo(line)


def _print_history(name: str, count: int, form: str) -> None:
    from safepy.storage import resources

    path = str(app().files.resource_db)
    found = resources.history(path, name, count)[::-1]
    if not found and all(each.name != name for each in resources.read(path)):
        raise RequestRefused(
            f"module {app().module} has no resource {name}",
            f"safekit resource -m {app().module} shows them",
        )
    if form != "text":
        rows = [{"value": each.value, "who": each.who, "date": iso(each.time_s)} for each in found]
        structured({"name": name, "history": rows}, form)
        return
    for line in table([(moment(each.time_s), each.value, each.who) for each in found]):
        click.echo(line)


COMMANDS: list[click.Command] = [get, set_, resource]
